"""Checks against the last good run of the same source: past days do not change, keys and values stay, nothing vanishes.

A shop exports its log again and again, so the days that two runs have in common should be the same but for late
arrivals and returns. A day counts as settled `SETTLING_DAYS` before the end of the earlier run; later ones may still
grow. The bounds are gross and chosen by hand: late arrivals and returns stay far below them.

Shapes: D days that both runs have.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np

from recommender.datasets.checks.check import Check, check_at, days_in_words, factor_in_words, unit_cause
from recommender.datasets.checks.clock import ENOUGH_EVENTS, SURE, best_shift
from recommender.datasets.checks.log_end import Run, log_end
from recommender.datasets.checks.vanished import vanished
from recommender.datasets.statistics import Statistics
from recommender.datasets.statistics.measured import Floats

SETTLING_DAYS = 3
"""The newest days of a log may still be filled, so they are not compared. Chosen by hand."""
FEWER, MORE = 0.8, 1.25
"""Shares of a past day's rows between which late arrivals, cancelled orders and erased users leave it."""
NEARLY_TWICE = 0.2
"""How far from two the factor may be of days that were read twice."""
FEW_ROWS = 5
"""Rows below which a level means nothing. Chosen by hand."""
LEVEL_CHANGE = 1.5
"""Factor between two good runs beyond which a level has changed. Chosen by hand."""
NULL_CHANGE, KIND_CHANGE = 0.3, 0.2
"""Changes of a past day's share of missing values, and of a kind of event. Only corrections should move them."""
CLOCK_EACH = 0.02
"""Gain in log likelihood for each event from which a clock moved. Less would be late arrivals."""
FEWEST_SWAPS, SWAPPED_TO_KEPT = 6, 3
"""Days with the rows of the swapped date, and how many times as many they must be as days that kept their own."""
SAME_ROWS, TOLD_APART = 0.02, 2
"""Share by which a day's rows may change and still be the same, and rows by which two days must differ to be told
apart."""


@dataclass(frozen=True, eq=False)
class _Pair:
    """The days that both runs have."""

    now: Statistics
    before: Statistics
    at_now: int
    at_before: int
    num_days: int
    settled: int
    """Days of `num_days`, from the first, that no longer change."""

    def figure(self, name: str) -> tuple[Floats, Floats]:
        """A figure in this run and in the earlier one, float64 [D] each."""
        return (
            self.now.figure(name)[self.at_now : self.at_now + self.num_days],
            self.before.figure(name)[self.at_before : self.at_before + self.num_days],
        )

    def counted(self, column: str) -> tuple[Floats, Floats]:
        """The rows among which a missing value of a column counts, in this run and in the earlier one, [D] each."""
        return (
            self.now.counted(column)[self.at_now : self.at_now + self.num_days],
            self.before.counted(column)[self.at_before : self.at_before + self.num_days],
        )

    def words(self, places: np.ndarray) -> str:
        """The days at places of the common days, in words."""
        return days_in_words(self.now, np.asarray(places) + self.at_now)


def compared(
    now: Statistics, before: Statistics, runs: tuple[Run, ...] = (), *, reaches: date | None = None
) -> list[Check]:
    """All checks against the last good run.

    Args:
        now: the tables at hand.
        before: those of the last good run.
        runs: the good runs so far, the latest last.
        reaches: the last day of the files, which a stated time of decision may precede.
    """
    checks = list(vanished(now, before))
    # A back-test looks at a part of a log that is whole.
    is_back_test = reaches is not None and now.last_day < before.last_day <= reaches
    checks += [] if is_back_test else log_end(now, before, runs)
    first = max(now.first_day, before.first_day)
    # The last day of an earlier run was rarely whole.
    num_days = (min(now.last_day, before.last_day) - first).days
    if num_days > 0:
        settled = num_days + 1 - SETTLING_DAYS if now.last_day >= before.last_day else num_days
        pair = _Pair(
            now=now,
            before=before,
            at_now=(first - now.first_day).days,
            at_before=(first - before.first_day).days,
            num_days=num_days,
            settled=max(0, settled),
        )
        checks += [*_rows(pair), *_levels(pair), *_shares(pair), *_clock(pair), *_swapped(pair)]
    return checks


def _rows(pair: _Pair) -> Iterator[Check]:
    for name, what in (("rows", "events"), ("users", "users")):
        now_D, before_D = pair.figure(name)
        known_D = (before_D >= FEW_ROWS) | (now_D >= FEW_ROWS)
        fewer_D = known_D & (now_D < FEWER * before_D)
        more_D = known_D & (now_D > MORE * np.maximum(before_D, 1)) & (np.arange(pair.num_days) < pair.settled)
        changed = np.flatnonzero(fewer_D | more_D)
        yield check_at(
            f"events.{what}.past_days",
            at="events",
            severity="critical" if len(changed) > 1 else "warning",
            value=len(changed),
            most=0.0,
            sentence=f"days that the last good run had still have as many {what}",
            cause=_rows_cause(pair, what, now_D, before_D, fewer_D, more_D) if len(changed) else "",
        )


