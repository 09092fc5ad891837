"""Re-ranks one user's campaigns: gives up a little of the score for a more varied list, or one closer to their tastes.

- `mmr`, maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): the next campaign is the one whose score, less
  its largest overlap with those above it, is highest. Overlap is the Jaccard index of the campaigns' product types.
- `calibrated` (Steck, "Calibrated recommendations", RecSys 2018): the next campaign is the one whose score, less the
  divergence of the list's category shares from the user's own, is highest.

The trade-off t weighs both parts: (1 - t) · score / best score - t · penalty. With t = 0 the order is that of the
scores. Items inside a campaign are varied by `item_choice`, which no setting turns off, so they are not re-ranked here.

Endpoint, bulk scoring and evaluation order campaigns with `Rerank.order`.

Shapes: N candidates of one user · V values of an axis · n values that the user bought.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from recommender.matching.affinity import AXES, MEASURES, UserAffinity
from recommender.matching.catalogue import Catalogue
from recommender.settings import ServingSettings

Floats = NDArray[np.float64]
Kind = Literal["none", "mmr", "calibrated"]
SMOOTHING = 0.01
"""Share of the user's own distribution that is mixed into the list's, so that the divergence stays finite where the
list lacks a category: Steck's value."""
DEPTH = 50
"""Places that are re-ranked. Later ones keep the order of the scores. Chosen by hand: beyond what a page shows, and it
bounds the cost of hundreds of candidates."""
KEPT_SETS = 32
"""Sets of campaigns whose overlaps and category shares stay in memory. Users who took none up share one. Chosen by
hand."""
_PRODUCT_TYPE, _CATEGORY = AXES.index("product_type"), AXES.index("category")
_LINES = MEASURES.index("lines")


@dataclass(frozen=True)
class Shares:
    """How a user's purchase lines are spread over the categories. Empty for a user without purchases."""

    values_n: NDArray[np.int32]
    """Indices into the catalogue's categories, ascending."""
    share_n: Floats
    """Sums to 1."""

    @classmethod
    def of(cls, user: UserAffinity) -> "Shares":
        """Count the purchase lines of a user in each category."""
        lines_n = user.counts[_CATEGORY][_LINES].astype(np.float64)
        bought_n = lines_n > 0
        return cls(user.values[_CATEGORY][bought_n], lines_n[bought_n] / max(lines_n.sum(), 1.0))


@dataclass(frozen=True, kw_only=True)
class Rerank:
    """Kind and strength of the re-ranking."""

    kind: Kind = "none"
    trade_off: float = 0.0
    """Weight of variety or calibration against the score, in [0, 1]."""

    @classmethod
    def of(cls, serving: ServingSettings) -> "Rerank":
        """As the settings say."""
        return cls(kind=serving.rerank, trade_off=serving.rerank_trade_off)

    @property
    def is_on(self) -> bool:
        """Whether the order can differ from that of the scores."""
        return self.kind != "none" and self.trade_off > 0

    def order(
        self, score_N: NDArray[np.float32], rows_N: NDArray[np.int32], catalogue: Catalogue, shares: Shares | None
    ) -> NDArray[np.int64]:
        """Order the candidates, best first. Equal ones keep the order in which they are given.

        Args:
            score_N: probabilities of participation.
            rows_N: the candidates' rows in the catalogue.
            catalogue: items and campaigns.
            shares: what the user buys. `calibrated` keeps the order of the scores without it.
        """
        by_score_N = np.argsort(-score_N, kind="stable")
        if not self.is_on or len(score_N) < 2:
            return by_score_N
        relevance_N = score_N.astype(np.float64) / max(float(np.max(score_N)), float(np.finfo(np.float32).tiny))
        match self.kind:
            case "mmr":
                chosen = _mmr(relevance_N, overlaps(catalogue, rows_N), self.trade_off)
            case "calibrated":
                if shares is None or not len(shares.values_n):
                    return by_score_N
                mix_Nn = category_mix(catalogue, rows_N)[:, shares.values_n]
                chosen = _calibrated(relevance_N, mix_Nn, shares.share_n, self.trade_off)
            case "none":
                return by_score_N
            case other:
                assert_never(other)
        rest = by_score_N[~np.isin(by_score_N, chosen)]
        return np.concatenate([np.array(chosen, dtype=np.int64), rest])


