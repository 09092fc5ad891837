"""How far features of campaigns moved, and how far they would by chance, with whole campaigns as the units.

A shop has 5 to 30 live campaigns, and all pairs of one campaign are alike. So neither pairs nor tables of the chi²
distribution say what chance does. Instead the campaigns of then and now are mixed and dealt again to the two sides:
all deals, or many random ones. In an unchanged shop each deal is as likely as the real one. Of each deal the greatest
distance of any feature is taken, so the probability of a false alarm holds for all features together, however much they
depend on each other (Westfall & Young, Resampling-Based Multiple Testing, 1993, single-step max T). A campaign that is
on both sides makes them more alike, so it raises no alarm.

The distance is that of Kolmogorov and Smirnov, between the mean cumulative shares of the campaigns, where missing
values are below all others.

Shapes: C campaigns · B bins, of which the last holds missing values · D deals · E edges of all features · F features.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_DEALS = 4000
"""More are not enumerated but drawn: a level of 0.3 % then rests on the twelve greatest. By hand."""
DEALS_AT_ONCE = 250
"""Deals in memory at once: some 10 MB. By hand."""
SEED = 29
SAME = 1e-9
"""Distances that differ by less are equal but for the order of their sums."""


@dataclass(frozen=True, eq=False)
class Sides:
    """One feature: of each campaign then, and of each now, the shares of its pairs in common bins."""

    then_CB: NDArray[np.float64]
    now_CB: NDArray[np.float64]

    @classmethod
    def of_values(cls, then_C: NDArray[np.float32], now_C: NDArray[np.float32]) -> "Sides":
        """Of a feature with one value for each campaign: every value has a bin."""
        seen = np.unique(np.concatenate([then_C, now_C]))
        seen = seen[~np.isnan(seen)]

        def shares(values_C: NDArray[np.float32]) -> NDArray[np.float64]:
            bins_C = np.searchsorted(seen, values_C)
            bins_C[np.isnan(values_C)] = len(seen)
            return np.eye(len(seen) + 1)[bins_C]

        return cls(shares(then_C), shares(now_C))

    @property
    def cumulated_CE(self) -> NDArray[np.float64]:
        """Of all campaigns, those of then first, the cumulative shares with the missing values first."""
        shares_CB = np.concatenate([self.then_CB, self.now_CB])
        return np.cumsum(np.roll(shares_CB, 1, axis=1), axis=1)[:, : max(shares_CB.shape[1] - 1, 1)]


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """How far features moved, and what chance does."""

    distances: Mapping[str, float]
    """Name -> distance between then and now."""
    by_chance: float
    """What the greatest distance of all features exceeds by chance with the probability `false_alarm`, at most."""
    p: Mapping[str, float]
    """Name -> share of the deals whose greatest distance of all features is at least the feature's."""
    can_tell: bool
    """Whether there are enough campaigns for any distance to be beyond chance."""


def deal(features: Mapping[str, Sides], *, false_alarm: float) -> Dealt:
    """Compare then and now.

    Args:
        features: all with the same campaigns, at least one on each side.
        false_alarm: probability that any of the features exceeds `by_chance` in an unchanged shop.
    """
    cumulated = [sides.cumulated_CE for sides in features.values()]
    starts_F = np.cumsum([0, *(one.shape[1] for one in cumulated[:-1])])
    all_CE = np.concatenate(cumulated, axis=1)
    first = next(iter(features.values()))
    num_then, num_now = len(first.then_CB), len(first.now_CB)
    then_DC = _deals(num_then, num_now)
    greatest_D = np.empty(len(then_DC))
    for start in range(0, len(then_DC), DEALS_AT_ONCE):
        some = slice(start, start + DEALS_AT_ONCE)
        weights_DC = np.where(then_DC[some], 1 / num_then, -1 / num_now)
        greatest_D[some] = np.abs(weights_DC @ all_CE).max(axis=1)
    real_C = np.repeat([1 / num_then, -1 / num_now], [num_then, num_now])
    distances_F = np.maximum.reduceat(np.abs(real_C @ all_CE), starts_F)
    allowed = math.floor(false_alarm * len(then_DC) + SAME)
    ordered_D = np.sort(greatest_D)[::-1]
    # Sides of equal size can be swapped, which gives the same distances.
    alike = 2 if num_then == num_now else 1
    return Dealt(
        distances=dict(zip(features, distances_F.tolist(), strict=True)),
        by_chance=float(ordered_D[min(allowed, len(ordered_D) - 1)]),
        p={
            name: float((greatest_D >= distance - SAME).mean())
            for name, distance in zip(features, distances_F, strict=True)
        },
        can_tell=alike / math.comb(num_then + num_now, num_now) <= false_alarm and ordered_D[allowed] < 1 - SAME,
    )


def by_users(num_then: int, num_now: int, *, false_alarm: float) -> float:
    """What the distance exceeds with the probability `false_alarm`, because the users are others, too.

    It is that of Kolmogorov for one feature with the same campaigns. A user's share of some campaigns varies less than
    one value does, so this is on the safe side. Users and campaigns are independent, so their chances add in squares.
    """
    from scipy.stats import kstwobign

    return float(kstwobign.isf(false_alarm)) * math.sqrt(1 / num_then + 1 / num_now)


def _deals(num_then: int, num_now: int) -> NDArray[np.bool_]:
    """Which campaigns belong to then, bool [D, C], the real deal first."""
    num = num_then + num_now
    if math.comb(num, num_now) <= MOST_DEALS:
        chosen = np.array(list(itertools.combinations(range(num), num_then)))
        then_DC = np.zeros((len(chosen), num), dtype=bool)
        np.put_along_axis(then_DC, chosen, True, axis=1)
        return then_DC
    drawn = np.random.default_rng(SEED).random((MOST_DEALS, num)).argsort(axis=1) < num_then
    drawn[0] = np.arange(num) < num_then
    return drawn
