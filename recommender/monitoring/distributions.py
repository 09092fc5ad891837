"""Distributions of features in bins, and how far newer values moved.

Drift is measured in the bins of the earlier values:

    psi     population stability index: symmetrised Kullback-Leibler divergence of the bins' shares, where missing
            values are a bin of their own (Siddiqi, Credit Risk Scorecards, 2006)
    ks      two-sample Kolmogorov-Smirnov statistic of the known values, at the bins' edges. The true one is at least
            as large, so its p-value here is on the safe side

Both are judged against chance: equal distributions have an index of about chi²(bins - 1) · (1/n + 1/m) (Yurdakul,
Statistical Properties of Population Stability Index, 2018).

Shapes: U users · E edges · B bins, of which the last holds missing values.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

NUM_QUANTILES = 50
"""Edges of a feature's fine bins: every second percentile. Chosen by hand."""
COARSE_SHARE = 0.1
"""Share of the reference that a bin of the index holds at least: ten bins, as is usual."""


class Distribution(BaseModel):
    """One feature's values: how many lie in (edges[b - 1], edges[b]], below, above, and how many are missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    """One more than edges: the last one holds what is above all of them."""
    missing: int

    @classmethod
    def of(cls, values_U: NDArray[np.float32], *, num_quantiles: int = NUM_QUANTILES) -> "Distribution":
        """In bins of its own: about equally many values in each, and every frequent value in one of its own."""
        known_U = np.sort(values_U[~np.isnan(values_U)])
        places = np.linspace(0, len(known_U) - 1, num_quantiles + 1).round().astype(np.int64)
        edges = np.unique(known_U[places]) if len(known_U) else known_U
        # The shortest text of a float32, from which the same float32 is read again.
        return cls.in_bins(values_U, tuple(float(str(edge)) for edge in edges))

    @classmethod
    def in_bins(cls, values_U: NDArray[np.float32], edges: tuple[float, ...]) -> "Distribution":
        """In the bins of another."""
        known_U = values_U[~np.isnan(values_U)]
        bins_U = np.searchsorted(np.array(edges, dtype=np.float32), known_U, side="left")
        counts = np.bincount(bins_U, minlength=len(edges) + 1)
        return cls(edges=edges, counts=tuple(counts.tolist()), missing=len(values_U) - len(known_U))

    def drawn(self, random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Random values of this distribution, float32: upper edges of bins, NaN for missing."""
        values = np.array([*self.edges, self.edges[-1] if self.edges else np.nan, np.nan], dtype=np.float32)
        counts = np.array([*self.counts, self.missing], dtype=np.float64)
        return np.asarray(random.choice(values, size=shape, p=counts / counts.sum()))

    @property
    def num_known(self) -> int:
        """How many values are known."""
        return sum(self.counts)

    @property
    def num(self) -> int:
        """How many values there are, missing ones included."""
        return self.num_known + self.missing

    @property
    def missing_share(self) -> float:
        """Share of the values that are missing."""
        return self.missing / self.num if self.num else 0.0


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far one feature moved."""

    psi: float
    psi_by_chance: float
    """What the index of an unchanged feature exceeds with the probability `false_alarm` of all features together."""
    ks: float
    ks_p: float
    missing: tuple[float, float]
    """Share of missing values before and now."""
    missing_by_chance: float
    """What the share of an unchanged feature rises by at most, as `psi_by_chance`."""
    bins: tuple[tuple[str, float, float], ...]
    """Label, share before and share now of each bin of the index."""

    @property
    def beyond_chance(self) -> bool:
        """Whether chance alone does not explain the index."""
        return self.psi > self.psi_by_chance

    @property
    def missing_rise(self) -> float:
        """Rise of the share of missing values. 0 where chance explains it."""
        rise = self.missing[1] - self.missing[0]
        return rise if rise > self.missing_by_chance else 0.0


def shift(before: Distribution, values_U: NDArray[np.float32], *, false_alarm: float) -> Shift:
    """Compare new values with a distribution.

    Args:
        before: the reference's.
        values_U: of the users now.
        false_alarm: probability that this one feature is called drifted, or missing more often, though it is not.
    """
    return shift_of(before, Distribution.in_bins(values_U, before.edges), false_alarm=false_alarm)


def shift_of(before: Distribution, now: Distribution, *, false_alarm: float) -> Shift:
    """As `shift`, of new values that are counted already in the bins of `before`."""
    from scipy.stats import chi2, kstwobign, norm

    each_alarm = false_alarm / 2
    groups = _groups(before)
    old_B = np.array([*(sum(before.counts[g]) for g in groups), before.missing], dtype=np.float64)
    new_B = np.array([*(sum(now.counts[g]) for g in groups), now.missing], dtype=np.float64)
    labels = [*_labels(before.edges, groups), "missing"]
    used_B = (old_B + new_B) > 0
    old_B, new_B = old_B[used_B], new_B[used_B]
    each = 1 / max(before.num, 1) + 1 / max(now.num, 1)
    sizes = before.num_known, now.num_known
    ks = _ks(before, now) if all(sizes) else 0.0
    # Exact only for continuous values. With ties the p-value is too large, which is the safe side.
    ks_p = float(kstwobign.sf(ks * math.sqrt(sizes[0] * sizes[1] / sum(sizes)))) if all(sizes) else 1.0
    pooled = (before.missing + now.missing) / max(before.num + now.num, 1)
    return Shift(
        psi=_psi(old_B, new_B),
        psi_by_chance=float(chi2.isf(each_alarm, max(len(old_B) - 1, 1))) * each,
        ks=ks,
        ks_p=ks_p,
        missing=(before.missing_share, now.missing_share),
        missing_by_chance=float(norm.isf(each_alarm)) * math.sqrt(pooled * (1 - pooled) * each),
        bins=tuple(
            (label, float(old / max(before.num, 1)), float(new / max(now.num, 1)))
            for label, old, new in zip(np.array(labels)[used_B].tolist(), old_B, new_B, strict=True)
        ),
    )


def _psi(old_B: NDArray[np.float64], new_B: NDArray[np.float64]) -> float:
    # Half a user in every bin (Jeffreys' prior), so that an empty one does not make the index infinite.
    old_B, new_B = (old_B + 0.5) / (old_B + 0.5).sum(), (new_B + 0.5) / (new_B + 0.5).sum()
    return float(((new_B - old_B) * np.log(new_B / old_B)).sum())


def _ks(before: Distribution, now: Distribution) -> float:
    old_E, new_E = (np.cumsum(one.counts)[:-1] / one.num_known for one in (before, now))
    return float(np.abs(old_E - new_E).max()) if len(old_E) else 0.0


def _groups(before: Distribution) -> list[slice]:
    """Bins of the index: fine bins that together hold `COARSE_SHARE` of the known values, or one value each.

    What is above all edges, where the reference has nothing, belongs to the last one, or else has its own.
    """
    num = len(before.counts)
    if len(before.edges) <= 1 / COARSE_SHARE:
        return [slice(place, place + 1) for place in range(num)]
    wanted = COARSE_SHARE * before.num_known
    groups: list[slice] = []
    start, held = 0, 0
    for place, count in enumerate(before.counts[:-1]):
        held += count
        if place == num - 2:
            groups.append(slice(start, num))
        elif held >= wanted:
            groups.append(slice(start, place + 1))
            start, held = place + 1, 0
    return groups


def _labels(edges: tuple[float, ...], groups: list[slice]) -> list[str]:
    """What each group holds, in numbers of three digits."""
    labels = []
    for group in groups:
        low = edges[group.start - 1] if group.start else None
        high = edges[group.stop - 1] if group.stop <= len(edges) else None
        if low is None:
            labels.append("any" if high is None else f"≤ {high:.3g}")
        elif high is None:
            labels.append(f"> {low:.3g}")
        else:
            labels.append(f"{low:.3g}–{high:.3g}")
    return labels
