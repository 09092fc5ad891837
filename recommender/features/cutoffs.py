"""Users at past moments (cutoffs), with what was known of them then and what they did in the days after.

Features and counts read only events strictly before the cutoff. Outcomes read only the window after it, which never
passes the moment up to which the log is known.

Shapes: N users of one cutoff · F features.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S
from recommender.errors import PeriodError
from recommender.features.decisions import TIME
from recommender.features.portrait import portrait
from recommender.features.shared import shared_of
from recommender.features.source import TIME_TYPE, Source
from recommender.features.value_names import ValueNames
from recommender.matching.users_at import Counts, UsersAt

OUTCOMES = {
    "buy": "a purchase",
    "visit": "an event of any kind",
    "redeem": "a participation in a campaign",
}


def cutoffs(source: Source, *, step_days: int) -> list[datetime]:
    """Moments `step_days` apart, the last one so long before what is known ends. A step of the log lies before each.

    Raises:
        PeriodError: the log is too short for two of them, one to learn from and one to judge.
    """
    first = source.table("events").event_time.min().to_pyarrow().as_py()
    step = timedelta(days=step_days)
    count = int((source.as_of - first) / step) - 1
    if count < 2:
        raise PeriodError(
            f"events: the log spans {(source.as_of - first).days} days before {source.as_of.isoformat()}, and windows "
            f"of {step_days} days need at least {3 * step_days}: one to know users by, one to learn from and one to "
            "judge. Ask for shorter windows, or bring a longer log."
        )
    return [source.as_of - step * back for back in range(count, 0, -1)]


def rows_at(source: Source, cutoff: datetime, days: Sequence[int]) -> UsersAt:
    """Everyone with an event before `cutoff`: portrait, counts, and the outcomes of each window that is known whole.

    Args:
        source: the tables. What is known ends at its `as_of`.
        cutoff: nothing from here on is known to the features.
        days: lengths of the windows.
    """
    events = source.events
    moment_s = int(cutoff.timestamp())
    before = events.filter(events.event_time < ibis.literal(cutoff, TIME_TYPE))
    before = before.mutate(age=(moment_s - before.time_s) / DAY_S)
    seen = before.group_by("user_id").agg(first=before.age.max()).order_by("user_id").to_pyarrow()
    user_ids = tuple(seen["user_id"].to_pylist())
    decided = pa.table(
        {
            "decision": pa.array(range(len(user_ids)), pa.int32()),
            "user_id": pa.array(user_ids, pa.string()),
            "decided_at": pa.array([cutoff] * len(user_ids), TIME),
        }
    )
    known = portrait(source, decided, shared_of(source, ValueNames())).columns
    first_N = seen["first"].to_numpy().astype(np.float64)
    place = {user_id: row for row, user_id in enumerate(user_ids)}
    took_part = source.participations.mutate(
        event_time=source.participations.participated_at,
        age=(moment_s - source.participations.participated_at.epoch_seconds()) / DAY_S,
    )
    of_kind = {"buy": before.filter(before.kind == "purchase"), "visit": before}
    of_kind["redeem"] = took_part.filter(took_part.event_time < ibis.literal(cutoff, TIME_TYPE))
    return UsersAt(
        cutoff=cutoff,
        user_ids=user_ids,
        names=tuple(known),
        features_NF=np.stack(list(known.values()), axis=1),
        counts={outcome: _counts(table, place, first_N) for outcome, table in of_kind.items()},
        outcomes={
            (outcome, length): _happened(source, outcome, cutoff, length, place)
            for outcome in OUTCOMES
            for length in days
            if cutoff + timedelta(days=length) <= source.as_of
        },
    )


def _counts(table: Any, place: dict[str, int], first_N: NDArray[np.float64]) -> Counts:
    """Days with the event after the day of the user's first event of any kind, and the last one of them."""
    day = table.age.floor().cast("int64")  # 24 hours each, counted back from the cutoff
    found = table.group_by("user_id").agg(days=day.nunique(), last=table.age.min(), first=table.age.max()).to_pyarrow()
    rows = np.array([place.get(user_id, -1) for user_id in found["user_id"].to_pylist()], dtype=np.int64)
    known, rows = rows >= 0, rows[rows >= 0]
    days, last, first = (found[name].to_numpy().astype(np.float64)[known] for name in ("days", "last", "first"))
    # The first event makes the user known. What comes after it on the same day is no repetition.
    repeated = days - (np.floor(first) == np.floor(first_N[rows]))
    num_N, last_N = np.zeros(len(first_N)), np.zeros(len(first_N))
    num_N[rows] = repeated
    last_N[rows] = np.where(repeated > 0, np.maximum(first_N[rows] - last, 0), 0)
    return Counts(num_N=num_N, last_N=last_N, known_N=first_N)


def _happened(
    source: Source, outcome: str, cutoff: datetime, length: int, place: dict[str, int]
) -> NDArray[np.float64]:
    """Whether each user did it in the `length` days from the cutoff on, 0 or 1 [N]."""
    table, time = source.events, "event_time"
    if outcome == "redeem":
        table, time = source.participations, "participated_at"
    elif outcome == "buy":
        table = table.filter(table.kind == "purchase")
    inside = table.filter(
        table[time] >= ibis.literal(cutoff, TIME_TYPE),
        table[time] < ibis.literal(cutoff + timedelta(days=length), TIME_TYPE),
    )
    happened_N = np.zeros(len(place))
    for user_id in inside.select("user_id").distinct().to_pyarrow()["user_id"].to_pylist():
        if user_id in place:
            happened_N[place[user_id]] = 1.0
    return happened_N
