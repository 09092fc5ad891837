"""What users looked at before each decision: weights by value of each axis, for portraits and packed affinities.

Shapes: D decisions · A axes of the taxonomy · n values of an axis that a decision's user looked at.
"""

from collections.abc import Mapping
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S
from recommender.features.look_events import item_looks, search_looks
from recommender.features.look_weights import LookWeights
from recommender.features.source import TIME_TYPE, Source, whole_seconds
from recommender.features.vectors import bounds_of
from recommender.matching.affinity import AXES
from recommender.matching.look_rules import FARTHEST_HALVES, KINDS, LOOK_UNIT, STRENGTH_UNIT, LookRules
from recommender.matching.looks import LOOKED, Looks
from recommender.matching.single_looks import ITEM, MOST_SINGLE, SINGLE


def has_looks(source: Source, weights: LookWeights) -> bool:
    """Whether the source has any look at an item, or a search that means anything, before `as_of`."""
    return any(_has_rows(table) for table in _before_as_of(source, weights))


def looks_by_axis(source: Source, decided: pa.Table, weights: LookWeights) -> list[pa.Table]:
    """Weigh what each decision's user looked at before, by the values of each axis.

    A value whose looks and bad reviews sum to zero or less has no row.

    Returns:
        A table for each axis with decision, value (its index) and weight (in 1/4096), sorted by decision and value.
        The last table has the single looks of decisions at `as_of`, which serving gets (`_single_looks`).
    """
    looks, searched = _before_as_of(source, weights)
    axes, moments = source.taxonomy.table(), ibis.memtable(decided)
    seen = _weighed(looks.inner_join(moments, "user_id"), weights.rules).inner_join(ibis.memtable(axes), "item_id")
    by_item = seen.group_by("decision", "item_row").agg(weight=seen.weight.sum()).cache()
    by_item_axes = by_item.inner_join(ibis.memtable(axes.drop_columns(["item_id"])), "item_row")
    by_value = None
    if searched is not None:
        asked = _weighed(searched.inner_join(moments, "user_id"), weights.rules)
        by_value = asked.group_by("decision", "axis", "value").agg(weight=asked.weight.sum()).cache()
    tables = []
    for axis, name in enumerate(AXES):
        rows = by_item_axes.mutate(value=by_item_axes.item_row if name == "product" else by_item_axes[name])
        rows = rows.select("decision", "value", "weight")
        if by_value is not None:
            own = by_value.filter(by_value.axis == axis).select("decision", "value", "weight")
            rows = rows.cast(dict(own.schema())).union(own)
        rows = rows.filter(rows["value"] > 0)
        summed = rows.group_by("decision", "value").agg(weight=rows.weight.sum())
        tables.append(summed.filter(summed.weight > 0).order_by("decision", "value").to_pyarrow())
    return [*tables, _single_looks(source, looks, searched, moments, weights.rules)]


def _single_looks(
    source: Source, looks: ir.Table, searched: ir.Table | None, moments: ir.Table, rules: LookRules
) -> pa.Table:
    """The looks that count at decisions at `as_of`, one by one: decision, and the columns of `single_looks.SINGLE`.

    A decision with more than `MOST_SINGLE` has none.
    """
    now = moments.filter(moments.decided_at == ibis.literal(source.as_of, TIME_TYPE))
    columns = ("decision", "kind", "axis", "value", "strength", "time_s")
    rows_of = ibis.memtable(source.taxonomy.table().select(["item_id", "item_row"]))
    at_items = _weighed(looks.inner_join(now, "user_id"), rules).inner_join(rows_of, "item_id")
    at_items = at_items.mutate(axis=ibis.literal(ITEM), value=at_items.item_row)
    parts = [at_items]
    if searched is not None:
        parts.append(_weighed(searched.inner_join(now, "user_id"), rules))
    types = {"decision": "int64", "axis": "int64", "value": "int64", "strength": "int64", "time_s": "int64"}
    rows = ibis.union(*(part.select(*columns).cast(types) for part in parts))
    found = rows.order_by(*columns).to_pyarrow()
    most = np.bincount(found["decision"].to_numpy())[found["decision"].to_numpy()] <= MOST_SINGLE
    return found.filter(pa.array(most))


def _before_as_of(source: Source, weights: LookWeights) -> tuple[ir.Table, ir.Table | None]:
    """Looks at items, and searches if any means anything."""
    now = ibis.literal(source.as_of, TIME_TYPE)
    looks = item_looks(source, weights.rules, weights.texts).filter(lambda table: table.event_time < now)
    searched = search_looks(source, weights.searches)
    return looks, None if searched is None else searched.filter(searched.event_time < now)


def _weighed(seen: ir.Table, rules: LookRules) -> ir.Table:
    """Looks of users joined with their decisions, with `weight`: what each counts then, as `single_looks.weighed`."""
    seen = seen.filter(seen.event_time < seen.decided_at)
    halves: Any = (whole_seconds(seen.decided_at) - seen.time_s) / DAY_S / _of_kind(seen.kind, rules.half_life_days)
    weight = _of_kind(seen.kind, rules.weight) * (seen.strength / STRENGTH_UNIT)
    weight = weight * (halves * -float(np.log(2))).exp() * LOOK_UNIT
    seen = seen.mutate(weight=weight.round().cast("int64"), halves=halves)
    return seen.filter(seen.halves <= FARTHEST_HALVES, seen.weight != 0)


def _has_rows(table: ir.Table | None) -> bool:
    return table is not None and bool(table.limit(1).count().to_pyarrow().as_py())


def portrait_column(tables: list[pa.Table] | None, num_decisions: int) -> dict[str, NDArray[np.float32]]:
    """The sum of a user's weights, float32 [D], by the feature's name. Empty where the source has no looks."""
    if tables is None:
        return {}
    rows, weights = tables[0]["decision"].to_numpy(), tables[0]["weight"].to_numpy().astype(np.float64)
    return {LOOKED: (np.bincount(rows, weights=weights, minlength=num_decisions) / LOOK_UNIT).astype(np.float32)}


def behind(affinities: list[bytes], tables: list[pa.Table]) -> list[bytes]:
    """Put the packed looks of each decision behind its packed affinity. A user without looks keeps the same bytes."""
    most = np.iinfo(np.uint32).max
    axes = []
    *tables, single = tables
    single_bounds, single_R = bounds_of(single, len(affinities)), _structured(single)
    for table in tables:
        bounds = bounds_of(table, len(affinities))
        values = table["value"].to_numpy().astype(np.int32)
        axes.append((bounds, values, np.minimum(table["weight"].to_numpy(), most).astype(np.uint32)))
    packed = []
    for d, affinity in enumerate(affinities):
        cuts = [slice(int(bounds[d]), int(bounds[d + 1])) for bounds, _, _ in axes]
        looks = Looks(
            tuple(values[cut] for cut, (_, values, _) in zip(cuts, axes, strict=True)),
            tuple(weights[cut] for cut, (_, _, weights) in zip(cuts, axes, strict=True)),
            single_R[single_bounds[d] : single_bounds[d + 1]],
        )
        packed.append(affinity + looks.pack())
    return packed


def _structured(table: pa.Table) -> NDArray[np.void]:
    out = np.zeros(len(table), dtype=SINGLE)
    for name in ("axis", "value", "strength", "time_s"):
        out[name] = table[name].to_numpy()
    out["kind"] = [KINDS.index(kind) for kind in table["kind"].to_pylist()]
    return out


def _of_kind(kind: Any, values: Mapping[str, float]) -> Any:
    return kind.cases(*values.items(), else_=0.0)
