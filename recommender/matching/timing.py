"""When in a campaign's window users take it up: the share of participations that lie behind, by campaign type.

The distribution is nonparametric, in bins of the elapsed share of the window, which is a discrete hazard. Open windows
count for what they have shown so far (self-consistency: Turnbull, "The empirical distribution function with arbitrarily
grouped, censored and truncated data", JRSS B, 1976). A type with few participations is shrunk to the shop's
distribution, and the shop's to an even one.

Fallbacks: a type without a participation in a closed window takes the shop's distribution. A shop without one takes the
prior, by which participations are spread evenly over the window.

Shapes: N pairs · K campaign types · J bins.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.errors import LabelError
from recommender.matching.horizon import Outcomes

BINS = 20
"""Bins of a window: two to three days of a campaign of seven weeks. Chosen by hand."""
PRIOR_OF_SHOP, PRIOR_OF_TYPE = 30.0, 300.0
"""Participations that the prior is worth beside the shop's, and the shop's distribution beside a type's.

Chosen among 10, 30, 100 and 30, 100, 300, 1000 by the likelihood of later participations on two rolling origins of the
default data (rows `horizon: …, timing` of reports/bench/decision.json). All of 10 to 30 with 100 to 300 are alike."""
MAX_ROUNDS, TOLERANCE = 50, 1e-6
"""Limits of the iteration for open windows, in rounds and in the largest change of a bin's share."""
TYPE, SHOP, PRIOR = "its type", "all types", "no closed campaign: an even spread"
"""What a type's distribution was learnt from."""

Floats = NDArray[np.float64]


class Timing:
    """Share of the participations that lie behind at an elapsed share of the window, by campaign type."""

    def __init__(self, types: Sequence[str], shares_KJ: Floats, shop_J: Floats, learnt_from: Mapping[str, str]) -> None:
        self.types, self.shares_KJ, self.shop_J = tuple(types), shares_KJ, shop_J
        self.learnt_from = dict(learnt_from)
        """Campaign type -> what its distribution was learnt from."""
        self._row = {name: row for row, name in enumerate(self.types)}
        whole = np.concatenate([shares_KJ, shop_J[None]])  # the last row is that of a type never seen
        self._behind = np.concatenate([np.zeros((len(whole), 1)), np.cumsum(whole, axis=1)], axis=1)
        self._behind[:, -1] = 1.0  # exactly, so that a whole window changes no bit of a probability

    @classmethod
    def prior(cls) -> Self:
        """An even spread over the window, for every type."""
        return cls((), np.zeros((0, BINS)), np.full(BINS, 1 / BINS), {})

    @property
    def is_prior(self) -> bool:
        """Whether nothing was learnt."""
        return not self.types

    @classmethod
    def fit(cls, types_N: Sequence[str], outcomes: Outcomes, expected_N: Floats) -> Self:
        """Estimate the distributions from what was known at a boundary.

        Args:
            types_N: Campaign type of each pair.
            outcomes: What was known about the participations.
            expected_N: Probability that a pair will take part at all. Read for pairs with an open window only.

        Raises:
            LabelError: A participation lies before its targeting. Names the first such pair.
        """
        early_N = outcomes.redeemed_us_N < outcomes.targeted_us_N
        if early_N.any():
            row = int(np.flatnonzero(early_N)[0])
            raise LabelError(
                f"redeemed_at: {int(early_N.sum())} of {len(early_N)} pairs took part before they were targeted, the "
                f"first is pair {row}. Participations before `targeted_at` are no outcome; leave them out."
            )
        closed_N = outcomes.redeemed_N & (outcomes.ends_us_N <= outcomes.known_at_us)
        if not closed_N.any():
            return cls.prior()
        redeemed_N, open_N = outcomes.redeemed_N, outcomes.open_N
        at_N, observed_N = outcomes.redeemed_share_N(), outcomes.observed_N()
        shop_J = _distribution(at_N[redeemed_N], observed_N[open_N], expected_N[open_N], _even(), PRIOR_OF_SHOP)
        names = np.asarray(types_N, dtype=object).astype(str)
        types = sorted(set(names.tolist()))
        rows, learnt_from = [], {}
        for name in types:
            same_N = names == name
            learnt_from[name] = TYPE if (closed_N & same_N).any() else SHOP
            if learnt_from[name] == SHOP:
                rows.append(shop_J)
                continue
            part = redeemed_N & same_N, open_N & same_N
            rows.append(_distribution(at_N[part[0]], observed_N[part[1]], expected_N[part[1]], shop_J, PRIOR_OF_TYPE))
        return cls(types, np.stack(rows), shop_J, learnt_from)

    def behind_N(self, types_N: Sequence[str], share_N: Floats) -> Floats:
        """Share of the participations that lie behind at an elapsed share, float64 [N]. A new type gets the shop's."""
        return behind_at(self._behind, self._rows(types_N), share_N)

    def edges(self, types_C: Sequence[str]) -> Floats:
        """Share of the participations that lies behind at the edges of the bins, float64 [C, BINS + 1]."""
        return np.asarray(self._behind[self._rows(types_C)])

    def _rows(self, types_N: Sequence[str]) -> NDArray[np.int64]:
        return np.array([self._row.get(name, len(self.types)) for name in types_N], dtype=np.int64)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All arrays that `restore` needs."""
        return {"shares_KJ": self.shares_KJ, "shop_J": self.shop_J}

    def config(self) -> dict[str, Any]:
        """Everything else that `restore` needs."""
        return {"types": list(self.types), "learnt_from": self.learnt_from}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Rebuild it from `tensors()` and `config()`."""
        return cls(config["types"], tensors["shares_KJ"], tensors["shop_J"], config["learnt_from"])


