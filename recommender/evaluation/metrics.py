"""How good a ranker's scores are: exact definitions, vectorised over the weights of a bootstrap.

Every metric takes N judged pairs and weights of shape [R, N] (one row a resample; ones for the estimate itself) and
returns R values, NaN where a resample leaves the metric undefined (one class only, no user with both).

Shapes: N pairs · R resamples · G groups of tied scores · H users · K bins.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SMALLEST = 1e-7
"""Probabilities are held this far from 0 and 1, so that one sure mistake does not make a log loss infinite."""
TOP_SHARE = 0.1
NDCG_AT = 3
NUM_BINS = 15


@dataclass(frozen=True, eq=False)
class Judged:
    """What one ranker said of N pairs, and what came of them."""

    redeemed_N: Floats
    score_N: Floats
    """Probability of participation."""
    users_N: NDArray[np.int64]
    """Number of the pair's user, 0 … H - 1."""

    @property
    def ones(self) -> Floats:
        """The weights of the estimate itself, [1, N]."""
        return np.ones((1, len(self.redeemed_N)))


def auc(judged: Judged, weights_RN: Floats) -> Floats:
    """Area under the ROC curve: the probability that a redeeming pair scores above one that does not, ties counting half.

    Hanley & McNeil (Radiology, 1982), from the Mann–Whitney statistic.
    """
    positive_RG, negative_RG = _tied(judged, weights_RN)
    below_RG = np.cumsum(negative_RG, axis=1) - negative_RG
    won_R = (positive_RG * (below_RG + 0.5 * negative_RG)).sum(axis=1)
    return _ratio(won_R, positive_RG.sum(axis=1) * negative_RG.sum(axis=1))


def average_precision(judged: Judged, weights_RN: Floats) -> Floats:
    """Precision at each threshold, weighted by the recall it adds, without interpolation; tied scores share a threshold.

    Davis & Goadrich (ICML 2006) on why precision and recall are not interpolated.
    """
    positive_RG, negative_RG = (part[:, ::-1] for part in _tied(judged, weights_RN))
    found_RG = np.cumsum(positive_RG, axis=1)
    shown_RG = found_RG + np.cumsum(negative_RG, axis=1)
    precision_RG = np.divide(found_RG, shown_RG, out=np.zeros_like(found_RG), where=shown_RG > 0)
    return _ratio((positive_RG * precision_RG).sum(axis=1), found_RG[:, -1])


def log_loss(judged: Judged, weights_RN: Floats) -> Floats:
    """Mean negative log-likelihood of what happened, in nats: a proper score (Good, JRSS B, 1952)."""
    return _ratio(weights_RN @ log_losses(judged), weights_RN.sum(axis=1))


def log_losses(judged: Judged) -> Floats:
    """The log loss of each pair, [N]."""
    score_N = np.clip(judged.score_N, SMALLEST, 1 - SMALLEST)
    return -np.log(np.where(judged.redeemed_N > 0.5, score_N, 1 - score_N))


def brier(judged: Judged, weights_RN: Floats) -> Floats:
    """Mean squared difference of probability and outcome (Brier, Monthly Weather Review, 1950)."""
    return _ratio(weights_RN @ (judged.score_N - judged.redeemed_N) ** 2, weights_RN.sum(axis=1))


def ece(judged: Judged, weights_RN: Floats) -> Floats:
    """Expected calibration error: mean distance of predicted and observed share over 15 bins of equally many pairs.

    Naeini et al. (AAAI 2015), with equal-mass bins (Nixon et al., CVPR workshops 2019). It is biased upwards on few pairs:
    read it beside `ece_floor`.
    """
    bins_N = equal_mass_bins(judged.score_N)
    member_NK = np.eye(int(bins_N.max(initial=0)) + 1)[bins_N]
    gap_RK = weights_RN @ (member_NK * (judged.score_N - judged.redeemed_N)[:, None])
    return _ratio(np.abs(gap_RK).sum(axis=1), weights_RN.sum(axis=1))


def ece_floor(judged: Judged, *, draws: int = 200, seed: int = 17) -> float:
    """The ECE that a perfectly calibrated ranker with these scores would show on so few pairs.

    Consistency resampling (Bröcker & Smith, Weather and Forecasting, 2007): outcomes are drawn from the scores themselves.
    """
    drawn = np.random.default_rng(seed).random((draws, len(judged.score_N))) < judged.score_N
    values = [ece(Judged(row.astype(float), judged.score_N, judged.users_N), judged.ones)[0] for row in drawn]
    return float(np.mean(values))


def gauc(judged: Judged, weights_RN: Floats) -> Floats:
    """AUC within each user who has both outcomes, averaged with the user's number of pairs as weight.

    Zhu et al. (KDD 2017, section 4), Zhou et al. (KDD 2018, DIN).
    """
    return _per_user(judged, weights_RN, _auc_of_user)


def ndcg(judged: Judged, weights_RN: Floats) -> Floats:
    """NDCG@3 within each user who has a redemption and more than one pair, averaged over users.

    Järvelin & Kekäläinen (TOIS 2002); tied scores share the mean of their places (McSherry & Najork, ECIR 2008).
    """
    return _per_user(judged, weights_RN, _ndcg_of_user)


