"""The challenger's gain over the champion with a campaign as the unit, for gates that hold few campaigns.

Rankers that are equally good differ by chance in each campaign, and thousands of users of one campaign share that
chance. So the gains of whole campaigns are pooled, not those of users: a random-effects mean over campaigns, whose
interval comes from the spread between campaigns (Hartung & Knapp, Statistics in Medicine, 2001; Sidik & Jonkman, same
journal, 2002) and a t with C - 1 degrees of freedom. The variance between campaigns is Paule & Mandel's (Journal of
Research of the National Bureau of Standards, 1982). What gains of different campaigns share through common users is
added, as in two-way clustering (Cameron, Gelbach & Miller, JBES, 2011). `make bench-decision` measures how often equal
rankers are promoted by it.

Shapes: N pairs · C campaigns · H users · R resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.metrics import METRICS, Floats, ScoredPairs, log_losses

GAIN_PRIOR_PAIRS = 20
"""A campaign's variance per pair counts as if this many further pairs had the mean variance of all campaigns, since one
of a few pairs cannot estimate its own. Chosen by hand: about the size of the smallest campaigns of the default data."""
LARGEST_SHARE = 0.4
"""Largest weight of one campaign. Without it a gate of one campaign of 1,000 pairs and five of 30 promotes equal
rankers in 5 to 10 % of worlds; with it in 1 to 2 % (`make bench-decision`)."""
MIN_DEFINED = 0.9
"""Share of resamples in which a campaign's gain must be defined. Else the campaign is left out: its AUC rests on one or
two participations. Chosen by hand."""


class CampaignGain(BaseModel):
    """One campaign of a period: how many pairs, and the challenger's gain there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign: str
    num_pairs: int
    num_positives: int
    gain: float
    standard_error: float
    """Of the gain in this campaign, over its users."""
    weight: float
    """Share of this campaign in the pooled gain."""


class OverCampaigns(BaseModel):
    """Sufficient statistics of a value over users and campaigns: its interval at every level follows from them.

    `standard_error` and `degrees_of_freedom` are None for fewer than two campaigns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    standard_error: float | None
    degrees_of_freedom: int | None

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Return the two-sided interval, or None where there are too few campaigns for one."""
        from scipy.stats import t

        if self.standard_error is None or self.degrees_of_freedom is None:
            return None
        half = float(t.ppf(0.5 + confidence / 2, self.degrees_of_freedom)) * self.standard_error
        return self.value - half, self.value + half


class PooledGain(OverCampaigns):
    """A gain over users and campaigns, with the gains of the campaigns."""

    spread: float
    """Standard deviation of the true gain between campaigns, estimated."""
    campaigns: list[CampaignGain]


@dataclass(frozen=True, eq=False)
class CampaignGains:
    """Gains of C campaigns, and their covariance over users: off the diagonal what they share through common users."""

    gain_C: Floats
    covariance_CC: Floats
    pairs_C: Floats
    """Number of pairs of each campaign."""

    @classmethod
    def of_means(cls, gain_N: Floats, campaigns_N: NDArray[np.int64], users_N: NDArray[np.int64]) -> "CampaignGains":
        """Of a metric that is a mean over pairs, such as log loss. Campaigns are numbered 0 … C - 1."""
        pairs_C = np.bincount(campaigns_N).astype(np.float64)
        gain_C = np.bincount(campaigns_N, weights=gain_N) / pairs_C
        influence_N = (gain_N - gain_C[campaigns_N]) / pairs_C[campaigns_N]
        users, rows_N = np.unique(users_N, return_inverse=True)
        cells = rows_N * len(pairs_C) + campaigns_N
        influence_HC = np.bincount(cells, weights=influence_N, minlength=len(users) * len(pairs_C))
        influence_HC = influence_HC.reshape(len(users), len(pairs_C))
        influence_HC = influence_HC.astype(np.float64)
        covariance_CC = np.asarray(influence_HC.T @ influence_HC)
        return cls(gain_C, covariance_CC, pairs_C)

    def pooled(self) -> "Pooled":
        """Pool the gains: see the module's docstring."""
        count = len(self.gain_C)
        variance_C = np.diag(self.covariance_CC)
        within_C = self._shrunk(variance_C)
        between = paule_mandel(self.gain_C, within_C)
        precision_C = 1 / (within_C + between)
        weight_C = _capped(precision_C / precision_C.sum(), max(LARGEST_SHARE, 1 / count))
        value = float(weight_C @ self.gain_C)
        if count < 2:
            return Pooled(value, float("nan"), 0.0, weight_C)
        # 1 where the gains vary as much as `within` and `between` say. Never less: few campaigns can agree by chance
        # (Röver, Knapp & Friede, BMC Medical Research Methodology, 2015).
        dispersion = max(1.0, float(precision_C @ (self.gain_C - value) ** 2) / (count - 1))
        shared = float(weight_C @ self.covariance_CC @ weight_C - weight_C**2 @ variance_C)
        variance = dispersion * float(weight_C**2 @ (within_C + between)) + max(0.0, shared)
        return Pooled(value, float(np.sqrt(variance)), float(np.sqrt(between)), weight_C)

    def _shrunk(self, variance_C: Floats) -> Floats:
        """Variances of the gains, those of small campaigns drawn to the mean variance per pair."""
        per_pair_C = self.pairs_C * variance_C
        mean = float(self.pairs_C @ per_pair_C / self.pairs_C.sum())
        shrunk_C = (
            (self.pairs_C * per_pair_C + GAIN_PRIOR_PAIRS * mean) / (self.pairs_C + GAIN_PRIOR_PAIRS) / self.pairs_C
        )
        # Two rankers with the same scores gain exactly 0 everywhere. A variance of 0 would have no precision.
        return np.asarray(np.maximum(shrunk_C, np.finfo(np.float64).tiny ** 0.5))


