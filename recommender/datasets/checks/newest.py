"""Checks of the newest days against the shop's own earlier days.

Every figure of a day is taken relative to its weekday and to the median of the two weeks before (robust against single
odd days, fast enough for a season). The same is computed for every earlier day, so that the shop's own history shows
how far such a figure strays on good days. The limit is the largest of

- a smallest effect that would matter (`Kind.least_drop` and so on),
- `SIGMAS` robust standard deviations (from the median absolute deviation), more while the history is short,
- `TAIL` times the 99th percentile of the history, which adapts to heavy tails and to earlier peaks,
- one and a half times what the same days of the year did a year ago, if the log is that long: holidays.

About 20 figures are looked at over one, two and seven days. Together they may raise one false alarm in 100 good days:
`benchmarks.accidents` counts how many they raise in simulated shops with seasons, heavy tails, holidays and dependence.

Shapes: D days.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recommender.datasets.checks.check import DEVIATION, Check, check_at, days_in_words
from recommender.datasets.checks.clock import ENOUGH_EVENTS
from recommender.datasets.statistics import Statistics
from recommender.datasets.statistics.measured import Floats
from recommender.datasets.tables import EVENT_KINDS

HORIZONS = (1, 2, 7)
"""Days that are averaged: a lost day, a lost pair of files, and a slow loss that one day's noise hides."""
LEVEL_DAYS = 14
"""Two weeks hold every weekday twice. Chosen by hand."""
FEWEST_DAYS = 35
"""Days of history below which nothing is learned: five of each weekday."""
SIGMAS, TAIL = 6.0, 1.8
"""Chosen by the simulation of `benchmarks.accidents`, so that all checks together stay below the budget."""
YEAR_AGO_DAYS, YEAR_AGO_TIMES = 3, 1.5
"""Days around the same weekday a year ago, since holidays move, and how much more than then a day may stray."""
PARTIAL_DAY = 0.05
"""A last day that ends earlier than nineteen of twenty is not whole."""
FEWEST_WEEKS = 8
"""Weeks of returning users from which their spread is known. Chosen by hand."""
LEAST_LOSS, FEW_SIGMAS = 0.1, 8.0
"""The smallest loss of returning users that matters, and the deviations that it must exceed: more than `SIGMAS`, since
a week's share has few values to learn from."""
WEEKS_BEFORE = 4
"""Weeks in which a kind must have come, so that a week without it is a loss. Chosen by hand."""
USUAL_ROWS = 30
"""Rows of a usual day below which its figures are mostly chance, and of a week below which a kind may be silent."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a figure is judged: the smallest effects that matter for 1, 2 and 7 days, in the figure's own units."""

    least_drop: tuple[float, float, float]
    least_rise: tuple[float, float, float]
    words: str


def _ln(*ratios: float) -> tuple[float, float, float]:
    one, two, week = (float(np.log(ratio)) for ratio in ratios)
    return one, two, week


VOLUME = Kind(least_drop=_ln(1.5, 1.4, 1.17), least_rise=_ln(3, 3, 2), words="{what} are {times} times the usual")
"""Least changes that count, tuned on simulated good days (`make bench-accidents`)."""
MONEY = Kind(
    least_drop=_ln(1.8, 1.6, 1.4), least_rise=_ln(1.8, 1.6, 1.4), words="mean {what} is {times} times the usual"
)
"""The same for means of money."""
SHARE = Kind(
    least_drop=_ln(2.5, 2, 1.6), least_rise=_ln(2.5, 2, 1.6), words="the share of {what} is {times} times the usual"
)
"""The same for shares."""
ABSENT = Kind(least_drop=(0.3, 0.3, 0.2), least_rise=(0.3, 0.3, 0.2), words="the share of missing {what} moved by {by}")
"""The same for shares of missing values, as differences."""


