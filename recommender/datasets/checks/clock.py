"""Whether clocks and calendars fit: the hour by which a day is shifted, the hours of night, swapped day and month.

Shapes: D days, H 24 hours.
"""

from datetime import date

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.statistics import Statistics
from recommender.datasets.statistics.measured import Floats

ENOUGH_EVENTS = 200
"""Events from which a profile of 24 hours is known well enough. Chosen by hand."""
SURE = 30.0
"""Gain in log likelihood from which a shift is certain: e^30 to one, far beyond what thousands of days show by
chance. It must also be a tenth of a unit for each event, so that large days need a large shift too."""
SURE_EACH = 0.1
"""Chosen by hand."""
QUIET = 0.10
"""Share of a day's events in its quietest six hours up to which these are a night. Evenly spread it is 0.25."""


def night_of(hours_H: Floats) -> float | None:
    """Local hour in the middle of the quietest six hours. None where no hours are quiet or too few events are known."""
    total = float(hours_H.sum())
    if total < ENOUGH_EVENTS:
        return None
    window_H = np.array([np.take(hours_H, range(hour, hour + 6), mode="wrap").sum() for hour in range(24)])
    if window_H.min() / total > QUIET:
        return None
    return float((int(window_H.argmin()) + 3) % 24)


def best_shift(hours_H: Floats, usual_H: Floats) -> tuple[int, float]:
    """Hours by which `hours_H` lies later than `usual_H` (−11 to 12), and the gain in log likelihood over no shift."""
    share_H = (usual_H + 1) / (usual_H + 1).sum()
    log_H = np.log(share_H)
    gain = np.array([(hours_H * (np.roll(log_H, shift) - log_H)).sum() for shift in range(24)])
    shift = int(gain.argmax())
    return (shift if shift <= 12 else shift - 24), float(gain[shift])


def hour_shift(hours_DH: Floats) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each day the hours by which it lies later than the others, int64 [D], and whether that is sure, bool [D].

    Days are looked at together with the one before, which doubles what is known of a small shop's hours.
    """
    usual_H = hours_DH.sum(axis=0)
    shift_D = np.zeros(len(hours_DH), dtype=np.int64)
    sure_D = np.zeros(len(hours_DH), dtype=bool)
    if usual_H.sum() < ENOUGH_EVENTS or len(hours_DH) < 7:
        return shift_D, sure_D
    for place in range(len(hours_DH)):
        own_H = hours_DH[max(0, place - 1) : place + 1].sum(axis=0)
        shift, gain = best_shift(own_H, usual_H)
        if abs(shift) >= 2 and gain > max(SURE, SURE_EACH * own_H.sum()):
            shift_D[place], sure_D[place] = shift, True
    return shift_D, sure_D


def swapped(now: Statistics) -> float:
    """How much better days 1 to 12 fit the week if day and month are swapped: 0 where not surely so.

    The pattern of the week is learned from days 13 to 31, which cannot be swapped. Needs a pattern: some weekday must
    differ from the others by a quarter.
    """
    rows_D = now.figure("rows")
    days = [now.day(place) for place in range(now.num_days)]
    level_D = np.log(rows_D + 1) - _smooth(np.log(rows_D + 1))
    late_D = np.array([day.day > 12 for day in days])
    weekday_D = now.weekdays_D
    if late_D.sum() < 30:
        return 0.0
    week = np.array([np.median(level_D[late_D & (weekday_D == w)]) for w in range(7)])
    if week.max() - week.min() < 0.25:
        return 0.0
    gains = []
    for place in np.flatnonzero(~late_D).tolist():
        other = date(days[place].year, days[place].day, days[place].month)
        if rows_D[place] > 0 and other.weekday() != days[place].weekday():
            own, swap = week[days[place].weekday()], week[other.weekday()]
            gains.append((level_D[place] - own) ** 2 - (level_D[place] - swap) ** 2)
    if len(gains) < 12:
        return 0.0
    mean, error = float(np.mean(gains)), float(np.std(gains) / np.sqrt(len(gains)))
    # Six standard errors: the search is made once a run, and a false alarm would stop it.
    return mean if mean > 6 * error else 0.0


def _smooth(values_D: Floats) -> Floats:
    """The mean of 28 days around each day: whole weeks, so that weekdays cancel."""
    padded = np.pad(values_D, 14, mode="edge")
    return np.convolve(padded, np.ones(28) / 28, mode="valid")[: len(values_D)]
