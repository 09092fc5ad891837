"""Intervals that respect that a user's pairs belong together: the user-clustered bootstrap.

Users are drawn with replacement and bring all their pairs (Field & Welsh, JRSS B, 2007); intervals are percentiles
(Efron & Tibshirani, 1993, chapter 13). Two rankers are compared on the same draws of the same pairs, so what they share
cancels out.

Shapes: N pairs · R resamples · H users.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation.metrics import METRICS, Floats, Judged

CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Bootstrap:
    """How resamples are drawn: the same seed gives the same ones."""

    samples: int = 1000
    confidence: float = 0.95
    seed: int = 17

    def weights(self, users_N: NDArray[np.int64]) -> Iterator[Floats]:
        """How often each pair is drawn, in chunks of resamples: float64 [r, N], r of them at a time, R in all."""
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
        """The central interval of the values that are defined; NaNs when none is."""
        known = values_R[np.isfinite(values_R)]
        if len(known) == 0:
            return float("nan"), float("nan")
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(known, [tail, 1 - tail])
        return float(low), float(high)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; NaN where the pairs do not define it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resampled:
    """Metrics of several rankers on the same pairs: the estimates [1], and R resamples of each."""

    point: Mapping[str, Mapping[str, float]]
    """{ranker: {metric: value}}"""
    samples: Mapping[str, Mapping[str, Floats]]
    """{ranker: {metric: [R]}}"""
    bootstrap: Bootstrap

    def estimate(self, ranker: str, metric: str) -> Estimate:
        value = self.point[ranker][metric]
        low, high = self._interval(metric, value, self.samples[ranker][metric])
        if METRICS[metric].biased:  # what was taken off is an estimate, and no calibration error is below 0
            low, high = max(low, 0.0), max(high, 0.0)
        return Estimate(value, low, high)

    def gain(self, challenger: str, champion: str, metric: str) -> Estimate:
        """Challenger minus champion on the same pairs, turned so that more is better."""
        turn = METRICS[metric].gain
        value = turn(np.array(self.point[challenger][metric] - self.point[champion][metric]))
        difference_R = turn(self.samples[challenger][metric] - self.samples[champion][metric])
        return Estimate(float(value), *self._interval(metric, float(value), difference_R))

    def _interval(self, metric: str, value: float, samples_R: Floats) -> tuple[float, float]:
        """The interval; where a metric is biased, less the bootstrap's estimate of it (Efron & Tibshirani, chapter 10)."""
        if METRICS[metric].biased and np.isfinite(samples_R).any():
            samples_R = samples_R - (np.nanmean(samples_R) - value)
        return self.bootstrap.interval(samples_R)


def resample(rankers: Mapping[str, Judged], bootstrap: Bootstrap, metrics: Iterable[str] = tuple(METRICS)) -> Resampled:
    """Every metric of every ranker, on all pairs and on the same R resamples of their users.

    The rankers must have judged the same pairs in the same order.
    """
    names = tuple(metrics)
    first = next(iter(rankers.values()))
    drawn: dict[str, dict[str, list[Floats]]] = {ranker: {name: [] for name in names} for ranker in rankers}
    for weights_rN in bootstrap.weights(first.users_N):
        for ranker, judged in rankers.items():
            for name in names:
                drawn[ranker][name].append(METRICS[name].compute(judged, weights_rN))
    return Resampled(
        point={
            ranker: {name: float(METRICS[name].compute(judged, judged.ones)[0]) for name in names}
            for ranker, judged in rankers.items()
        },
        samples={ranker: {name: np.concatenate(parts) for name, parts in of.items()} for ranker, of in drawn.items()},
        bootstrap=bootstrap,
    )