def _mmr(relevance_N: Floats, overlap_NN: Floats, trade_off: float) -> list[int]:
    value_N, nearest_N = (1 - trade_off) * relevance_N, np.zeros(len(relevance_N))
    chosen: list[int] = []
    for _ in range(min(DEPTH, len(relevance_N))):
        marginal_N = value_N - trade_off * nearest_N
        marginal_N[chosen] = -np.inf
        chosen.append(int(marginal_N.argmax()))
        nearest_N = np.maximum(nearest_N, overlap_NN[chosen[-1]])
    return chosen


def _calibrated(relevance_N: Floats, mix_Nn: Floats, own_n: Floats, trade_off: float) -> list[int]:
    chosen: list[int] = []
    summed_n, weights = np.zeros(len(own_n)), 0.0
    for place in range(min(DEPTH, len(relevance_N))):
        weight = float(place_weight(place))
        list_Nn = (summed_n + weight * mix_Nn) / (weights + weight)
        value_N = (1 - trade_off) * relevance_N - trade_off * divergence(own_n, list_Nn)
        value_N[chosen] = -np.inf
        chosen.append(int(value_N.argmax()))
        summed_n, weights = summed_n + weight * mix_Nn[chosen[-1]], weights + weight
    return chosen


def place_weight(place: int | NDArray[np.int64]) -> Floats:
    """Share of the attention that a place gets, the first one (0) 1: 1 / log2(place + 2), as DCG has it."""
    return np.asarray(1 / np.log2(np.asarray(place, dtype=np.float64) + 2))


def divergence(own_n: Floats, list_Nn: Floats) -> Floats:
    """Kullback-Leibler divergence of N lists' category shares from a user's own, in nats, each >= 0 (Steck, eq. 4-5).

    Only the categories that the user buys count, so the shares of a list may sum to less than 1.
    """
    smoothed_Nn = (1 - SMOOTHING) * list_Nn + SMOOTHING * own_n
    return np.asarray((own_n * (np.log(own_n) - np.log(smoothed_Nn))).sum(axis=-1))


def overlaps(catalogue: Catalogue, rows_N: NDArray[np.int32]) -> Floats:
    """Jaccard index of the product types of each two campaigns, in [0, 1]. 0 where neither has any."""
    return _vectors(catalogue).of_set("overlaps", rows_N)


def category_mix(catalogue: Catalogue, rows_N: NDArray[np.int32]) -> Floats:
    """Share of each category among the items of campaigns that have one, float64 [N, V]. Column 0, none, is 0."""
    return _vectors(catalogue).of_set("mix", rows_N)


BY_SCORE = Rerank()
"""No re-ranking."""


@dataclass(frozen=True, eq=False)
class _Vectors:
    """What was computed for the campaigns of one catalogue: of each alone, and of the last sets that were asked for."""

    catalogue: Catalogue
    counts: dict[tuple[int, int], Floats] = field(default_factory=dict)
    """(campaign, axis) -> how many items each value of the axis has, [V], 0 for no value."""
    sets: dict[tuple[str, bytes], Floats] = field(default_factory=dict)

    def of_set(self, what: Literal["overlaps", "mix"], rows_N: NDArray[np.int32]) -> Floats:
        key = (what, np.asarray(rows_N, dtype=np.int32).tobytes())
        found = self.sets.get(key)
        if found is None:
            if len(self.sets) >= KEPT_SETS:
                self.sets.clear()
            axis = _PRODUCT_TYPE if what == "overlaps" else _CATEGORY
            counts_NV = np.stack([self._counts(row, axis) for row in rows_N.tolist()])
            found = self.sets[key] = _jaccard(counts_NV) if what == "overlaps" else _shares(counts_NV)
        return found

    def _counts(self, row: int, axis: int) -> Floats:
        found = self.counts.get((row, axis))
        if found is None:
            values, size = (
                self.catalogue.item_axes_VA[self.catalogue.items_of(row), axis],
                len(self.catalogue.axis_values[axis]),
            )
            found = np.bincount(values, minlength=size).astype(np.float64)
            found[0] = 0
            self.counts[row, axis] = found
        return found


@lru_cache(maxsize=2)  # The current catalogue, and the new one while both are in use.
def _vectors(catalogue: Catalogue) -> _Vectors:
    return _Vectors(catalogue)


def _jaccard(counts_NV: Floats) -> Floats:
    present_NV = (counts_NV > 0).astype(np.float64)
    both_NN, size_N = present_NV @ present_NV.T, present_NV.sum(axis=1)
    return np.asarray(both_NN / np.maximum(size_N[:, None] + size_N - both_NN, 1))


def _shares(counts_NV: Floats) -> Floats:
    return np.asarray(counts_NV / np.maximum(counts_NV.sum(axis=1, keepdims=True), 1))
