"""Popularity: every pair of a campaign type gets that type's past participation rate, shrunk to the overall rate.

What a shop without any model of its users would do, and the floor for every other ranker. The shrinkage is the posterior
mean of a beta-binomial (Efron & Morris, 1975): `prior_pairs` pairs at the overall rate are added to each type's counts.

Shapes: N pairs · K campaign types.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.matching.examples import Examples, Histories, Labels
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.ranker import Ranker, Scores

DEFAULTS: dict[str, Any] = {"prior_pairs": 50.0}


class TypeRates:
    """Shrunk participation rate of each campaign type; an unseen type gets the overall rate."""

    def __init__(self, types: Sequence[str], rates_K: NDArray[np.float64], overall: float) -> None:
        self.types, self.rates_K, self.overall = tuple(types), rates_K, overall
        self._rate_by_type = dict(zip(self.types, rates_K.tolist(), strict=True))

    @classmethod
    def count(cls, types_N: Sequence[str], redeemed_N: NDArray[np.float32], *, prior_pairs: float) -> Self:
        names, rows_N = np.unique(np.asarray(types_N, dtype=object).astype(str), return_inverse=True)
        overall = float(redeemed_N.mean(dtype=np.float64))
        pairs_K = np.bincount(rows_N, minlength=len(names))
        redeemed_K = np.bincount(rows_N, weights=redeemed_N, minlength=len(names))
        rates_K = (redeemed_K + prior_pairs * overall) / (pairs_K + prior_pairs)
        return cls(names.tolist(), rates_K, overall)

    def __call__(self, examples: Examples) -> NDArray[np.float64]:
        """The rate of each pair's campaign, float64 [N]."""
        types = examples.catalogue.campaign_types
        rates = [self._rate_by_type.get(types[row], self.overall) for row in examples.campaigns_N.tolist()]
        return np.asarray(rates, dtype=np.float64)


def campaign_types(examples: Examples) -> list[str]:
    """The type of each pair's campaign, N strings."""
    return [examples.catalogue.campaign_types[row] for row in examples.campaigns_N.tolist()]


class PopularityRanker(Ranker):
    """The past participation rate of the campaign's type."""

    name = "popularity"

    def __init__(self, rates: TypeRates, hyper: Mapping[str, Any]) -> None:
        self._rates, self._hyper = rates, dict(hyper)

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: Mapping[str, Any],
        context: FitContext,
        earlier: Ranker | None = None,
    ) -> Self:
        hyper = {**DEFAULTS, **config}
        known_N = known_redemptions(labels)
        types = [kind for kind, known in zip(campaign_types(examples), known_N.tolist(), strict=True) if known]
        rates = TypeRates.count(types, labels.redeemed_N[known_N], prior_pairs=float(hyper["prior_pairs"]))
        return cls(rates, hyper)

    def score(self, examples: Examples) -> Scores:
        return Scores(redeem_N=self._rates(examples).astype(np.float32))

    def contributions(self, examples: Examples) -> None:
        return None

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"rates_K": self._rates.rates_K, "overall": np.array([self._rates.overall])}

    def config(self) -> dict[str, Any]:
        return {"hyper": self._hyper, "vocabulary": {"campaign_type": list(self._rates.types)}}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        types = config["vocabulary"]["campaign_type"]
        return cls(TypeRates(types, tensors["rates_K"], float(tensors["overall"][0])), config["hyper"])
