"""Curves of one ranker: ROC, precision and recall, calibration; thinned to what a picture can show.

Shapes: N pairs · G groups of tied scores.
"""

import math

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.document import CalibrationBin
from recommender.evaluation.metrics import Floats, Judged, equal_mass_bins

MAX_POINTS = 100
CALIBRATION_BINS = 10


def roc_points(judged: Judged, max_points: int = MAX_POINTS) -> list[tuple[float, float, float]]:
    """(false positive rate, true positive rate, threshold) from (0, 0) to (1, 1), at most `max_points` of them.

    Every threshold is finite, the first one just above the highest score: infinity is no JSON.
    """
    thresholds_G, found_G, wrong_G = _counts(judged)
    if found_G[-1] == 0 or wrong_G[-1] == 0:
        return []
    start = float(np.nextafter(thresholds_G[0], np.inf))
    points = [(0.0, 0.0, start)]
    rates = zip(wrong_G / wrong_G[-1], found_G / found_G[-1], thresholds_G, strict=True)
    points += [(float(f), float(t), float(threshold)) for f, t, threshold in rates]
    return [points[k] for k in _thinned(len(points), max_points)]


def precision_recall_points(judged: Judged, max_points: int = MAX_POINTS) -> list[tuple[float, float]]:
    """(recall, precision) at each threshold, from the highest score down."""
    _, found_G, wrong_G = _counts(judged)
    if found_G[-1] == 0:
        return []
    points = list(zip(found_G / found_G[-1], found_G / (found_G + wrong_G), strict=True))
    return [(float(points[k][0]), float(points[k][1])) for k in _thinned(len(points), max_points)]


def calibration_bins(judged: Judged, num_bins: int = CALIBRATION_BINS) -> list[CalibrationBin]:
    """Observed share over mean prediction in bins of equally many pairs, with Wilson intervals (JASA 1927)."""
    bins_N = equal_mass_bins(judged.score_N, num_bins)
    found = []
    for k in range(int(bins_N.max(initial=-1)) + 1):
        inside = bins_N == k
        count, taken = int(inside.sum()), float(judged.redeemed_N[inside].sum())
        low, high = wilson(taken, count)
        predicted = float(judged.score_N[inside].mean())
        found.append(CalibrationBin(predicted=predicted, observed=taken / count, low=low, high=high, count=count))
    return found


def wilson(successes: float, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share."""
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def _counts(judged: Judged) -> tuple[Floats, Floats, Floats]:
    """Distinct scores, descending, and how many with and without a redemption score at least as high."""
    order_N = np.argsort(-judged.score_N, kind="stable")
    score_N, redeemed_N = judged.score_N[order_N], judged.redeemed_N[order_N]
    last_G = np.flatnonzero(np.r_[score_N[1:] != score_N[:-1], True])
    found_G = np.cumsum(redeemed_N)[last_G]
    return score_N[last_G], found_G, last_G + 1 - found_G


def _thinned(count: int, most: int) -> NDArray[np.int64]:
    """Rows to keep: all of them, or `most` spread evenly with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
