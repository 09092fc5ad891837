"""Vectors of a user: what was bought on every axis of the taxonomy, and the interest that it shows.

Shapes: D decisions · A axes of the taxonomy · n values of an axis that a decision's user has bought.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.features.as_of import Ints, Running, ranges, reduced
from recommender.features.bought import Bought, changes_of
from recommender.features.taxonomy import Taxonomy
from recommender.features.value_names import ValueNames
from recommender.matching.affinity import AXES, MEASURES

MAX_DEPARTMENTS = 12
"""Most departments with a separate feature, those with the most items. Chosen by hand."""
PRIVATE_BRANDS = ("private", "private label", "own brand", "自有品牌")
"""Brand names, in lower case, that mean a shop's own brand. `private` is Complete Journey's. The last is Chinese."""
_COUNTED = (*MEASURES, "cents")


@dataclass(frozen=True, eq=False)
class Items:
    """What a part's users bought, by user and item, as running sums."""

    user_g: Ints
    """User of each pair of user and item, ascending."""
    item_g: Ints
    """Row of its item, ascending for each user."""
    sums: Running
    """Groups are the pairs; columns `lines`, `discounted`, `coupon` and `cents`."""
    orders: tuple[Ints, ...]
    """For each axis but the product, the pairs sorted by user and value."""
    values_Ag: tuple[Ints, ...]
    """For each axis the value of each pair's item."""


def items(lines: Bought, axes_VA: NDArray[np.int32]) -> Items:
    """Sum up a part's lines by user and item. `axes_VA`: each item's value on each axis."""
    rows = np.flatnonzero(lines.item_T > 0)
    keys = lines.user_T[rows] * len(axes_VA) + lines.item_T[rows]
    pairs_g, group = np.unique(keys, return_inverse=True)
    user_g, item_g = pairs_g // len(axes_VA), pairs_g % len(axes_VA)
    changes = changes_of(lines.money, lines.event_us_T, rows)
    values_Ag = tuple(axes_VA[item_g, axis].astype(np.int64) for axis in range(len(AXES)))
    return Items(
        user_g=user_g,
        item_g=item_g,
        sums=Running(group[changes.line_n], changes.known_us_n, changes.values, event_us_n=changes.event_us_n),
        orders=tuple(np.lexsort((value_g, user_g)) for value_g in values_Ag[1:]),
        values_Ag=values_Ag,
    )


def purchases_by_axis(bought: Items, user_D: Ints, moment_us_D: Ints) -> list[pa.Table]:
    """Sum what each decision's user bought before, by the values of each axis.

    Returns:
        A table for each axis with decision (from 0 on), value (its index), the counts `MEASURES` and cents, sorted by
        decision and value.
    """
    starts_D = np.searchsorted(bought.user_g, user_D)
    pair_P, bounds = ranges(starts_D, np.searchsorted(bought.user_g, user_D + 1))
    decision_P = np.repeat(np.arange(len(user_D)), np.diff(bounds))
    reading = bought.sums.at(pair_P, moment_us_D, decision_P)
    total = reading.before(("lines", "discounted", "coupon", "cents"))
    # A season and a month, as in `purchases.WINDOWS`.
    season, month = reading.within(90, ("lines", "coupon")), reading.within(30, ("lines",))
    summed = {
        **{name: total[name] for name in ("lines", "discounted", "coupon")},
        **{"lines_90": season["lines"], "lines_30": month["lines"], "coupon_90": season["coupon"]},
        "cents": total["cents"],
    }
    product_P = bought.item_g[pair_P]
    tables = [_rolled_up(decision_P, product_P, {name: summed[name] for name in _COUNTED}, np.arange(len(pair_P)))]
    for order, value_g in zip(bought.orders, bought.values_Ag[1:], strict=True):
        # The same pairs, those of one value together: a decision has all pairs of its user.
        place_P = order[pair_P]
        row_P = place_P - np.repeat(starts_D - bounds[:-1], np.diff(bounds))
        value_P = value_g[place_P]
        starts = np.flatnonzero((np.diff(decision_P, prepend=-1) != 0) | (np.diff(value_P, prepend=-1) != 0))
        by_value = {name: np.add.reduceat(summed[name][row_P], starts) if len(starts) else row_P for name in _COUNTED}
        tables.append(_rolled_up(decision_P, value_P, by_value, starts))
    return tables


def _rolled_up(decision_P: Ints, value_P: Ints, summed: dict[str, Ints], starts: Ints) -> pa.Table:
    """A table of the sums of one axis without the values that are none and those of which nothing is bought yet."""
    kept = (value_P[starts] > 0) & (summed["lines"] > 0)
    columns: dict[str, Any] = {"decision": decision_P[starts][kept], "value": value_P[starts][kept]}
    # Money needs 64 bits: 25 million rupiah in hundredths do not fit into 31.
    columns |= {name: summed[name][kept].astype(np.int64 if name == "cents" else np.int32) for name in _COUNTED}
    return pa.table(columns)


