"""Confidence intervals by the user-clustered bootstrap, since the pairs of one user belong together.

Users are drawn with replacement and bring all their pairs (Field & Welsh, "Bootstrapping clustered data", JRSS B,
2007). Intervals are percentiles (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). Two rankers
are compared on the same draws of the same pairs, so what they have in common cancels out.

Shapes: N pairs · R resamples · r resamples of a chunk · H users.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import DEFAULT_SEED
from recommender.evaluation.metrics import METRICS, Floats, ScoredPairs, forget_sums

CELLS_AT_ONCE = 4_000_000
"""Weights computed at once: 32 MB of float64, and a few arrays like it in each metric. Chosen by hand."""


@dataclass(frozen=True)
class Bootstrap:
    """How resamples are drawn. The same seed gives the same ones."""

    samples: int = 1000
    """1,000 is the usual minimum for 95 % percentile intervals (Efron & Tibshirani, 1993)."""
    confidence: float = 0.95
    """The usual level. The gate takes its own from the judgement file."""
    seed: int = DEFAULT_SEED

    def weights(self, users_N: NDArray[np.int64]) -> Iterator[Floats]:
        """Yield how often each pair is drawn, float64 [r, N], in chunks of r resamples, R in all."""
        users, rows_N = np.unique(users_N, return_inverse=True)
        random = np.random.default_rng(self.seed)
        chunk = max(1, CELLS_AT_ONCE // max(1, len(users_N)))
        for start in range(0, self.samples, chunk):
            size = min(chunk, self.samples - start)
            drawn = random.integers(0, len(users), size=(size, len(users)))
            flat = drawn + np.arange(size)[:, None] * len(users)
            counts_rH = np.bincount(flat.ravel(), minlength=size * len(users)).reshape(size, len(users))
            yield counts_rH[:, rows_N].astype(np.float64)

    def interval(self, values_R: Floats) -> tuple[float, float]:
        """Return the central interval of the values that are defined, or NaNs if none is."""
        defined = values_R[np.isfinite(values_R)]
        if len(defined) == 0:
            return float("nan"), float("nan")
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval. NaN where the pairs leave it undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resampled:
    """Metrics of several rankers on the same pairs: the values themselves and their resamples."""

    point: Mapping[str, Mapping[str, float]]
    """{ranker: {metric: value}}"""
    samples: Mapping[str, Mapping[str, Floats]]
    """{ranker: {metric: [R]}}"""
    bootstrap: Bootstrap

    def estimate(self, ranker: str, metric: str) -> Estimate:
        """Return a ranker's metric with its interval."""
        value = self.point[ranker][metric]
        low, high = self._interval(metric, value, self.samples[ranker][metric])
        if METRICS[metric].biased:  # The correction is an estimate itself, and no calibration error is below 0.
            low, high = max(low, 0.0), max(high, 0.0)
        return Estimate(value, low, high)

    def gain(self, challenger: str, champion: str, metric: str) -> Estimate:
        """Return challenger minus champion on the same pairs, with the sign such that more is better."""
        signed = METRICS[metric].gain
        value = signed(np.array(self.point[challenger][metric] - self.point[champion][metric]))
        difference_R = signed(self.samples[challenger][metric] - self.samples[champion][metric])
        return Estimate(float(value), *self._interval(metric, float(value), difference_R))

    def _interval(self, metric: str, value: float, samples_R: Floats) -> tuple[float, float]:
        """Return the interval, of a biased metric after subtracting the bootstrap's estimate of the bias.

        See Efron & Tibshirani, chapter 10.
        """
        if METRICS[metric].biased and np.isfinite(samples_R).any():
            samples_R = samples_R - (np.nanmean(samples_R) - value)
        return self.bootstrap.interval(samples_R)


def resample(
    rankers: Mapping[str, ScoredPairs], bootstrap: Bootstrap, metrics: Iterable[str] = tuple(METRICS)
) -> Resampled:
    """Compute metrics of every ranker on all pairs and on the same R resamples of their users.

    The rankers must have scored the same pairs in the same order.
    """
    names = tuple(metrics)
    first = next(iter(rankers.values()))
    chunks: dict[str, dict[str, list[Floats]]] = {ranker: {name: [] for name in names} for ranker in rankers}
    for weights_rN in bootstrap.weights(first.users_N):
        for ranker, pairs in rankers.items():
            for name in names:
                chunks[ranker][name].append(METRICS[name].compute(pairs, weights_rN))
    forget_sums()
    point = {}
    for ranker, pairs in rankers.items():
        ones = pairs.ones
        point[ranker] = {name: float(METRICS[name].compute(pairs, ones)[0]) for name in names}
    return Resampled(
        point=point,
        samples={ranker: {name: np.concatenate(parts) for name, parts in of.items()} for ranker, of in chunks.items()},
        bootstrap=bootstrap,
    )
