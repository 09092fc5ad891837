"""Whether clocks fit: the hour by which a day is shifted, and the hours of night.

Shapes: D days, H 24 hours.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.checks.check import Check, check_at, days_in_words, longest_run
from recommender.datasets.statistics import Statistics
from recommender.datasets.statistics.measured import Floats

ENOUGH_EVENTS = 200
"""Events from which a profile of 24 hours is known well enough. Chosen by hand."""
SURE = 30.0
"""Gain in log likelihood from which a shift is certain: e^30 to one, far beyond what thousands of days show by
chance. It must also be a tenth of a unit for each event, so that large days need a large shift too."""
SURE_EACH = 0.1
"""Chosen by hand."""
NIGHT, NIGHT_TOLERANCE = 3.5, 5.0
"""Middle of the quietest six hours of ordinary shops, and hours by which it may differ: bars and early trade too."""
SUMMER_TIME = 1.0
"""Hours by which a day's busy hours may lie elsewhere."""
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


def busy_hours(now: Statistics) -> Iterator[Check]:
    """The shop's night in the middle of the day, and days whose clock differs from the others'."""
    hours_DH = now.hours_DH
    if (night := night_of(hours_DH.sum(axis=0))) is not None:
        away = float(min((night - NIGHT) % 24, (NIGHT - night) % 24))
        by = round((night - NIGHT + 12) % 24 - 12)
        yield check_at(
            "events.event_time.night",
            severity="warning",
            value=away,
            most=NIGHT_TOLERANCE,
            sentence="the quietest hours of the day are at night",
            cause=f"the quietest hours lie around {night:.0f}:00 local time: times {by:+d} h, in another time zone?",
        )
    shift_D, sure_D = hour_shift(hours_DH)
    run = longest_run(sure_D)
    cause, value = "", 0.0
    if run is not None and run[1] > run[0]:  # one short day is a holiday
        value = float(np.median(shift_D[run[0] : run[1] + 1][sure_D[run[0] : run[1] + 1]]))
        cause = f"times are shifted by about {value:+.0f} hours {days_in_words(now, run)}: another time zone?"
    yield check_at(
        "events.event_time.clock",
        value=abs(value),
        most=SUMMER_TIME,
        sentence="all days have the same busy hours",
        cause=cause,
    )
