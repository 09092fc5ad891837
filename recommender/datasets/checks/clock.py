"""Whether clocks fit: the hour by which a day is shifted, and the hours of night.

Shapes: D days, H 24 hours.
"""

import numpy as np
from numpy.typing import NDArray

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