@dataclass(frozen=True, eq=False)
class Pooled:
    """A pooled gain with its standard error, the spread between campaigns and the campaigns' weights [C]."""

    value: float
    standard_error: float
    spread: float
    weight_C: Floats


def pool(
    challenger: ScoredPairs,
    champion: ScoredPairs,
    campaigns_N: NDArray[np.int64],
    names: Mapping[int, str],
    metric: str,
    bootstrap: Bootstrap,
) -> PooledGain | None:
    """Pool the gain in `metric` over the campaigns in which it is defined. None if it is defined in none.

    Log loss is pooled from its pairs. AUC and average precision are computed inside each campaign, so they compare
    users and not campaigns; their covariance comes from the bootstrap over users.

    Args:
        challenger: scores of N pairs.
        champion: the champion's, of the same pairs.
        campaigns_N: number of each pair's campaign.
        names: number of a campaign -> its id.
        metric: auc, ap or log_loss.
        bootstrap: draws the users for AUC and average precision.
    """
    numbers, rows_N = np.unique(campaigns_N, return_inverse=True)
    if metric == "log_loss":
        gains = CampaignGains.of_means(
            log_losses(champion) - log_losses(challenger), rows_N.astype(np.int64), challenger.users_N
        )
        kept = np.arange(len(numbers))
    else:
        found = _resampled(challenger, champion, rows_N.astype(np.int64), metric, bootstrap)
        if found is None:
            return None
        gains, kept = found
    pooled = gains.pooled()
    enough = len(kept) > 1
    positives_C = np.bincount(rows_N, weights=challenger.redeemed_N)
    return PooledGain(
        value=pooled.value,
        standard_error=pooled.standard_error if enough else None,
        degrees_of_freedom=len(kept) - 1 if enough else None,
        spread=pooled.spread,
        campaigns=[
            CampaignGain(
                campaign=names[int(numbers[row])],
                num_pairs=int(gains.pairs_C[place]),
                num_positives=int(positives_C[row]),
                gain=float(gains.gain_C[place]),
                standard_error=float(np.sqrt(gains.covariance_CC[place, place])),
                weight=float(pooled.weight_C[place]),
            )
            for place, row in enumerate(kept)
        ],
    )


def _resampled(
    challenger: ScoredPairs, champion: ScoredPairs, rows_N: NDArray[np.int64], metric: str, bootstrap: Bootstrap
) -> tuple[CampaignGains, NDArray[np.int64]] | None:
    """Gains inside each campaign and their covariance by the bootstrap, and the numbers of the campaigns kept."""
    signed, compute = METRICS[metric].gain, METRICS[metric].compute
    count = int(rows_N.max()) + 1
    members = [np.flatnonzero(rows_N == row) for row in range(count)]
    parts = [[_part(pairs, of) for pairs in (challenger, champion)] for of in members]
    gain_C = np.array([signed(compute(ours, ours.ones) - compute(theirs, theirs.ones))[0] for ours, theirs in parts])
    drawn_RC = np.concatenate(
        [
            np.stack(
                [
                    signed(compute(ours, weights_rN[:, of]) - compute(theirs, weights_rN[:, of]))
                    for (ours, theirs), of in zip(parts, members, strict=True)
                ],
                axis=1,
            )
            for weights_rN in bootstrap.weights(challenger.users_N)
        ]
    )
    defined_C = np.isfinite(gain_C) & (np.isfinite(drawn_RC).mean(axis=0) >= MIN_DEFINED)
    kept = np.flatnonzero(defined_C)
    if not len(kept):
        return None
    drawn_RC = drawn_RC[:, kept]
    drawn_RC = np.where(np.isfinite(drawn_RC), drawn_RC, np.nanmean(drawn_RC, axis=0))
    covariance_CC = np.atleast_2d(np.cov(drawn_RC, rowvar=False))
    return CampaignGains(gain_C[kept], covariance_CC, np.bincount(rows_N)[kept].astype(np.float64)), kept


def _part(pairs: ScoredPairs, rows: NDArray[np.intp]) -> ScoredPairs:
    return ScoredPairs(pairs.redeemed_N[rows], pairs.score_N[rows], pairs.users_N[rows])


def paule_mandel(gain_C: Floats, within_C: Floats) -> float:
    """Variance between campaigns at which the weighted squares of the gains are as expected, C - 1. At least 0.

    Found by bisection: the weighted squares fall as the variance grows.
    """

    def excess(between: float) -> float:
        precision_C = 1 / (within_C + between)
        mean = precision_C @ gain_C / precision_C.sum()
        return float(precision_C @ (gain_C - mean) ** 2) - (len(gain_C) - 1)

    if len(gain_C) < 2 or excess(0.0) <= 0:
        return 0.0
    # At the sum of squares over C - 1 no precision is larger than its inverse, so the excess is not above 0.
    low, high = 0.0, float(((gain_C - gain_C.mean()) ** 2).sum() / (len(gain_C) - 1))
    for _ in range(60):  # halves: beyond the precision of a float64
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low + high) / 2


def _capped(weight_C: Floats, most: float) -> Floats:
    """Lower weights above `most` to it, and give the rest to the others in proportion."""
    capped_C = weight_C.copy()
    for _ in range(len(weight_C)):
        large_C = capped_C >= most - 1e-12  # a tolerance for rounding
        if large_C.all() or not (capped_C > most + 1e-12).any():
            break
        capped_C[large_C] = most
        capped_C[~large_C] *= (1 - most * large_C.sum()) / capped_C[~large_C].sum()
    return np.asarray(capped_C / capped_C.sum())
