"""Metrics of a ranker's scores: exact definitions, vectorised over the weights of a bootstrap.

Every metric takes scored pairs and weights of shape [R, N]: one row for each resample, or one row of ones for the
estimate itself. It returns R values, NaN where a resample leaves the metric undefined (only one class, or no user with
both).

Shapes: N pairs · R resamples · G groups of tied scores · H users · K bins · n pairs of one user.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import DEFAULT_SEED

Floats = NDArray[np.float64]
MIN_PROBABILITY = 1e-7
"""Probabilities are kept this far from 0 and 1, so that one certain mistake does not make the log loss infinite. It is
about the resolution of the float32 scores near 1."""
TOP_SHARE = 0.1
"""Share of the best-scored pairs that `lift_10` measures: 10 %."""
NDCG_AT = 3
"""Places that count for `ndcg_3`. Few, because a user has few campaigns at a time."""
DRAWN_AT_ONCE = 4_000_000
"""Outcomes that `ece_floor` draws at once: 32 MB."""
NUM_BINS = 15
"""Bins of the calibration error, as in Guo et al., "On calibration of modern neural networks", ICML 2017."""


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Scores of one ranker for N pairs, with their outcomes."""

    redeemed_N: Floats
    score_N: Floats
    """Probability of participation."""
    users_N: NDArray[np.int64]
    """Number of the pair's user, from 0."""

    @property
    def ones(self) -> Floats:
        """The weights that give the estimate itself, float64 [1, N]."""
        return np.ones((1, len(self.redeemed_N)))


def auc(pairs: ScoredPairs, weights_RN: Floats) -> Floats:
    """Area under the ROC curve: probability that a positive pair scores above a negative one. Ties count half.

    Hanley & McNeil (Radiology, 1982), by the Mann–Whitney statistic.
    """
    positive_RG, negative_RG = _weights_by_score(pairs, weights_RN)
    below_RG = np.cumsum(negative_RG, axis=1) - negative_RG
    concordant_R = (positive_RG * (below_RG + 0.5 * negative_RG)).sum(axis=1)
    return _ratio(concordant_R, positive_RG.sum(axis=1) * negative_RG.sum(axis=1))


def average_precision(pairs: ScoredPairs, weights_RN: Floats) -> Floats:
    """Average precision: precision at each threshold, weighted by the recall that it adds. Ties share a threshold.

    It is not interpolated, for the reasons in Davis & Goadrich (ICML 2006).
    """
    positive_RG, negative_RG = (part[:, ::-1] for part in _weights_by_score(pairs, weights_RN))
    true_positives_RG = np.cumsum(positive_RG, axis=1)
    selected_RG = true_positives_RG + np.cumsum(negative_RG, axis=1)
    precision_RG = np.divide(
        true_positives_RG, selected_RG, out=np.zeros_like(true_positives_RG), where=selected_RG > 0
    )
    return _ratio((positive_RG * precision_RG).sum(axis=1), true_positives_RG[:, -1])


def log_loss(pairs: ScoredPairs, weights_RN: Floats) -> Floats:
    """Mean negative log-likelihood of the outcomes, in nats, which is a proper score (Good, JRSS B, 1952)."""
    return _ratio(weights_RN @ log_losses(pairs), weights_RN.sum(axis=1))


