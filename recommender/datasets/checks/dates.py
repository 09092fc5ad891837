"""Whether day and month of a log's dates are swapped, judged from the rows of each day alone.

A reader that takes 05.03. for the 3rd of May moves only days 1 to 12. Days 13 to 31 stay, so they show what the shop is
like. A person would see one of three signs, each of which is enough:

- All dates have a day of 12 or less.
- Some months have rows on days 1 to 12 only, and on none but those days whose number is a month of the real log:
  swapped dates that left the real range.
- Days 1 to 12 fit level and week of the days 13 to 31 around the swapped date, and not around their own.

Shapes: D days.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date

import numpy as np

from recommender.datasets.checks.check import Check, check_at
from recommender.datasets.statistics import Statistics
from recommender.datasets.statistics.measured import Floats

LAST_MONTH = 12
"""Days up to this one can be months."""
FEWEST_DAYS, FEWEST_ROWS = 60, 100
"""A shorter or smaller log shows none of the signs. Chosen by hand."""
ONLY_EARLY = 0.95
"""Share of rows on days 1 to 12 from which the log has no others. Usually it is 0.39. Chosen by hand."""
STRAY_MONTHS, STRAY_DAYS, STRAY_SHARE = 2, 6, 0.95
"""Months with early days only, their days with rows, and the share of these rows that must swap into the real log. One
month can be the log's last, and six days are beyond chance: 12 in 30 a day, with half of the months real."""
FULL_DAYS = 10
"""Days after the 12th with rows from which a month belongs to the real log: more than half of the 16 to 19."""
FEWEST_PAIRS = 12
"""Days that can be compared with the swapped date. Chosen by hand."""
SURE = 6.0
"""Standard errors by which the swapped dates must fit better: the search is made in every run, and a false alarm would
stop it."""
MONTH = tuple[int, int]


def day_and_month(now: Statistics) -> Iterator[Check]:
    """The check that day and month are not swapped. Nothing for a short log."""
    if now.num_days < FEWEST_DAYS or now.figure("rows").sum() < FEWEST_ROWS:
        return
    evidence = swapped(now)
    yield check_at(
        "events.event_time.day_and_month",
        value=1.0 if evidence else 0.0,
        most=0.0,
        sentence="day and month of the dates are not swapped",
        cause=f"day and month look swapped: {evidence}; name the order with `formats`" if evidence else "",
    )


def swapped(now: Statistics) -> str:
    """What shows that day and month are swapped, in words. Empty where nothing does."""
    rows_D = now.figure("rows")
    dates = [now.day(place) for place in range(now.num_days)]
    early_D = np.array([day.day <= LAST_MONTH for day in dates])
    if rows_D[early_D].sum() > ONLY_EARLY * rows_D.sum():
        return f"all dates have a day of {LAST_MONTH} or less"
    rows_of = {day: float(rows) for day, rows in zip(dates, rows_D, strict=True) if rows > 0}
    return _strays(rows_of) or _fits_swapped(rows_of)


def _months(rows_of: dict[date, float]) -> set[MONTH]:
    """The months of the real log: those with rows on most days after the 12th."""
    late = Counter((day.year, day.month) for day in rows_of if day.day > LAST_MONTH)
    return {month for month, days in late.items() if days >= FULL_DAYS}


def _strays(rows_of: dict[date, float]) -> str:
    """Months without a row after the 12th, whose days are months of the real log."""
    real = _months(rows_of)
    newest = max(rows_of)
    # The last month of a log may have begun only.
    whole = {(day.year, day.month) for day in rows_of if day.day > LAST_MONTH} | {(newest.year, newest.month)}
    strays = [day for day in rows_of if (day.year, day.month) not in whole]
    months = sorted({(day.year, day.month) for day in strays})
    if len(months) < STRAY_MONTHS or len(strays) < STRAY_DAYS:
        return ""
    # The months at the log's ends are not full, but belong to it.
    near = real | {(y + (m + step - 1) // 12, (m + step - 1) % 12 + 1) for y, m in real for step in (-1, 1)}
    inside = sum(rows_of[day] for day in strays if (day.year, day.day) in near)
    if inside < STRAY_SHARE * sum(rows_of[day] for day in strays):
        return ""
    first, last = months[0], months[-1]
    return (
        f"{len(months)} months from {first[0]}-{first[1]:02d} to {last[0]}-{last[1]:02d} have rows on days 1 to "
        f"{LAST_MONTH} only, whose numbers are months in which the shop has rows on all days"
    )


def _fits_swapped(rows_of: dict[date, float]) -> str:
    """Early days whose rows are those of the swapped date, by level and weekday of the days after the 12th."""
    months = _months(rows_of)
    log_of = {day: float(np.log(rows + 1)) for day, rows in rows_of.items()}
    level = {month: float(np.median(_late(log_of, month))) for month in months}
    week = np.zeros(7)
    for weekday in range(7):
        away = [
            log - level[(day.year, day.month)]
            for day, log in log_of.items()
            if day.day > LAST_MONTH and (day.year, day.month) in months and day.weekday() == weekday
        ]
        week[weekday] = np.median(away) if away else 0.0
    gains = []
    for day, log in log_of.items():
        if day.day > LAST_MONTH or day.day == day.month:
            continue
        own, other = (_expected(one, level, week) for one in (day, date(day.year, day.day, day.month)))
        if own is not None and other is not None:
            gains.append((log - own) ** 2 - (log - other) ** 2)
    if len(gains) < FEWEST_PAIRS:
        return ""
    mean, error = float(np.mean(gains)), float(np.std(gains) / np.sqrt(len(gains)))
    if mean <= SURE * error:
        return ""
    return f"days 1 to {LAST_MONTH} fit the other days' level and week only with day and month exchanged"


def _late(log_of: dict[date, float], month: MONTH) -> list[float]:
    return [log for day, log in log_of.items() if day.day > LAST_MONTH and (day.year, day.month) == month]


def _expected(day: date, level: dict[MONTH, float], week: Floats) -> float | None:
    """Logarithm of the rows of an early day, by the late days of its month and of the month before."""
    before = (day.year, day.month - 1) if day.month > 1 else (day.year - 1, 12)
    around = [level[month] for month in (before, (day.year, day.month)) if month in level]
    return float(np.mean(around) + week[day.weekday()]) if around else None
