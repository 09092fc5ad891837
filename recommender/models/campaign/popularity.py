"""Popularity: each pair gets the past participation rate of its campaign's type, shrunk to the overall rate.

A shop without any model of its users would rank like this. Every other ranker should beat it. The shrinkage is the
posterior mean of a beta-binomial model (Efron & Morris, 1975): `prior_pairs` pairs at the overall rate join the counts
of each type.

Shapes: N pairs · K campaign types.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.ranker import Ranker, Scores

PRIOR_PAIRS = 50.0
"""Chosen by hand: a campaign type of fewer than 50 pairs leans more on the overall rate than on its own."""


class PopularityConfig(Hyperparameters):
    """Hyperparameters of `popularity`. `PRIOR_PAIRS` says why 50."""

    prior_pairs: float = Field(
        PRIOR_PAIRS,
        ge=0,
        description="Pairs at the overall rate that join the counts of each campaign type (shrinkage).",
    )


class TypeRates:
    """Shrunk participation rate of each campaign type. A type that is not known gets the overall rate."""

    def __init__(self, types: Sequence[str], rates_K: NDArray[np.float64], overall: float) -> None:
        self.types, self.rates_K, self.overall = tuple(types), rates_K, overall
        self._rate_by_type = dict(zip(self.types, rates_K.tolist(), strict=True))

    @classmethod
    def count(cls, types_N: Sequence[str], redeemed_N: NDArray[np.float32], *, prior_pairs: float) -> Self:
        """Count the rates from the campaign types and outcomes (0 or 1) of N pairs."""
        names, rows_N = np.unique(np.asarray(types_N, dtype=object).astype(str), return_inverse=True)
        overall = float(redeemed_N.mean(dtype=np.float64))
        pairs_K = np.bincount(rows_N, minlength=len(names))
        redeemed_K = np.bincount(rows_N, weights=redeemed_N, minlength=len(names))
        rates_K = (redeemed_K + prior_pairs * overall) / (pairs_K + prior_pairs)
        return cls(names.tolist(), rates_K, overall)

    def __call__(self, examples: Examples) -> NDArray[np.float64]:
        """Look up the rate of each pair's campaign type, float64 [N]."""
        types = examples.catalogue.campaign_types
        rates = [self._rate_by_type.get(types[row], self.overall) for row in examples.campaigns_N.tolist()]
        return np.asarray(rates, dtype=np.float64)


def type_rates(examples: Examples, labels: Labels, known_N: NDArray[np.bool_], *, prior_pairs: float) -> TypeRates:
    """Count the rates of the campaign types over the pairs whose outcome is known."""
    types = examples.catalogue.campaign_types
    types_N = [types[row] for row in examples.campaigns_N[known_N].tolist()]
    return TypeRates.count(types_N, labels.redeemed_N[known_N], prior_pairs=prior_pairs)


class PopularityRanker(Ranker[PopularityConfig]):
    """The past participation rate of the campaign's type, the same for every user."""

    name = "popularity"
    Config = PopularityConfig

    def __init__(self, rates: TypeRates, config: PopularityConfig) -> None:
        self._rates, self._hyperparameters = rates, config

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: PopularityConfig,
        context: FitContext,
        earlier: Ranker[Any] | None = None,
    ) -> Self:
        """Count participations by campaign type. Raises LabelError as `Ranker.fit`."""
        known_N = known_redemptions(labels)
        return cls(type_rates(examples, labels, known_N, prior_pairs=config.prior_pairs), config)

    def score(self, examples: Examples) -> Scores:
        """Score each pair with the rate of its campaign's type."""
        return Scores(redeem_N=self._rates(examples).astype(np.float32))

    def contributions(self, examples: Examples) -> None:
        """None: no feature is read."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Rates of the types and overall."""
        return {"rates_K": self._rates.rates_K, "overall": np.array([self._rates.overall])}

    def config(self) -> dict[str, Any]:
        """Hyperparameters and the names of the types."""
        return {
            "hyper": self._hyperparameters.model_dump(),
            "vocabulary": {"campaign_type": list(self._rates.types)},
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Rebuild the ranker from `tensors()` and `config()`."""
        types = config["vocabulary"]["campaign_type"]
        rates = TypeRates(types, tensors["rates_K"], float(tensors["overall"][0]))
        return cls(rates, PopularityConfig.model_validate(config["hyper"]))
