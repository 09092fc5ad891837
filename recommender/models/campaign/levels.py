"""How far whole campaigns differ from what a ranker expects of them: the take-up of a campaign, with an interval.

A ranker's mean score over the users of a campaign is its expected take-up. A new campaign differs from that as a whole:
it has a level, added to the log-odds of all its pairs, drawn from a normal distribution around 0. The spread of levels
is learnt from past campaigns, each predicted by a fit that ends where the campaign begins (rolling origin). The
posterior of the spread, under a half-normal prior, is a partial pooling of campaigns (Gelman, "Prior distributions for
variance parameters in hierarchical models", Bayesian Analysis, 2006). Types are pooled by the regression itself, which
reads the campaign's type and its shrunk past rate.

Shapes: N pairs · C past campaigns · T spreads · G levels of a grid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.models.campaign.held_out import HeldOut

SPREADS_T = np.arange(0.05, 1.51, 0.05)
"""Spreads that are weighed: standard deviations of a campaign's level in log-odds."""
PRIOR_SPREAD = 0.5
"""Scale of the half-normal prior. By hand: two thirds of campaigns then have between 0.6 and 1.65 times their expected
odds. It is the forecast's spread where no campaign is known."""
LEVELS_G = np.linspace(-4.0, 4.0, 161)
"""Grid of a campaign's level. Odds 55 times as high or as low as expected lie at its ends."""
MIN_EXPECTED = 0.5
"""A past campaign of which fewer participations are expected says nothing about levels. By hand."""
CONFIDENCE = 0.9
"""Level of the interval."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TakeUp:
    """Participations to expect of a campaign among some users, with their interval of level `CONFIDENCE`."""

    num_users: int
    expected: float
    low: int
    high: int


class Levels:
    """The spread of campaigns' levels around a ranker's expectation."""

    def __init__(self, weights_T: Floats, num_campaigns: int) -> None:
        self.weights_T, self.num_campaigns = weights_T, num_campaigns
        """Posterior of `SPREADS_T`, and the number of past campaigns that it rests on."""

    @classmethod
    def prior(cls) -> Self:
        """The prior: no past campaign is known."""
        return cls.of(np.zeros(0), np.zeros(0))

    @classmethod
    def of(cls, differences_C: Floats, variances_C: Floats) -> Self:
        """Weigh the spreads by what past campaigns did.

        Args:
            differences_C: Observed minus expected log-odds of each campaign's take-up.
            variances_C: Variance of each that chance alone explains.
        """
        total_TC = SPREADS_T[:, None] ** 2 + variances_C
        log_T = -0.5 * (np.log(total_TC) + differences_C**2 / total_TC).sum(axis=1)
        log_T = log_T - 0.5 * (SPREADS_T / PRIOR_SPREAD) ** 2
        weights_T = np.exp(log_T - log_T.max())
        return cls(weights_T / weights_T.sum(), len(differences_C))

    def take_up(self, p_N: NDArray[Any]) -> TakeUp:
        """Forecast the participations of one campaign among N users, whose probabilities a ranker gave.

        The expected number is the ranker's own. The interval also covers the campaign's level and pure chance.
        """
        p_N = np.asarray(p_N, dtype=np.float64)
        if not len(p_N):
            return TakeUp(0, 0.0, 0, 0)
        weights_TG = np.exp(-0.5 * (LEVELS_G / SPREADS_T[:, None]) ** 2)
        weights_G = self.weights_T @ (weights_TG / weights_TG.sum(axis=1, keepdims=True))
        odds_N = p_N / (1 - p_N)
        means_G, variances_G = np.empty(len(LEVELS_G)), np.empty(len(LEVELS_G))
        for place, level in enumerate(LEVELS_G):
            shifted_N = odds_N * np.exp(level)
            shifted_N = shifted_N / (1 + shifted_N)
            means_G[place], variances_G[place] = shifted_N.sum(), (shifted_N * (1 - shifted_N)).sum()
        tail = (1 - CONFIDENCE) / 2
        low, high = (_quantile(weights_G, means_G, variances_G, len(p_N), share) for share in (tail, 1 - tail))
        return TakeUp(len(p_N), float(p_N.sum()), low, high)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All arrays that `restore` needs."""
        return {"weights_T": self.weights_T, "num_campaigns": np.array([self.num_campaigns])}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild it from `tensors()`.

        Raises:
            ValueError: The tensors weigh another number of spreads.
        """
        if tensors["weights_T"].shape != SPREADS_T.shape:
            raise ValueError(f"levels: there must be {len(SPREADS_T)} weights (got {tensors['weights_T'].shape})")
        return cls(tensors["weights_T"], int(tensors["num_campaigns"][0]))


def _quantile(weights_G: Floats, means_G: Floats, variances_G: Floats, most: int, share: float) -> int:
    """Smallest number of participations whose probability of not being exceeded reaches `share`."""
    from scipy.stats import binom

    # Sums of different probabilities are binomials with the same mean and variance, of which the number is smaller.
    p_G = np.clip(1 - variances_G / np.maximum(means_G, 1e-12), 1e-9, 1 - 1e-9)
    trials_G = np.maximum(np.round(means_G / p_G), 1)
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        reached = float(weights_G @ binom.cdf(middle, trials_G, means_G / np.maximum(trials_G, means_G)))
        low, high = (low, middle) if reached >= share else (middle + 1, high)
    return low


def past_levels(held_out: HeldOut) -> Levels:
    """Learn the spread of levels from past campaigns, each predicted by a fit that ends where it begins."""
    differences, variances = [], []
    for row in dict.fromkeys(held_out.campaigns_P.tolist()):
        of_P = held_out.campaigns_P == row
        expected, num = float((held_out.p_P[of_P] * held_out.reached_P[of_P]).sum()), int(of_P.sum())
        if expected < MIN_EXPECTED:
            continue
        seen = int(held_out.redeemed_P[of_P].sum())
        # Half a pair of each outcome: the empirical logit, finite without any participation (Haldane, 1956).
        logits = [np.log((count + 0.5) / (num - count + 0.5)) for count in (seen, expected)]
        differences.append(logits[0] - logits[1])
        variances.append(num / (expected * (num - expected)))
    return Levels.of(np.array(differences), np.array(variances))