def lift(judged: Judged, weights_RN: Floats) -> Floats:
    """Participation among the best-scored tenth of pairs over that of all; a tie at the edge counts by its share."""
    positive_RG, negative_RG = (part[:, ::-1] for part in _tied(judged, weights_RN))
    shown_RG = np.cumsum(positive_RG + negative_RG, axis=1)
    room_R1 = TOP_SHARE * shown_RG[:, -1:]
    size_RG = positive_RG + negative_RG
    inside_RG = np.clip(room_R1 - (shown_RG - size_RG), 0, size_RG)
    taken_RG = positive_RG * np.divide(inside_RG, size_RG, out=np.zeros_like(size_RG), where=size_RG > 0)
    return _ratio(taken_RG.sum(axis=1), TOP_SHARE * positive_RG.sum(axis=1))


@dataclass(frozen=True)
class Metric:
    """A metric by name, whether more of it is better, and what it is called for people."""

    compute: Callable[[Judged, Floats], Floats]
    higher_is_better: bool
    title: str
    biased: bool = False
    """Resamples lie above the estimate for their repeated pairs alone; intervals are shifted back by it."""

    def gain(self, difference: Floats) -> Floats:
        """A difference turned so that more is better."""
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
    """The bin of each pair, 0 … K - 1: equally many pairs a bin as far as ties allow (tied scores share a bin)."""
    if len(score_N) == 0:
        return np.zeros(0, dtype=np.int64)
    edges = np.unique(np.quantile(score_N, np.linspace(0, 1, num_bins + 1)[1:-1]))
    placed = np.searchsorted(edges, score_N, side="right")
    return np.unique(placed, return_inverse=True)[1].astype(np.int64)


def _tied(judged: Judged, weights_RN: Floats) -> tuple[Floats, Floats]:
    """Weight of the pairs with and without a redemption at each distinct score, ascending: two arrays [R, G]."""
    order_N = np.argsort(judged.score_N, kind="stable")
    score_N, redeemed_N = judged.score_N[order_N], judged.redeemed_N[order_N]
    if len(score_N) == 0:
        empty = np.zeros((len(weights_RN), 1))
        return empty, empty
    starts_G = np.flatnonzero(np.r_[True, score_N[1:] != score_N[:-1]])
    sorted_RN = weights_RN[:, order_N]
    positive_RG = np.add.reduceat(sorted_RN * redeemed_N, starts_G, axis=1)
    return positive_RG, np.add.reduceat(sorted_RN, starts_G, axis=1) - positive_RG


def _per_user(
    judged: Judged, weights_RN: Floats, value: Callable[[Floats, Floats], tuple[float, float] | None]
) -> Floats:
    """Mean of a user's value: users are resampled whole, so their values stay and only their weights change."""
    order_N = np.argsort(judged.users_N, kind="stable")
    users_N = judged.users_N[order_N]
    starts_H = np.flatnonzero(np.r_[True, users_N[1:] != users_N[:-1]]) if len(users_N) else np.zeros(0, dtype=int)
    firsts, values, sizes = [], [], []
    for rows in np.split(order_N, starts_H[1:]):
        found = value(judged.redeemed_N[rows], judged.score_N[rows])
        if found is not None:
            firsts.append(rows[0])
            values.append(found[0])
            sizes.append(found[1])
    weight_RH = weights_RN[:, firsts] * np.asarray(sizes) if firsts else np.zeros((len(weights_RN), 0))
    return _ratio(weight_RH @ np.asarray(values, dtype=float), weight_RH.sum(axis=1))


def _auc_of_user(redeemed_n: Floats, score_n: Floats) -> tuple[float, float] | None:
    positive, negative = score_n[redeemed_n > 0.5], score_n[redeemed_n < 0.5]
    if len(positive) == 0 or len(negative) == 0:
        return None
    above = positive[:, None] - negative[None, :]
    return float(((above > 0) + 0.5 * (above == 0)).mean()), float(len(score_n))


def _ndcg_of_user(redeemed_n: Floats, score_n: Floats) -> tuple[float, float] | None:
    if len(score_n) < 2 or redeemed_n.max() < 0.5:
        return None
    discounts = 1 / np.log2(np.arange(2, len(score_n) + 2))
    discounts[NDCG_AT:] = 0
    place = (score_n[None, :] > score_n[:, None]).sum(axis=1)
    ties = (score_n[None, :] == score_n[:, None]).sum(axis=1)
    shared = np.array([discounts[p : p + t].mean() for p, t in zip(place, ties, strict=True)])
    best = discounts[: int(redeemed_n.sum())].sum()
    return float((redeemed_n * shared).sum() / best), 1.0


def _ratio(above_R: Floats, below_R: Floats) -> Floats:
    ratio_R = np.full(len(above_R), np.nan)
    np.divide(above_R, below_R, out=ratio_R, where=below_R > 0)
    return ratio_R
