"""Base features (attributes of a user in the source) and social and interest features (events other than purchases).

Bands that start with numbers become their rank. Other values become one indicator each. An unknown value stays unknown:
NaN for a rank, a separate indicator for the rest. A column or event kind that the source lacks gives no feature at
all.

Shapes: D decisions.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.tables import USERS
from recommender.datasets.time_units import DAY_US
from recommender.features.decisions import past
from recommender.features.source import Source, if_else
from recommender.features.value_names import ValueNames

MAX_VALUES = 12
"""Values of an attribute with an indicator, the commonest ones. Chosen by hand: enough for every attribute of the
contract."""
INTEREST_KINDS = ("view", "click", "cart", "search", "favourite")
SOCIAL_KINDS = ("share", "review", "like", "comment", "follow")


def base(
    users: pa.Table, decided_us_D: NDArray[np.int64], rows_D: NDArray[np.int64], named: ValueNames
) -> dict[str, NDArray[np.float32]]:
    """Compute the columns `base__*`, float32 [D].

    Args:
        users: the canonical table.
        decided_us_D: times of the decisions, microseconds since 1970, UTC.
        rows_D: each decision's row in `users`.
        named: names the indicators of values.
    """
    columns: dict[str, NDArray[Any]] = {}
    if "joined_at" in users.column_names:
        joined_us = (
            users["joined_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(zero_copy_only=False)
        )
        age_days_D = (decided_us_D - joined_us.astype(np.float64)[rows_D]) / DAY_US
        columns["base__member_days"] = np.where(age_days_D >= 0, age_days_D, np.nan)
    known_D = np.zeros(len(rows_D))
    for name in USERS.columns:
        if name in ("user_id", "joined_at") or name not in users.column_names:
            continue
        values = users[name].to_pylist()
        known_D += np.array([value is not None for value in values])[rows_D]
        for column, of_users in _encode(name, values, named).items():
            columns[column] = of_users[rows_D]
    if known_D.any():
        columns["base__attributes_known"] = known_D
    return {name: values.astype(np.float32) for name, values in columns.items()}


def _encode(name: str, values: Sequence[str | None], named: ValueNames) -> dict[str, NDArray[np.float64]]:
    """Encode an attribute as one rank or as several indicators: feature name -> a value for each user."""
    distinct = sorted({value for value in values if value is not None})
    if not distinct:
        return {}
    order = [_leading_number(value) for value in distinct]
    if len(distinct) > 2 and all(number is not None for number in order) and len(set(order)) == len(order):
        rank = {
            distinct[place]: float(position) for position, place in enumerate(np.argsort(np.array(order, dtype=float)))
        }
        return {f"base__{name}": np.array([rank[value] if value is not None else np.nan for value in values])}
    counts = Counter(values)
    counted = sorted(distinct, key=lambda value: (-counts[value], value))[:MAX_VALUES]
    of_null = f"base__{name}_unknown"
    has_null = any(value is None for value in values)
    taken = [*(f"base__{other}" for other in USERS.columns), *([of_null] if has_null else [])]
    names = named.name(name, counted, [f"base__{name}_{{}}"], taken=taken)
    columns = {names[common][0]: np.array([float(value == common) for value in values]) for common in counted}
    if has_null:
        columns[of_null] = np.array([float(value is None) for value in values])
    return columns


def _leading_number(band: str) -> float | None:
    """Return the number that a band starts from, or None for a word.

    That is 45 for `45-54`, and 14.5 for `Under 15K`, which sorts it before the band that starts at 15.
    """
    found = re.match(r"\s*(under|below|<|less than)?\s*\D{0,2}(\d+(?:\.\d+)?)\s*(?:[-–+k]|to\b|$)", band, re.IGNORECASE)
    return None if found is None else float(found[2]) - (0.5 if found[1] else 0.0)


def activity(source: Source, decided: pa.Table) -> ir.Table | None:
    """Count views, clicks and other `INTEREST_KINDS` (`interest__*`) and `SOCIAL_KINDS` (`social__*`) before decisions.

    Returns None if the source has no such event before `as_of`.
    """
    events = source.events
    seen = events.filter(events.event_time < source.as_of).select("kind").distinct().to_pyarrow()["kind"].to_pylist()
    kinds = [kind for kind in (*INTEREST_KINDS, *SOCIAL_KINDS) if kind in seen]
    if not kinds:
        return None
    before = past(events.filter(events.kind.isin(kinds)), decided)
    columns: dict[str, Any] = {}
    for kind in kinds:
        portrait = "interest" if kind in INTEREST_KINDS else "social"
        same = (before.kind == kind).cast("int64")
        for days in (7, 30, 90):  # A week, a month, a season; chosen by hand.
            columns[f"{portrait}__{kind}s_{days}d"] = (same * (before.age_days <= days).cast("int64")).sum()
        columns[f"{portrait}__{kind}s"] = same.sum()
        columns[f"{portrait}__{kind}_recency_days"] = if_else(before.kind == kind, before.age_days, ibis.null()).min()
    if "review" in kinds and source.tables.has("events", "rating"):
        rated = (before.kind == "review") & before.rating_cents.notnull()
        total = if_else(rated, before.rating_cents, ibis.null()).sum()
        columns["social__mean_rating"] = total / 100.0 / rated.cast("int64").sum().nullif(0)
    return before.group_by("decision").agg(**columns)
