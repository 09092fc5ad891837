"""Vectors of a user: what was bought on every axis of the taxonomy, the last baskets, and the interest that both show.

Shapes: D decisions · A axes of the taxonomy · n values of an axis that a decision's user has bought.
"""

from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.features.decisions import past
from recommender.features.source import Source, Taxonomy
from recommender.features.value_names import ValueNames
from recommender.matching import examples
from recommender.matching.affinity import AXES, MEASURES, UserAffinity, pack_user, type_code
from recommender.matching.open_campaigns import OpenCampaigns, campaign_code

MAX_DEPARTMENTS = 12
"""Most departments with a separate feature, those with the most items. Chosen by hand."""
PRIVATE_BRANDS = ("private", "private label", "own brand", "自有品牌")
"""Brand names, in lower case, that mean a shop's own brand. `private` is Complete Journey's. The last is Chinese."""
_COUNTED = (*MEASURES, "cents")


def purchases_by_axis(source: Source, decided: pa.Table) -> list[pa.Table]:
    """Sum what each decision's user bought before, by the values of each axis.

    Returns:
        A table for each axis with decision, value (its index), the counts `MEASURES` and cents, sorted by decision and
        value.
    """
    lines = past(source.lines.filter(source.lines.item_row > 0), decided)
    discounted, coupon = lines.discount_cents > 0, lines.coupon_cents > 0
    # A season and a month, as in `purchases.WINDOWS`.
    within_90, within_30 = lines.age_days <= 90, lines.age_days <= 30
    flags = dict(zip(MEASURES, (None, discounted, coupon, within_90, within_30, coupon & within_90), strict=True))
    counts = {name: lines.count() if flag is None else flag.cast("int64").sum() for name, flag in flags.items()}
    by_item = lines.group_by("decision", "item_row").agg(**counts, cents=lines.cents.sum()).cache()
    axes = ibis.memtable(source.taxonomy.table().drop_columns(["item_id"]))
    by_item_axes = by_item.inner_join(axes, "item_row")
    tables = []
    for axis in AXES:
        value = by_item_axes.item_row if axis == "product" else by_item_axes[axis]
        rows = by_item_axes.mutate(value=value)
        rows = rows.filter(rows.value > 0)
        # Money needs 64 bits: 25 million rupiah in hundredths do not fit into 31.
        types = {**dict.fromkeys(MEASURES, "int32"), "cents": "int64"}
        summed = rows.group_by("decision", "value").agg(
            **{name: rows[name].sum().cast(types[name]) for name in _COUNTED}
        )
        tables.append(summed.order_by("decision", "value").to_pyarrow())
    return tables