def newest(now: Statistics) -> list[Check]:
    """All checks of the newest days. None for a log that is too short or too small to learn from."""
    days = now.num_days - int(_last_day_is_partial(now))
    if days < FEWEST_DAYS + HORIZONS[-1] or np.median(now.figure("rows")) < USUAL_ROWS:
        return []
    checks = [
        check
        for name, what, kind, values_D in _figures(now)
        for check in _judge(now, name, what, kind, values_D[:days])
    ]
    return [*checks, *_silent(now, days), *_returning(now)]


def _last_day_is_partial(now: Statistics) -> bool:
    """Whether the log ends in the middle of its last day: earlier than nineteen of twenty days end."""
    ends_D = now.figure("last_hour")
    known = ends_D[:-1][np.isfinite(ends_D[:-1])]
    return len(known) > 0 and bool(ends_D[-1] < np.quantile(known, PARTIAL_DAY))


def _figures(now: Statistics) -> Iterator[tuple[str, str, Kind, Floats]]:
    rows_D = now.figure("rows")
    yield "events.rows", "events", VOLUME, _volume(rows_D)
    yield "events.users", "users", VOLUME, _volume(now.figure("users"))
    for column in ("amount", "quantity"):
        level_D = now.figure(f"log:{column}")
        if np.isfinite(level_D).mean() > 0.9:
            yield f"events.{column}", column, MONEY, _filled(level_D)
    for kind in EVENT_KINDS:
        if not np.isfinite(now.figure(f"kind:{kind}")).any():
            continue
        share_D = _filled(np.where(rows_D > 0, now.figure(f"kind:{kind}") / np.maximum(rows_D, 1), np.nan))
        if 0.02 < np.median(share_D) < 0.98 and np.median(now.figure(f"kind:{kind}")) >= USUAL_ROWS:
            yield f"events.kind.{kind}", f"the kind {kind}", SHARE, np.log(share_D + 0.002)
    for name, share_D in now.days.items():
        if name.startswith("null:") and np.isfinite(share_D).mean() > 0.9:
            column = name.removeprefix("null:")
            yield f"events.{column}.missing", column, ABSENT, _filled(share_D)


def _volume(rows_D: Floats) -> Floats:
    """Logarithm of a count. A day without any row counts as the same day a week before: `alone` judges missing days."""
    rows_D = rows_D.copy()
    for place in np.flatnonzero(rows_D == 0):
        rows_D[place] = rows_D[place - 7] if place >= 7 else np.median(rows_D)
    logs: Floats = np.log(rows_D + 1)
    return logs


def _filled(values_D: Floats) -> Floats:
    """Days without a value get the median."""
    return np.where(np.isfinite(values_D), values_D, np.nanmedian(values_D))


def deviations(values_D: Floats, weekday_D: np.ndarray, horizon: int) -> Floats:
    """Mean of the last `horizon` days against the median of the two weeks before, each relative to its weekday.

    float64 [D]. NaN for the first days, which have no two weeks before them.
    """
    trailing_D = np.convolve(np.pad(values_D, (6, 0), mode="edge"), np.ones(7) / 7, mode="valid")
    week = np.array([np.median((values_D - trailing_D)[weekday_D == w]) for w in range(7)])
    own_D = values_D - week[weekday_D]
    found_D = np.full(len(own_D), np.nan)
    if len(own_D) < LEVEL_DAYS + horizon:
        return found_D
    level = np.median(np.lib.stride_tricks.sliding_window_view(own_D, LEVEL_DAYS), axis=1)
    mean = np.convolve(own_D, np.ones(horizon) / horizon, mode="valid")
    found_D[LEVEL_DAYS + horizon - 1 :] = mean[LEVEL_DAYS:] - level[: len(mean) - LEVEL_DAYS]
    return found_D


