"""Base features (attributes of a user in the source) and social and interest features (events other than purchases).

Bands that start with numbers become their rank. Other values become one indicator each. An unknown value stays unknown:
NaN for a rank, a separate indicator for the rest. A column or event kind that the source lacks gives no feature at
all.

Shapes: D decisions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Attribute:
    """How the texts of one attribute become numbers: as one rank, as indicators, or (where all are missing) not."""

    rank: Mapping[str, float]
    indicators: Mapping[str, str | None]
    """Feature -> the text that it stands for, None for a missing one."""

    def columns(self, name: str, values: Sequence[str | None]) -> dict[str, NDArray[np.float64]]:
        """Feature -> the numbers of these texts. `name`: the attribute."""
        if self.rank:
            ranks = [self.rank[value] if value is not None else np.nan for value in values]
            return {f"base__{name}": np.array(ranks, dtype=np.float64)}
        return {
            feature: np.array([value == stands for value in values], dtype=np.float64)
            for feature, stands in self.indicators.items()
        }


def attributes(users: pa.Table, named: ValueNames) -> dict[str, Attribute]:
    """Choose how the attributes of all users become numbers. `named`: names the indicators of values."""
    names = [name for name in USERS.columns if name not in ("user_id", "joined_at") and name in users.column_names]
    return {name: _attribute(name, users[name], named) for name in names}


def base(
    users: pa.Table,
    decided_us_D: NDArray[np.int64],
    rows_D: NDArray[np.int64],
    encoded: Mapping[str, Attribute],
) -> dict[str, NDArray[np.float32]]:
    """Compute the columns `base__*`, float32 [D].

    Args:
        users: the canonical table, of all users or some.
        decided_us_D: times of the decisions, microseconds since 1970, UTC.
        rows_D: each decision's row in `users`.
        encoded: what `attributes` returned for all users.
    """
    columns: dict[str, NDArray[Any]] = {}
    if "joined_at" in users.column_names:
        joined_us = (
            users["joined_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(zero_copy_only=False)
        )
        age_days_D = (decided_us_D - joined_us.astype(np.float64)[rows_D]) / DAY_US
        columns["base__member_days"] = np.where(age_days_D >= 0, age_days_D, np.nan)
    known_D = np.zeros(len(rows_D))
    for name, attribute in encoded.items():
        known_D += users[name].is_valid().to_numpy()[rows_D]
        for column, of_users in attribute.columns(name, users[name].to_pylist()).items():
            columns[column] = of_users[rows_D]
    if any(attribute.rank or attribute.indicators for attribute in encoded.values()):
        columns["base__attributes_known"] = known_D
    return {name: values.astype(np.float32) for name, values in columns.items()}


def _attribute(name: str, values: pa.ChunkedArray, named: ValueNames) -> Attribute:
    """Choose one rank or several indicators for the texts of all users."""
    counted = pc.value_counts(values)
    counts = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    has_null = counts.pop(None, 0) > 0
    distinct, form = sorted(counts), f"base__{name}_{{}}"
    has_indicators = named.has(form)
    if not distinct and not has_indicators:
        return Attribute({}, {})
    order = [_leading_number(value) for value in distinct]
    if (
        not has_indicators
        and len(distinct) > 2
        and all(number is not None for number in order)
        and len(set(order)) == len(order)
    ):
        rank = {
            distinct[place]: float(position) for position, place in enumerate(np.argsort(np.array(order, dtype=float)))
        }
        return Attribute(rank, {})
    commonest = sorted(distinct, key=lambda value: (-counts[value], value))[:MAX_VALUES]
    of_null = named.of_missing(form, occurs=has_null)
    taken = [*(f"base__{other}" for other in USERS.columns), *([of_null] if of_null else [])]
    names = named.name(name, commonest, [form], taken=taken)
    indicators: dict[str, str | None] = {feature: value for value, (feature,) in names.items()}
    if of_null:
        indicators[of_null] = None
    return Attribute({}, indicators)


def _leading_number(band: str) -> float | None:
    """Return the number that a band starts from, or None for a word.

    That is 45 for `45-54`, and 14.5 for `Under 15K`, which sorts it before the band that starts at 15.
    """
    found = re.match(r"\s*(under|below|<|less than)?\s*\D{0,2}(\d+(?:\.\d+)?)\s*(?:[-–+k]|to\b|$)", band, re.IGNORECASE)
    return None if found is None else float(found[2]) - (0.5 if found[1] else 0.0)


def counted_kinds(source: Source) -> tuple[str, ...]:
    """The kinds of events that `activity` counts: those that the source has before `as_of`."""
    events = source.events
    seen = events.filter(events.event_time < source.as_of).select("kind").distinct().to_pyarrow()["kind"].to_pylist()
    return tuple(kind for kind in (*INTEREST_KINDS, *SOCIAL_KINDS) if kind in seen)


def activity(
    source: Source, decisions: Decisions, kinds: Sequence[str], kept: Activity
) -> dict[str, NDArray[np.float32]]:
    """Count views, clicks and other `INTEREST_KINDS` (`interest__*`) and `SOCIAL_KINDS` (`social__*`) before decisions.

    Returns columns, float32 [D]. `kinds`: what `counted_kinds` returned for all users. `kept` gets the events' times.
    """
    events = source.events
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