def behind_at(edges_KJ: Floats, rows_N: NDArray[Any], share_N: Floats) -> Floats:
    """Share of the participations that lies behind at an elapsed share of the window, float64 [N].

    Args:
        edges_KJ: The same at the edges of the window's `BINS` bins, [K, BINS + 1].
        rows_N: Row in it of each pair.
        share_N: Elapsed share of each pair's window, 0 to 1.
    """
    place_N = np.minimum(np.maximum(share_N, 0.0), 1.0) * BINS
    bin_N = np.minimum(place_N.astype(np.int64), BINS - 1)
    low_N, high_N = edges_KJ[rows_N, bin_N], edges_KJ[rows_N, bin_N + 1]
    inside_N = place_N - bin_N
    # Written so that the ends of a bin give its values without a rounding error.
    behind_N: Floats = np.where(inside_N >= 1, high_N, low_N + (high_N - low_N) * inside_N)
    return behind_N


def still_coming(p_N: Floats, behind_N: Floats, reached_N: Floats) -> Floats:
    """Probability of a participation between two moments, given none before the first.

    Args:
        p_N: Probability of a participation at any time in the window.
        behind_N: Share of the participations that lie behind at the first moment.
        reached_N: The same at the second moment.
    """
    # Bayes: p (F2 - F1) / (1 - p F1). With F1 = 0 and F2 = 1 it is p to the last bit.
    return p_N * (reached_N - behind_N) / (1.0 - p_N * behind_N)


def _even() -> Floats:
    return np.full(BINS, 1 / BINS)


def _distribution(at_R: Floats, observed_O: Floats, expected_O: Floats, prior_J: Floats, weight: float) -> Floats:
    """Shares of the bins: participations seen at `at_R`, and those expected of windows observed up to `observed_O`."""
    edges = np.linspace(0.0, 1.0, BINS + 1)
    seen_J = np.histogram(at_R, edges)[0].astype(np.float64)
    # The part of each bin that an open window has still ahead of it.
    ahead_OJ = np.clip((edges[1:] - np.maximum(edges[:-1], observed_O[:, None])) * BINS, 0.0, 1.0)
    shares_J = prior_J
    for _ in range(MAX_ROUNDS):
        mass_OJ = shares_J * ahead_OJ
        total_O = mass_OJ.sum(axis=1, keepdims=True)
        coming_J = (expected_O[:, None] * mass_OJ / np.where(total_O > 0, total_O, 1.0)).sum(axis=0)
        counts_J = seen_J + coming_J + weight * prior_J
        updated_J: Floats = counts_J / counts_J.sum()
        if np.abs(updated_J - shares_J).max() < TOLERANCE:
            return updated_J
        shares_J = updated_J
    return shares_J