def limits(away_D: Floats, horizon: int, kind: Kind) -> tuple[float, float]:
    """Lowest and highest deviation that the newest day may have, learned from the days before it."""
    past = away_D[:-horizon]
    past = past[np.isfinite(past)]
    place = HORIZONS.index(horizon)
    spread = DEVIATION * float(np.median(np.abs(past - np.median(past))))
    # Days that overlap carry less: a week's mean has a seventh as many independent values.
    wide = SIGMAS * (1 + 40 * horizon**0.5 / len(past)) * spread
    drop = max(kind.least_drop[place], wide, -TAIL * float(np.quantile(past, 0.01)))
    rise = max(kind.least_rise[place], wide, TAIL * float(np.quantile(past, 0.99)))
    if len(away_D) > 365 + LEVEL_DAYS + YEAR_AGO_DAYS + horizon:
        place_then = len(away_D) - 1 - 364
        then = away_D[place_then - YEAR_AGO_DAYS : place_then + YEAR_AGO_DAYS + 1]
        drop = max(drop, -YEAR_AGO_TIMES * float(np.nanmin(then)))
        rise = max(rise, YEAR_AGO_TIMES * float(np.nanmax(then)))
    return -drop, rise


def _judge(now: Statistics, name: str, what: str, kind: Kind, values_D: Floats) -> Iterator[Check]:
    for horizon in HORIZONS:
        away_D = deviations(values_D, now.weekdays_D[: len(values_D)], horizon)
        least, most = limits(away_D, horizon, kind)
        value = float(away_D[-1])
        span = np.arange(len(values_D) - horizon, len(values_D))
        when = days_in_words(now, span) if horizon > 1 else f"on {now.day(int(span[0]))}"
        words = kind.words.format(what=what, times=f"{np.exp(value):.2g}", by=f"{value:+.0%}")
        yield check_at(
            f"{name}.newest_{horizon}d",
            at="events",
            severity="warning",
            value=value,
            least=least,
            most=most,
            sentence=f"{what}: the newest {horizon} day(s) are as far from usual as good days are",
            cause=f"{words} {when}" + (_loss(name, value)),
        )


def _loss(name: str, value: float) -> str:
    if value > 0:
        return ""
    if name == "events.users":
        return ": some users no longer in the export?"
    return ": part of a file missing?" if name == "events.rows" else ""


def _silent(now: Statistics, num_days: int) -> Iterator[Check]:
    """Kinds of which the newest week has no event, also where a day has too few of them to be judged by itself."""
    for kind in EVENT_KINDS:
        rows_D = now.figure(f"kind:{kind}")[:num_days]
        whole = rows_D[len(rows_D) % 7 :].reshape(-1, 7).sum(axis=1)
        before = whole[-1 - WEEKS_BEFORE : -1]
        if len(before) == WEEKS_BEFORE and np.min(before) >= USUAL_ROWS:
            yield check_at(
                f"events.kind.{kind}.silent",
                at="events",
                severity="warning",
                value=float(whole[-1]),
                least=1.0,
                sentence=f"the newest 7 days have an event of the kind {kind}",
                cause=f"no event of the kind {kind} {days_in_words(now, np.arange(num_days - 7, num_days))}, and at "
                f"least {np.min(before):,.0f} in each of the {WEEKS_BEFORE} weeks before: no longer exported?",
            )


def _returning(now: Statistics) -> Iterator[Check]:
    """Users of the last weeks who do not come back."""
    shares = np.array(now.returning)
    shares = shares[np.isfinite(shares)]
    if (
        len(shares) < FEWEST_WEEKS
        or now.keys.get("users with events") is None
        or now.figure("users").sum() < ENOUGH_EVENTS
    ):
        return
    past, value = shares[:-1], float(shares[-1])
    middle = float(np.median(past))
    spread = DEVIATION * float(np.median(np.abs(past - middle)))
    limit = max(LEAST_LOSS * middle, FEW_SIGMAS * spread, TAIL * float(middle - past.min()))
    yield check_at(
        "events.users.returning",
        at="events.user_id",
        severity="warning",
        value=value,
        least=middle - limit,
        sentence="as many of the users of the last weeks came back as usual",
        cause=f"only {value:.0%} of the users of four weeks came back in the week after, usually {middle:.0%}: a part "
        "of the users silent, or user ids re-encoded?",
    )
