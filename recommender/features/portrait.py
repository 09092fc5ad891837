"""The portrait of users at moments: base, behaviour, interest, social and consumption features.

Shapes: D decisions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.time_units import MONTH_DAYS
from recommender.features import campaign_habits, looks, people, purchases, vectors
from recommender.features.source import Source
from recommender.features.value_names import ValueNames

KINDS = ("base", "behaviour", "interest", "social", "consumption")


@dataclass(frozen=True, eq=False)
class Portrait:
    """The features of each decision's user as known then, and what they were computed from."""

    columns: Mapping[str, NDArray[np.float32]]
    """Name -> float32 [D], in the order of `KINDS`."""
    habits: tuple[str, ...]
    """Names of those about campaigns."""
    months_D: NDArray[np.float64]
    """Length of each user's known history in months of 30 days."""
    baskets: ir.Table
    past_targets: ir.Table
    bought_by_axis: list[pa.Table]
    looked_by_axis: list[pa.Table] | None
    """None where the source has no looks at items."""


def portrait(source: Source, decided: pa.Table, named: ValueNames) -> Portrait:
    """Compute the portrait of each decision's user from what was known strictly before the decision.

    Args:
        source: the tables.
        decided: decision (numbered from 0), user_id and decided_at, as `decisions.decisions` lists them.
        named: names the features that stand for values.
    """
    num_decisions = decided.num_rows
    decided_us_D = decided["decided_at"].cast(pa.int64()).to_numpy()
    baskets = purchases.baskets(source, decided)
    past_targets = campaign_habits.past_targets(source, decided)
    behaviour = aligned(
        purchases.behaviour(baskets, has_hours=source.tables.event_time_has_hours).to_pyarrow(), num_decisions
    )
    habits = aligned(campaign_habits.habits(past_targets, source, named).to_pyarrow(), num_decisions)
    habits = {name: np.nan_to_num(column) if is_count(name) else column for name, column in habits.items()}
    columns = {**_base(source, decided, decided_us_D, named), **behaviour, **habits}
    activity = people.activity(source, decided)
    if activity is not None:
        counts = aligned(activity.to_pyarrow(), num_decisions)
        columns |= {
            name: np.nan_to_num(values) if "recency" not in name and "rating" not in name else values
            for name, values in counts.items()
        }
    looked_by_axis = looks.looks_by_axis(source, decided)
    columns |= looks.portrait_column(looked_by_axis, num_decisions)
    bought_by_axis = vectors.purchases_by_axis(source, decided)
    columns |= vectors.interest(bought_by_axis, source.taxonomy, num_decisions, named)
    columns |= aligned(purchases.consumption(baskets, source).to_pyarrow(), num_decisions)
    ordered = [name for kind in KINDS for name in columns if name.startswith(f"{kind}__")]
    return Portrait(
        columns={name: columns[name].astype(np.float32) for name in ordered},
        habits=tuple(habits),
        months_D=np.nan_to_num(behaviour["behaviour__tenure_days"].astype(np.float64) / MONTH_DAYS),
        baskets=baskets,
        past_targets=past_targets,
        bought_by_axis=bought_by_axis,
        looked_by_axis=looked_by_axis,
    )


def aligned(table: pa.Table, num_decisions: int) -> dict[str, NDArray[np.float32]]:
    """Return a table's columns as float32 [D], NaN for decisions that the table has no row of."""
    rows = table["decision"].to_numpy()
    columns = {}
    for name in table.column_names:
        if name != "decision":
            values = np.full(num_decisions, np.nan, dtype=np.float32)
            values[rows] = table[name].cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float32)
            columns[name] = values
    return columns


def is_count(name: str) -> bool:
    """Whether a feature about campaigns is 0, not unknown, for a user whom no campaign ever targeted."""
    short = name.removeprefix("behaviour__")
    return short in campaign_habits.COUNTS or short.endswith(campaign_habits.COUNT_SUFFIXES)


def _base(
    source: Source, decided: pa.Table, decided_us_D: NDArray[np.int64], named: ValueNames
) -> dict[str, NDArray[Any]]:
    users = source.table("users").to_pyarrow().sort_by("user_id")
    row_of = {user_id: row for row, user_id in enumerate(users["user_id"].to_pylist())}
    rows_D = np.array([row_of[user_id] for user_id in decided["user_id"].to_pylist()], dtype=np.int64)
    return people.base(users, decided_us_D, rows_D, named)
