"""What users looked at before each decision: weights by value of each axis, for portraits and packed affinities.

Shapes: D decisions · A axes of the taxonomy · n values of an axis that a decision's user looked at.
"""

from collections.abc import Mapping
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S
from recommender.features.look_weights import LookWeights
from recommender.features.source import Source
from recommender.features.vectors import bounds_of
from recommender.matching.affinity import AXES
from recommender.matching.looks import LOOK_UNIT, LOOKED, Looks

FARTHEST_HALVES = 8.0
"""Looks older than so many half-lives count nothing: under 1/256 of a fresh one."""


def has_looks(source: Source, weights: LookWeights) -> bool:
    """Whether any user looked at an item before `as_of`."""
    return bool(_looks(source, weights).limit(1).count().to_pyarrow().as_py())


def _looks(source: Source, weights: LookWeights) -> Any:
    events = source.events.filter(source.events.kind.isin(list(weights.weight)), source.events.item_id.notnull())
    return events.filter(events.event_time < source.as_of)


def looks_by_axis(source: Source, decided: pa.Table, weights: LookWeights) -> list[pa.Table]:
    """Weigh what each decision's user looked at before, by the values of each axis.

    Returns:
        A table for each axis with decision, value (its index) and weight (in 1/4096), sorted by decision and value.
    """
    events = _looks(source, weights)
    axes = ibis.memtable(source.taxonomy.table())
    moments = ibis.memtable(decided)
    seen = events.select("user_id", "kind", "event_time", "time_s", "item_id").inner_join(moments, "user_id")
    seen = seen.filter(seen.event_time < seen.decided_at).inner_join(axes, "item_id")
    halves: Any = (seen.decided_at.epoch_seconds() - seen.time_s) / DAY_S / _of_kind(seen.kind, weights.half_life_days)
    weight = _of_kind(seen.kind, weights.weight) * (halves * -float(np.log(2))).exp() * LOOK_UNIT
    seen = seen.mutate(weight=weight.round().cast("int64"), halves=halves)
    seen = seen.filter(seen.halves <= FARTHEST_HALVES, seen.weight > 0)
    by_item = seen.group_by("decision", "item_row").agg(weight=seen.weight.sum()).cache()
    by_item_axes = by_item.inner_join(ibis.memtable(source.taxonomy.table().drop_columns(["item_id"])), "item_row")
    tables = []
    for axis in AXES:
        rows = by_item_axes.mutate(value=by_item_axes.item_row if axis == "product" else by_item_axes[axis])
        rows = rows.filter(rows.value > 0)
        summed = rows.group_by("decision", "value").agg(weight=rows.weight.sum())
        tables.append(summed.order_by("decision", "value").to_pyarrow())
    return tables


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
        )
        packed.append(affinity + looks.pack())
    return packed


def _of_kind(kind: Any, values: Mapping[str, float]) -> Any:
    return kind.cases(*values.items(), else_=0.0)