def _rows_cause(
    pair: _Pair, what: str, now_D: Floats, before_D: Floats, fewer_D: np.ndarray, more_D: np.ndarray
) -> str:
    parts = []
    gone = np.flatnonzero(fewer_D & (now_D == 0))
    less = np.flatnonzero(fewer_D & (now_D > 0))
    more = np.flatnonzero(more_D)
    if len(gone):
        parts.append(f"{len(gone)} day(s) lost all {what} {pair.words(gone)}: files missing?")
    if len(less):
        share = now_D[less].sum() / before_D[less].sum()
        why = "these users no longer in the export?" if what == "users" else "a part of the files missing?"
        parts.append(f"{len(less)} day(s) have only {share:.0%} of their {what} {pair.words(less)}: {why}")
    if len(more):
        times = now_D[more].sum() / max(before_D[more].sum(), 1)
        why = "read twice?" if abs(times - 2) < NEARLY_TWICE else "other rows added, or ids written in several ways?"
        parts.append(f"{len(more)} day(s) have {times:.2g} times their {what} {pair.words(more)}: {why}")
    return "; ".join(parts)


def _levels(pair: _Pair) -> Iterator[Check]:
    for name in [one for one in pair.before.days if one.startswith("log:")]:
        column = name.removeprefix("log:")
        now_D, before_D = pair.figure(name)
        away_D = np.nan_to_num(now_D - before_D)
        bought_D = pair.figure("kind:purchase")[1] >= FEW_ROWS
        changed = np.flatnonzero((np.abs(away_D) > np.log(LEVEL_CHANGE)) & bought_D)
        factor = float(np.exp(np.median(away_D[changed]))) if len(changed) else 1.0
        what = "amounts against quantity x price" if column == "paid" else column
        yield check_at(
            f"events.{column}.past_level",
            at=f"events.{'amount' if column == 'paid' else column}",
            value=len(changed),
            most=0.0,
            sentence=f"{what}: days that the last good run had still have the same mean",
            cause=f"{what} is about {factor_in_words(factor)} times what it was {pair.words(changed)}: "
            f"{unit_cause(factor, column)}"
            if len(changed)
            else "",
        )


def _shares(pair: _Pair) -> Iterator[Check]:
    for name in [one for one in pair.before.days if one.startswith(("null:", "kind:", "negative:"))]:
        group, column = name.split(":")
        now_D, before_D = pair.figure(name)
        rows_D = pair.figure("kind:purchase") if group == "negative" else pair.figure("rows")
        if group == "null":
            rows_D = pair.counted(column)
        limit = NULL_CHANGE
        if group == "kind":
            now_D, before_D = now_D / np.maximum(rows_D[0], 1), before_D / np.maximum(rows_D[1], 1)
            limit = KIND_CHANGE
        moved_D = np.nan_to_num(now_D - before_D)
        changed = np.flatnonzero((np.abs(moved_D) > limit) & (rows_D[1] >= FEW_ROWS) & (rows_D[0] >= FEW_ROWS))
        by = float(np.median(moved_D[changed])) if len(changed) else 0.0
        what = {
            "null": f"missing values of {column}",
            "kind": f"the kind {column}",
            "negative": f"{column} below zero",
        }[group]
        why = {
            "null": "no longer exported?",
            "kind": "kinds renamed or mapped otherwise?",
            "negative": "a sign turned?",
        }
        yield check_at(
            f"events.{column}.past_{group}",
            at=f"events.{'kind' if group == 'kind' else column}",
            value=len(changed),
            most=0.0,
            sentence=f"the share of {what} is what it was in the last good run",
            cause=f"the share of {what} moved by {by:+.0%} {pair.words(changed)}: {why[group]}" if len(changed) else "",
        )


def _clock(pair: _Pair) -> Iterator[Check]:
    hours = [pair.figure(f"hour:{hour}") for hour in range(24)]
    now_H = np.array([np.nansum(now_D) for now_D, _ in hours])
    before_H = np.array([np.nansum(before_D) for _, before_D in hours])
    shift = 0
    if min(now_H.sum(), before_H.sum()) >= ENOUGH_EVENTS:
        best, gain = best_shift(now_H, before_H)
        shift = best if gain > max(SURE, CLOCK_EACH * now_H.sum()) else 0
    yield check_at(
        "events.event_time.past_clock",
        value=abs(shift),
        most=0.0,
        sentence="the busy hours are those of the last good run",
        cause=f"times are shifted by about {shift:+d} hours since the last good run: another time zone?"
        if shift
        else "",
    )


def _swapped(pair: _Pair) -> Iterator[Check]:
    """Days that now have the rows that the day with day and month swapped had."""
    now_D, before_D = pair.figure("rows")
    first = pair.now.day(pair.at_now)
    places = {pair.now.day(pair.at_now + place): place for place in range(pair.num_days)}
    moved = kept = 0
    for day, place in places.items():
        if day.day > 12 or day.day == day.month:
            continue
        other = places.get(date(day.year, day.day, day.month))
        if other is None or before_D[other] < FEW_ROWS or abs(before_D[other] - before_D[place]) < TOLD_APART:
            continue
        moved += int(abs(now_D[place] - before_D[other]) <= SAME_ROWS * before_D[other])
        kept += int(abs(now_D[place] - before_D[place]) <= SAME_ROWS * before_D[place])
    cause = ""
    if moved >= FEWEST_SWAPS and moved > SWAPPED_TO_KEPT * kept:
        cause = f"day and month are swapped: {moved} days since {first} have the rows that the swapped date had"
    yield check_at(
        "events.event_time.past_day_and_month",
        value=moved if cause else 0,
        most=0.0,
        sentence="days have their own rows and not those of the date with day and month swapped",
        cause=cause,
    )