def pack_affinities(
    tables: list[pa.Table],
    types: pa.Table,
    months_D: NDArray[np.float64],
    taxonomy_version: str,
    *,
    own: pa.Table,
    columns_H: NDArray[np.uint16],
    habits_OH: NDArray[np.float32],
) -> list[bytes]:
    """Pack the `affinity` value of each decision.

    Args:
        tables: what `purchases_by_axis` returned.
        types: what `campaign_habits.habits_by_type` returned.
        months_D: length of each user's known history in months of 30 days.
        taxonomy_version: version of the taxonomy whose indices the tables hold.
        own: what `campaign_habits.open_campaigns` returned.
        columns_H: places in the portrait of the features about campaigns.
        habits_OH: their values without the campaign of each row of `own`.
    """
    num_decisions = len(months_D)
    own_bounds = _bounds(own, num_decisions)
    own_codes = np.array([campaign_code(name) for name in own["campaign_id"].to_pylist()], dtype=np.uint32)
    own_times = own["targeted_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    counted, own_redeemed = _uint16_column(own, "counted"), _uint16_column(own, "redeemed")
    axes = [(_bounds(table, num_decisions), *_arrays(table)) for table in tables]
    type_bounds = _bounds(types, num_decisions)
    codes = np.array([type_code(name) for name in types["campaign_type"].to_pylist()], dtype=np.uint32)
    targeted, redeemed = _uint16_column(types, "targeted"), _uint16_column(types, "redeemed")
    packed = []
    for d in range(num_decisions):
        cuts = [slice(bounds[d], bounds[d + 1]) for bounds, *_ in axes]
        type_cut = slice(type_bounds[d], type_bounds[d + 1])
        own_cut = slice(int(own_bounds[d]), int(own_bounds[d + 1]))
        user = UserAffinity(
            months=float(months_D[d]),
            values=tuple(values[cut] for cut, (_, values, _, _) in zip(cuts, axes, strict=True)),
            counts=tuple(counts[:, cut] for cut, (_, _, counts, _) in zip(cuts, axes, strict=True)),
            cents=tuple(cents[cut] for cut, (_, _, _, cents) in zip(cuts, axes, strict=True)),
            types=codes[type_cut],
            targeted=targeted[type_cut],
            redeemed=redeemed[type_cut],
            open=OpenCampaigns(
                codes_O=own_codes[own_cut],
                targeted_us_O=own_times[own_cut],
                counted_O=counted[own_cut],
                redeemed_O=own_redeemed[own_cut],
                columns_H=columns_H,
                habits_OH=habits_OH[own_cut],
            ),
        )
        packed.append(pack_user(user, taxonomy_version))
    return packed


def pack_histories(source: Source, decided: pa.Table, baskets: ir.Table, taxonomy_version: str) -> list[bytes]:
    """Pack the `history` value of each decision: its user's last baskets, with the lines bought before the decision.

    Args:
        source: the tables.
        decided: what `decisions.decisions` returned.
        baskets: what `purchases.baskets` returned.
        taxonomy_version: version of the taxonomy whose item rows the value holds.
    """
    latest_first = [baskets.time.desc(), baskets.basket.desc()]
    ranked = baskets.select(
        "decision",
        "basket",
        "time",
        "cents",
        rank=ibis.row_number().over(group_by=baskets.decision, order_by=latest_first),
    )
    ranked = ranked.filter(ranked["rank"] < examples.MAX_BASKETS)
    heads = ranked.order_by("decision", "time", "basket").to_pyarrow()
    lines = past(source.lines, decided).select("decision", "basket", "item_row")
    kept = lines.inner_join(ranked, ["decision", "basket"]).select("decision", "time", "basket", "item_row")
    items = (
        kept.order_by("decision", "time", "basket", "item_row").select("decision", "basket", "item_row").to_pyarrow()
    )
    items_T = items["item_row"].to_numpy().astype(np.int32)
    line_bounds, basket_bounds = _bounds(items, decided.num_rows), _bounds(heads, decided.num_rows)
    times = heads["time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    spend = (heads["cents"].to_numpy() / source.minor_units).astype(np.float32)
    counts = _run_lengths(items, heads.num_rows)
    packed = []
    for d in range(decided.num_rows):
        cut = slice(basket_bounds[d], basket_bounds[d + 1])
        user_items = items_T[line_bounds[d] : line_bounds[d + 1]]
        packed.append(examples.pack_history(times[cut], spend[cut], counts[cut], user_items, taxonomy_version))
    return packed


def interest(
    tables: list[pa.Table], taxonomy: Taxonomy, num_decisions: int, named: ValueNames
) -> dict[str, NDArray[np.float32]]:
    """Compute breadth, concentration, novelty, departments and private label from `purchases_by_axis`, float32 [D].

    The names start with `interest__` or `consumption__`. A user who bought nothing has NaN.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    for axis, name in enumerate(AXES):
        if len(taxonomy.axis_values[axis]) < 2:
            continue
        table, bounds = tables[axis], _bounds(tables[axis], num_decisions)
        lines = table["lines"].to_numpy().astype(np.float64)
        total_D = _sums(lines, bounds)
        share = lines / np.repeat(total_D, np.diff(bounds))
        columns[f"interest__{name}_breadth"] = np.diff(bounds).astype(np.float64)
        columns[f"interest__{name}_entropy"] = -_sums(share * np.log(share), bounds)
        columns[f"interest__{name}_top_share"] = _maxima(share, bounds)
    product, bounds = tables[0], _bounds(tables[0], num_decisions)
    recent = product["lines_30"].to_numpy()
    bought_first = (recent == product["lines"].to_numpy()) & (recent > 0)
    columns["interest__novelty_30d"] = _sums(bought_first, bounds) / np.maximum(_sums(recent > 0, bounds), 1)
    columns["interest__repeated_share"] = _sums(product["lines"].to_numpy() > 1, bounds) / np.maximum(
        np.diff(bounds), 1
    )
    departments = {
        taxonomy.axis_values[AXES.index("department")][index]: index for index in largest_departments(taxonomy)
    }
    names = named.name("department", departments, ["interest__department_{}"], taken=columns)
    columns |= _department_shares(
        tables[AXES.index("department")],
        {name: departments[department] for department, (name,) in names.items()},
        num_decisions,
    )
    columns |= _private_label(tables[AXES.index("brand")], taxonomy, num_decisions)
    empty_D = np.diff(bounds) == 0
    return {name: np.where(empty_D, np.nan, values).astype(np.float32) for name, values in columns.items()}


def largest_departments(taxonomy: Taxonomy) -> list[int]:
    """Return the indices of the departments with the most items, largest first."""
    axis = AXES.index("department")
    items = np.bincount(taxonomy.axes_VA[1:, axis], minlength=len(taxonomy.axis_values[axis]))
    items[0] = 0
    order = np.argsort(-items, kind="stable")[:MAX_DEPARTMENTS]
    return [int(index) for index in order if items[index]]


def _department_shares(table: pa.Table, index_of: dict[str, int], num_decisions: int) -> dict[str, NDArray[np.float64]]:
    """Compute the share of each user's spend in departments. `index_of`: feature -> index of its department."""
    bounds = _bounds(table, num_decisions)
    values, cents = table["value"].to_numpy(), table["cents"].to_numpy().astype(np.float64)
    total_D = np.maximum(_sums(cents, bounds), 1)
    return {name: _sums(np.where(values == index, cents, 0), bounds) / total_D for name, index in index_of.items()}


def _private_label(table: pa.Table, taxonomy: Taxonomy, num_decisions: int) -> dict[str, NDArray[np.float64]]:
    """Compute the share of private label in each user's lines, if the source has such a brand."""
    brands = taxonomy.axis_values[AXES.index("brand")]
    private = [index for index, brand in enumerate(brands) if brand.lower() in PRIVATE_BRANDS]
    if not private:
        return {}
    bounds, lines = _bounds(table, num_decisions), table["lines"].to_numpy().astype(np.float64)
    own = np.where(np.isin(table["value"].to_numpy(), private), lines, 0)
    return {"consumption__private_label_share": _sums(own, bounds) / np.maximum(_sums(lines, bounds), 1)}


def _bounds(table: pa.Table, num_decisions: int) -> NDArray[np.int64]:
    """Return bounds [D + 1]: decision d has the rows bounds[d] to bounds[d + 1] of a table sorted by decision."""
    return np.searchsorted(table["decision"].to_numpy(), np.arange(num_decisions + 1)).astype(np.int64)


def _arrays(table: pa.Table) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return values [n], counts [M, n] and cents [n] of one axis, in the dtypes of `UserAffinity`."""
    counts = np.stack([_uint16_column(table, name) for name in MEASURES])
    return table["value"].to_numpy().astype(np.int32), counts, table["cents"].to_numpy().astype(np.int64)


def _uint16_column(table: pa.Table, name: str) -> NDArray[np.uint16]:
    """Return a column of counts. Counts above 65,535 are cut to 65,535."""
    return np.asarray(np.minimum(table[name].to_numpy(), np.iinfo(np.uint16).max), dtype=np.uint16)


def _run_lengths(items: pa.Table, num_baskets: int) -> NDArray[np.int32]:
    """Count the lines of each basket, from rows that are sorted by basket."""
    decision = items["decision"].to_numpy()
    basket = items["basket"].combine_chunks().dictionary_encode().indices.to_numpy()
    changes = (np.diff(decision) != 0) | (np.diff(basket) != 0)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1]) if len(decision) else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.append(starts, len(decision)))
    if len(lengths) != num_baskets:
        raise AssertionError(f"lines of {len(lengths)} baskets, but {num_baskets} baskets")
    return lengths.astype(np.int32)


def _sums(values: NDArray[Any], bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum each decision's rows, float64 [D]. The bits do not depend on the other decisions' rows."""
    out = np.zeros(len(bounds) - 1)
    filled = np.flatnonzero(np.diff(bounds))
    if len(filled):
        out[filled] = np.add.reduceat(values.astype(np.float64), bounds[filled])
    return out


def _maxima(values: NDArray[np.float64], bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.zeros(len(bounds) - 1)
    filled = np.flatnonzero(np.diff(bounds))
    if len(filled):
        out[filled] = np.maximum.reduceat(values, bounds[filled])
    return out