def log_losses(pairs: ScoredPairs) -> Floats:
    """Log loss of each pair, in nats, float64 [N]."""
    score_N = np.clip(pairs.score_N, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    return -np.log(np.where(pairs.redeemed_N > 0.5, score_N, 1 - score_N))


def brier(pairs: ScoredPairs, weights_RN: Floats) -> Floats:
    """Brier score: mean squared difference of probability and outcome (Brier, Monthly Weather Review, 1950)."""
    return _ratio(weights_RN @ (pairs.score_N - pairs.redeemed_N) ** 2, weights_RN.sum(axis=1))


def ece(pairs: ScoredPairs, weights_RN: Floats) -> Floats:
    """Expected calibration error: mean distance of predicted and observed share over bins of equally many pairs.

    Naeini et al. (AAAI 2015), with equal-mass bins (Nixon et al., CVPR workshops, 2019). On few pairs it is biased
    upwards, so read it beside `ece_floor`.
    """
    bins_N = equal_mass_bins(pairs.score_N)
    member_NK = np.eye(int(bins_N.max(initial=0)) + 1)[bins_N]
    gap_RK = weights_RN @ (member_NK * (pairs.score_N - pairs.redeemed_N)[:, None])
    return _ratio(np.abs(gap_RK).sum(axis=1), weights_RN.sum(axis=1))


def ece_floor(pairs: ScoredPairs, *, draws: int = 200, seed: int = DEFAULT_SEED) -> float:
    """Calibration error that a perfectly calibrated ranker with these scores has by chance on as few pairs.

    Consistency resampling (Bröcker & Smith, Weather and Forecasting, 2007): outcomes are drawn from the scores
    themselves. The mean of 200 draws has a standard error of about a fourteenth of one draw's spread.
    """
    random, count = np.random.default_rng(seed), len(pairs.score_N)
    bins_N = equal_mass_bins(pairs.score_N)
    member_NK = np.eye(int(bins_N.max(initial=0)) + 1)[bins_N]
    gaps: list[Floats] = []
    for start in range(0, draws, at_once := max(1, DRAWN_AT_ONCE // max(count, 1))):
        drawn_RN = random.random((min(at_once, draws - start), count)) < pairs.score_N
        gaps.append(np.abs((pairs.score_N - drawn_RN) @ member_NK).sum(axis=1))
    return float(np.concatenate(gaps).mean() / max(count, 1))


def excess_ece(pairs: ScoredPairs) -> float:
    """Calibration error beyond `ece_floor`, at least 0."""
    return max(0.0, float(ece(pairs, pairs.ones)[0]) - ece_floor(pairs))


def gauc(pairs: ScoredPairs, weights_RN: Floats) -> Floats:
    """AUC within each user who has both outcomes, averaged with the user's number of pairs as weight.

    Zhu et al. (KDD 2017, section 4), Zhou et al. (KDD 2018, DIN).
    """
    return _per_user(pairs, weights_RN, _auc_of_user)


def ndcg(pairs: ScoredPairs, weights_RN: Floats) -> Floats:
    """NDCG@3 within each user who has a redemption and more than one pair, averaged over users.

    Järvelin & Kekäläinen (TOIS 2002). Tied scores share the mean gain of their places (McSherry & Najork, ECIR 2008).
    """
    return _per_user(pairs, weights_RN, _ndcg_of_user)


def lift(pairs: ScoredPairs, weights_RN: Floats) -> Floats:
    """Participation rate among the best-scored tenth of pairs over that of all. A tie at the edge counts partly."""
    positive_RG, negative_RG = (part[:, ::-1] for part in _weights_by_score(pairs, weights_RN))
    selected_RG = np.cumsum(positive_RG + negative_RG, axis=1)
    top_R1 = TOP_SHARE * selected_RG[:, -1:]
    size_RG = positive_RG + negative_RG
    inside_RG = np.clip(top_R1 - (selected_RG - size_RG), 0, size_RG)
    in_top_RG = positive_RG * np.divide(inside_RG, size_RG, out=np.zeros_like(size_RG), where=size_RG > 0)
    return _ratio(in_top_RG.sum(axis=1), TOP_SHARE * positive_RG.sum(axis=1))


@dataclass(frozen=True)
class Metric:
    """A metric with its direction and its title for people."""

    compute: Callable[[ScoredPairs, Floats], Floats]
    higher_is_better: bool
    title: str
    biased: bool = False
    """Whether resamples lie above the estimate only because they repeat pairs. Intervals are corrected for it."""

    def gain(self, difference: Floats) -> Floats:
        """Return a difference with the sign such that more is better."""
        return difference if self.higher_is_better else -difference


METRICS = {
    "auc": Metric(auc, True, "AUC"),
    "ap": Metric(average_precision, True, "average precision"),
    "log_loss": Metric(log_loss, False, "log loss"),
    "brier": Metric(brier, False, "Brier score"),
    "ece": Metric(ece, False, "calibration error (ECE)", biased=True),
    "gauc": Metric(gauc, True, "GAUC per user"),
    "ndcg_3": Metric(ndcg, True, "NDCG@3 per user"),
    "lift_10": Metric(lift, True, "lift of the best tenth"),
}


def equal_mass_bins(score_N: Floats, num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """Assign pairs to bins 0 … K - 1 of equal size, as far as ties allow. Tied scores share a bin."""
    if len(score_N) == 0:
        return np.zeros(0, dtype=np.int64)
    edges = np.unique(np.quantile(score_N, np.linspace(0, 1, num_bins + 1)[1:-1]))
    bins_N = np.searchsorted(edges, score_N, side="right")
    return np.unique(bins_N, return_inverse=True)[1].astype(np.int64)


class _Last(threading.local):
    """The last sums of a thread, because several metrics of the same pairs and weights follow each other."""

    pairs: ScoredPairs | None = None
    weights_RN: Floats | None = None
    sums: tuple[Floats, Floats]


_LAST = _Last()


def forget_sums() -> None:
    """Free the memory of the sums that are kept for the next metric of the same pairs."""
    _LAST.pairs = _LAST.weights_RN = None
    _LAST.sums = (np.zeros((0, 0)), np.zeros((0, 0)))


def _weights_by_score(pairs: ScoredPairs, weights_RN: Floats) -> tuple[Floats, Floats]:
    """Sum the weights of positive and of negative pairs at each distinct score, ascending: two arrays [R, G]."""
    if _LAST.pairs is not pairs or _LAST.weights_RN is not weights_RN:
        forget_sums()
        _LAST.sums = _sums_by_score(pairs, weights_RN)
        _LAST.pairs, _LAST.weights_RN = pairs, weights_RN
    return _LAST.sums


def _sums_by_score(pairs: ScoredPairs, weights_RN: Floats) -> tuple[Floats, Floats]:
    order_N = np.argsort(pairs.score_N, kind="stable")
    score_N, redeemed_N = pairs.score_N[order_N], pairs.redeemed_N[order_N]
    if len(score_N) == 0:
        empty = np.zeros((len(weights_RN), 1))
        return empty, empty
    starts_G = np.flatnonzero(np.r_[True, score_N[1:] != score_N[:-1]])
    sorted_RN = weights_RN[:, order_N]
    positive_RG = np.add.reduceat(sorted_RN * redeemed_N, starts_G, axis=1)
    return positive_RG, np.add.reduceat(sorted_RN, starts_G, axis=1) - positive_RG


def _per_user(
    pairs: ScoredPairs, weights_RN: Floats, value_and_size: Callable[[Floats, Floats], tuple[float, float] | None]
) -> Floats:
    """Average a value over users, weighted by its size.

    Users are resampled with all their pairs, so their values stay the same and only their weights change.
    """
    order_N = np.argsort(pairs.users_N, kind="stable")
    users_N = pairs.users_N[order_N]
    starts_H = np.flatnonzero(np.r_[True, users_N[1:] != users_N[:-1]]) if len(users_N) else np.zeros(0, dtype=int)
    firsts, values, sizes = [], [], []
    for rows in np.split(order_N, starts_H[1:]):
        result = value_and_size(pairs.redeemed_N[rows], pairs.score_N[rows])
        if result is not None:
            firsts.append(rows[0])
            values.append(result[0])
            sizes.append(result[1])
    weight_RH = weights_RN[:, firsts] * np.asarray(sizes) if firsts else np.zeros((len(weights_RN), 0))
    return _ratio(weight_RH @ np.asarray(values, dtype=float), weight_RH.sum(axis=1))


def _auc_of_user(redeemed_n: Floats, score_n: Floats) -> tuple[float, float] | None:
    positive, negative = score_n[redeemed_n > 0.5], score_n[redeemed_n < 0.5]
    if len(positive) == 0 or len(negative) == 0:
        return None
    difference = positive[:, None] - negative[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean()), float(len(score_n))


def _ndcg_of_user(redeemed_n: Floats, score_n: Floats) -> tuple[float, float] | None:
    if len(score_n) < 2 or redeemed_n.max() < 0.5:
        return None
    discounts = 1 / np.log2(np.arange(2, len(score_n) + 2))
    discounts[NDCG_AT:] = 0
    place = (score_n[None, :] > score_n[:, None]).sum(axis=1)
    ties = (score_n[None, :] == score_n[:, None]).sum(axis=1)
    mean_discounts = np.array([discounts[p : p + t].mean() for p, t in zip(place, ties, strict=True)])
    ideal = discounts[: int(redeemed_n.sum())].sum()
    return float((redeemed_n * mean_discounts).sum() / ideal), 1.0


def _ratio(numerator_R: Floats, denominator_R: Floats) -> Floats:
    """Divide, with NaN where the denominator is 0."""
    ratio_R = np.full(len(numerator_R), np.nan)
    np.divide(numerator_R, denominator_R, out=ratio_R, where=denominator_R > 0)
    return ratio_R