def department_features(taxonomy: Taxonomy, named: ValueNames) -> dict[str, int]:
    """Name the feature of each of the largest departments: feature -> index of the department."""
    taken = [f"interest__{name}_{what}" for name in AXES for what in ("breadth", "entropy", "top_share")]
    taken += ["interest__novelty_30d", "interest__repeated_share"]
    names = named.name("department", largest_departments(taxonomy), ["interest__department_{}"], taken=taken)
    return {name: department_index(taxonomy, department) for department, (name,) in names.items()}


def interest(
    tables: list[pa.Table], taxonomy: Taxonomy, num_decisions: int, departments: Mapping[str, int]
) -> dict[str, NDArray[np.float32]]:
    """Compute breadth, concentration, novelty, departments and private label from `purchases_by_axis`, float32 [D].

    The names start with `interest__` or `consumption__`. A user who bought nothing has NaN. `departments`: what
    `department_features` returned.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    for axis, name in enumerate(AXES):
        if len(taxonomy.axis_values[axis]) < 2:
            continue
        table, bounds = tables[axis], bounds_of(tables[axis], num_decisions)
        lines = table["lines"].to_numpy().astype(np.float64)
        total_D = _sums(lines, bounds)
        share = lines / np.repeat(total_D, np.diff(bounds))
        columns[f"interest__{name}_breadth"] = np.diff(bounds).astype(np.float64)
        columns[f"interest__{name}_entropy"] = -_sums(share * np.log(share), bounds)
        columns[f"interest__{name}_top_share"] = reduced(np.maximum, share, bounds, 0.0)
    product, bounds = tables[0], bounds_of(tables[0], num_decisions)
    recent = product["lines_30"].to_numpy()
    bought_first = (recent == product["lines"].to_numpy()) & (recent > 0)
    columns["interest__novelty_30d"] = _sums(bought_first, bounds) / np.maximum(_sums(recent > 0, bounds), 1)
    columns["interest__repeated_share"] = _sums(product["lines"].to_numpy() > 1, bounds) / np.maximum(
        np.diff(bounds), 1
    )
    columns |= _department_shares(tables[AXES.index("department")], departments, num_decisions)
    columns |= _private_label(tables[AXES.index("brand")], taxonomy, num_decisions)
    empty_D = np.diff(bounds) == 0
    return {name: np.where(empty_D, np.nan, values).astype(np.float32) for name, values in columns.items()}


def largest_departments(taxonomy: Taxonomy) -> list[str]:
    """The departments with the most items, largest first."""
    axis = AXES.index("department")
    items = np.bincount(taxonomy.axes_VA[1:, axis], minlength=len(taxonomy.axis_values[axis]))
    items[0] = 0
    order = np.argsort(-items, kind="stable")[:MAX_DEPARTMENTS]
    return [taxonomy.axis_values[axis][index] for index in order if items[index]]


def department_index(taxonomy: Taxonomy, department: str) -> int:
    """The index of a department, -1 for one that these ids do not have."""
    departments = taxonomy.axis_values[AXES.index("department")]
    return departments.index(department) if department in departments else -1


def _department_shares(
    table: pa.Table, index_of: Mapping[str, int], num_decisions: int
) -> dict[str, NDArray[np.float64]]:
    """Compute the share of each user's spend in departments. `index_of`: feature -> index of its department."""
    bounds = bounds_of(table, num_decisions)
    values, cents = table["value"].to_numpy(), table["cents"].to_numpy().astype(np.float64)
    total_D = np.maximum(_sums(cents, bounds), 1)
    return {name: _sums(np.where(values == index, cents, 0), bounds) / total_D for name, index in index_of.items()}


def _private_label(table: pa.Table, taxonomy: Taxonomy, num_decisions: int) -> dict[str, NDArray[np.float64]]:
    """Compute the share of private label in each user's lines, if the source has such a brand."""
    brands = taxonomy.axis_values[AXES.index("brand")]
    private = [index for index, brand in enumerate(brands) if brand.lower() in PRIVATE_BRANDS]
    if not private:
        return {}
    bounds, lines = bounds_of(table, num_decisions), table["lines"].to_numpy().astype(np.float64)
    own = np.where(np.isin(table["value"].to_numpy(), private), lines, 0)
    return {"consumption__private_label_share": _sums(own, bounds) / np.maximum(_sums(lines, bounds), 1)}


def bounds_of(table: pa.Table, num_decisions: int) -> NDArray[np.int64]:
    """Return bounds [D + 1]: decision d has the rows bounds[d] to bounds[d + 1] of a table sorted by decision."""
    return np.searchsorted(table["decision"].to_numpy(), np.arange(num_decisions + 1)).astype(np.int64)


def _sums(values: NDArray[Any], bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum each decision's rows, float64 [D]. The bits do not depend on the other decisions' rows."""
    return np.asarray(reduced(np.add, values.astype(np.float64), bounds, 0.0))
