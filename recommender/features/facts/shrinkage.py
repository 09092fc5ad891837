"""Empirical Bayes by moments: a user's own rate or mean, drawn to everyone's as far as the user's own data are few.

Sources: Bühlmann & Straub, "Glaubwürdigkeit für Schadensätze", 1970 (the estimators of moments); the gamma-Poisson
model of purchase counts is Ehrenberg, "The pattern of consumer purchases", Applied Statistics, 1959.

Shapes: U users.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST_SPREAD = 1e-4
"""Least variance between users, as a share of the squared mean: 1 % of the mean. Users who look all alike would make an
infinite prior weight."""


@dataclass(frozen=True)
class GammaPoisson:
    """Rates vary between users as a gamma distribution, and events come as a Poisson process at the user's rate."""

    shape: float
    rate: float
    """In units of exposure, such as days."""

    @classmethod
    def fit(cls, count_U: Floats, exposure_U: Floats) -> Self:
        """Estimate from each user's number of events and exposure. Users without exposure say nothing."""
        known_U = exposure_U > 0
        count_U, exposure_U = count_U[known_U], exposure_U[known_U]
        total = float(exposure_U.sum())
        if not total:
            return cls(shape=1.0, rate=1.0)
        # Half an event more, so that nobody's doing it is a low rate and not an impossible one.
        mean = (float(count_U.sum()) + 0.5) / total
        between = between_users(count_U / exposure_U, exposure_U, mean, noise=mean)
        between = max(between, LEAST_SPREAD * mean**2)
        return cls(shape=mean**2 / between, rate=mean / between)

    def mean(self, count_U: Floats, exposure_U: Floats) -> Floats:
        """A user's expected rate, given the user's own count and exposure."""
        return np.asarray((self.shape + count_U) / (self.rate + exposure_U))

    def tail(self, count_U: Floats, exposure_U: Floats) -> Floats:
        """Probability that a user drawn at random has at least so many events in this exposure."""
        from scipy.stats import nbinom

        share_U = self.rate / (self.rate + exposure_U)
        return np.asarray(nbinom.sf(count_U - 1, self.shape, share_U))


@dataclass(frozen=True)
class Credibility:
    """Everyone's mean, and how many units of weight it counts as beside a user's own."""

    mean: float
    weight: float

    @classmethod
    def fit(cls, value_U: Floats, weight_U: Floats, *, noise: float | None = None) -> Self:
        """Estimate from each user's mean and its weight.

        Args:
            value_U: means. NaN where the weight is 0.
            weight_U: numbers of observations, or other weights.
            noise: variance of one unit of weight. None: the values are shares of yes and no.
        """
        known_U = weight_U > 0
        value_U, weight_U = value_U[known_U], weight_U[known_U]
        if not len(value_U):
            return cls(mean=float("nan"), weight=1.0)
        mean = float((value_U * weight_U).sum() / weight_U.sum())
        if noise is None:
            noise = mean * (1 - mean)
        between = between_users(value_U, weight_U, mean, noise=noise)
        between = max(between, LEAST_SPREAD * mean**2, np.finfo(float).tiny)
        return cls(mean=mean, weight=noise / between)

    def drawn(self, value_U: Floats, weight_U: Floats) -> Floats:
        """A user's mean drawn to everyone's."""
        own_U = np.where(weight_U > 0, np.nan_to_num(value_U) * weight_U, 0.0)
        return np.asarray((own_U + self.weight * self.mean) / np.maximum(weight_U + self.weight, 1e-12))


def between_users(value_U: Floats, weight_U: Floats, mean: float, *, noise: float) -> float:
    """Variance of the true values between users, by moments. It may come out negative."""
    total = float(weight_U.sum())
    free = total - float((weight_U**2).sum()) / total
    if free <= 0:
        return 0.0
    return (float((weight_U * (value_U - mean) ** 2).sum()) - (len(value_U) - 1) * noise) / free
