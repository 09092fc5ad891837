"""Curves of one ranker: ROC, precision and recall, and calibration, thinned for plotting.

Shapes: N pairs · G groups of tied scores.
"""

import math

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.document import CalibrationBin
from recommender.evaluation.metrics import Floats, ScoredPairs, equal_mass_bins

MAX_POINTS = 100
"""Points of a curve: more than a plot of a page's width can show apart."""
CALIBRATION_BINS = 10
"""Fewer bins than the calibration error has (`metrics.NUM_BINS`), so that each interval in the plot is short. By
hand."""


def roc_points(pairs: ScoredPairs, max_points: int = MAX_POINTS) -> list[tuple[float, float, float]]:
    """List at most `max_points` points (false positive rate, true positive rate, threshold) from (0, 0) to (1, 1).

    All thresholds are finite, since JSON has no infinity. The first one is just above the highest score.
    """
    thresholds_G, positives_G, negatives_G = _counts_from_top(pairs)
    if positives_G[-1] == 0 or negatives_G[-1] == 0:
        return []
    start = float(np.nextafter(thresholds_G[0], np.inf))
    points = [(0.0, 0.0, start)]
    rates = zip(negatives_G / negatives_G[-1], positives_G / positives_G[-1], thresholds_G, strict=True)
    points += [(float(f), float(t), float(threshold)) for f, t, threshold in rates]
    return [points[k] for k in _thinned(len(points), max_points)]


def precision_recall_points(pairs: ScoredPairs, max_points: int = MAX_POINTS) -> list[tuple[float, float]]:
    """List at most `max_points` points (recall, precision), one for each threshold from the highest score down."""
    _, positives_G, negatives_G = _counts_from_top(pairs)
    if positives_G[-1] == 0:
        return []
    points = list(zip(positives_G / positives_G[-1], positives_G / (positives_G + negatives_G), strict=True))
    return [(float(points[k][0]), float(points[k][1])) for k in _thinned(len(points), max_points)]


def calibration_bins(pairs: ScoredPairs, num_bins: int = CALIBRATION_BINS) -> list[CalibrationBin]:
    """Compare mean prediction and observed share in bins of equally many pairs, with Wilson intervals."""
    bins_N = equal_mass_bins(pairs.score_N, num_bins)
    bins = []
    for k in range(int(bins_N.max(initial=-1)) + 1):
        inside = bins_N == k
        count, redeemed = int(inside.sum()), float(pairs.redeemed_N[inside].sum())
        low, high = _wilson(redeemed, count)
        predicted = float(pairs.score_N[inside].mean())
        bins.append(CalibrationBin(predicted=predicted, observed=redeemed / count, low=low, high=high, count=count))
    return bins


def _wilson(successes: float, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Compute the Wilson score interval of a share (Wilson, JASA, 1927).

    `z` is by default the normal quantile of a two-sided 95 % interval.
    """
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def _counts_from_top(pairs: ScoredPairs) -> tuple[Floats, Floats, Floats]:
    """Return the distinct scores, descending, and how many positive and negative pairs score at least as high."""
    order_N = np.argsort(-pairs.score_N, kind="stable")
    score_N, redeemed_N = pairs.score_N[order_N], pairs.redeemed_N[order_N]
    last_G = np.flatnonzero(np.r_[score_N[1:] != score_N[:-1], True])
    positives_G = np.cumsum(redeemed_N)[last_G]
    return score_N[last_G], positives_G, last_G + 1 - positives_G


def _thinned(count: int, most: int) -> NDArray[np.int64]:
    """Return the rows to keep: all of them, or `most` evenly spread ones with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
