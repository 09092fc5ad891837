"""Checks of the end of a log against the good runs before: it moves on, and ends at an hour at which it has ended."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recommender.datasets.checks.check import Check, check_at
from recommender.datasets.statistics import Statistics

LEAST_END_RUNS, RECENT_RUNS = 7, 60
"""Runs after which the hour at which the log ends is known, and the latest ones that count: two months of nights."""
QUIET_HOURS = 2
"""Hours beyond twice the range seen so far: a quiet evening must not look like a cut. Chosen by hand."""


@dataclass(frozen=True)
class Run:
    """A good run in short."""

    data_hash: str
    last_day: str
    last_hour: float


def log_end(now: Statistics, before: Statistics, runs: tuple[Run, ...]) -> Iterator[Check]:
    """The log ends later than before, and at an hour at which it has ended before."""
    back = (before.last_day - now.last_day).days
    yield check_at(
        "events.log_end",
        at="events.event_time",
        value=max(0, back),
        most=0.0,
        sentence="the log does not end earlier than in the last good run",
        cause=f"the log ends on {now.last_day}, {back} day(s) earlier than in the last good run: a file cut or missing?"
        if back > 0
        else "",
    )
    ends = [run.last_hour for run in runs[-RECENT_RUNS:] if np.isfinite(run.last_hour)]
    if len(ends) >= LEAST_END_RUNS and np.isfinite(now.last_hour):
        spread = max(ends) - min(ends)
        least = min(ends) - spread - QUIET_HOURS
        yield check_at(
            "events.last_hour",
            at="events.event_time",
            severity="warning",
            value=now.last_hour,
            least=least,
            sentence="the log ends at an hour of the day at which it has ended before",
            cause=f"the last event is at {now.last_hour:.1f} h, earlier runs ended after {min(ends):.1f} h: "
            "the newest file cut at a row?",
        )
