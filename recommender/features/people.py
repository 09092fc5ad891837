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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recommender.datasets.tables import USERS
from recommender.datasets.time_units import DAY_S, DAY_US, SECOND_US
from recommender.features.as_of import Ints, Running, last_before
from recommender.features.bought import Decisions, Part, microseconds_of, parts
from recommender.features.rings import Activity
from recommender.features.source import Source
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


def activity(source: Source, decisions: Decisions, kept: Activity) -> dict[str, NDArray[np.float32]]:
    """Count views, clicks and other `INTEREST_KINDS` (`interest__*`) and `SOCIAL_KINDS` (`social__*`) before decisions.

    `kept` gets the times of these events.

    Returns columns, float32 [D]; none if the source has no such event before `as_of`.
    """
    events = source.events
    seen = events.filter(events.event_time < source.as_of).select("kind").distinct().to_pyarrow()["kind"].to_pylist()
    kinds = [kind for kind in (*INTEREST_KINDS, *SOCIAL_KINDS) if kind in seen]
    if not kinds:
        return {}
    rows = events.filter(events.kind.isin(kinds)).inner_join(decisions.numbered(), "user_id")
    rows = rows.select("user", "kind", "event_time", "rating_cents").order_by("user", "event_time")
    rated = "review" in kinds and source.tables.has("events", "rating")
    columns: dict[str, NDArray[np.float32]] = {}
    for part in parts(rows, len(decisions.user_ids)):
        own = decisions.of_users(part.first_user, part.end_user)
        found = _counted(part, decisions.user_D[own] - part.first_user, decisions.moment_us_D[own], kinds, rated=rated)
        kept.add(part, own.start, decisions.user_D[own] - part.first_user, decisions.moment_us_D[own])
        for name, values_D in found.items():
            columns.setdefault(name, np.empty(len(decisions.user_D), dtype=np.float32))[own] = values_D
    return columns


def _counted(
    part: Part, user_D: Ints, moment_us_D: Ints, kinds: Sequence[str], *, rated: bool
) -> dict[str, NDArray[np.float64]]:
    """Count the events of a part's users before decisions, float64 [D]."""
    rows = part.rows
    user_n, time_us_n = rows["user"].to_numpy().astype(np.int64), microseconds_of(rows["event_time"])
    of_kind = {kind: pc.equal(rows["kind"], kind).to_numpy().astype(np.int64) for kind in kinds}
    rating = rows["rating_cents"]
    with_rating = of_kind.get("review", 0) * pc.is_valid(rating).to_numpy().astype(np.int64)
    cents = pc.fill_null(rating, 0).to_numpy() * with_rating
    reading = Running(user_n, time_us_n, {**of_kind, "rated": with_rating, "cents": cents}).at(user_D, moment_us_D)
    total = reading.before((*kinds, "rated", "cents") if rated else kinds)
    windows = {days: reading.within(days, kinds) for days in (7, 30, 90)}  # A week, a month, a season; chosen by hand.
    columns: dict[str, Any] = {}
    for kind in kinds:
        portrait = "interest" if kind in INTEREST_KINDS else "social"
        for days, counts in windows.items():
            columns[f"{portrait}__{kind}s_{days}d"] = counts[kind]
        columns[f"{portrait}__{kind}s"] = total[kind]
        of_this = np.flatnonzero(of_kind[kind])
        place_D = last_before(user_n[of_this], time_us_n[of_this], user_D, moment_us_D)
        last_s_D = np.append(time_us_n[of_this], 0)[place_D] // SECOND_US
        age_D = (moment_us_D // SECOND_US - last_s_D) / DAY_S
        columns[f"{portrait}__{kind}_recency_days"] = np.where(place_D >= 0, age_D, np.nan)
    if rated:
        with np.errstate(invalid="ignore"):
            mean_D = total["cents"] / 100.0 / total["rated"]
        columns["social__mean_rating"] = np.where(total["rated"] > 0, mean_D, np.nan)
    return {name: np.asarray(values_D, dtype=np.float64) for name, values_D in columns.items()}
