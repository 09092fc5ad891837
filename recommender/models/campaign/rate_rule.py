"""The rate rule: the user's past participation rate times the campaign type's, without any model. The figure to beat.

Both rates are shrunk: the user's by the features, the type's here. The score is their product over the overall rate,
which is exact if user and type act independently on the odds of a rare outcome.

Shapes: N pairs.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters
from recommender.errors import BundleError
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.popularity import PRIOR_PAIRS, TypeRates, type_rates
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.models.campaign.schema import as_trained

LOWEST, HIGHEST = 1e-6, 0.99
"""Bounds of the score. The product of two rates may exceed 1, and no rule of this kind is ever surer than 99 %. Chosen
by hand."""


class RateRuleConfig(Hyperparameters):
    """Hyperparameters of `rate_rule`. Its prior is that of `popularity`, whose rates it takes."""

    prior_pairs: float = Field(
        PRIOR_PAIRS,
        ge=0,
        description="Pairs at the overall rate that join the counts of each campaign type (shrinkage).",
    )
    rate_feature: str = Field(
        "behaviour__campaign_rate",
        min_length=1,
        description="Feature that holds the user's past participation rate.",
    )


class RateRuleRanker(Ranker[RateRuleConfig]):
    """The user's past participation rate times the campaign type's."""

    name = "rate_rule"
    Config = RateRuleConfig

    def __init__(self, rates: TypeRates, user_overall: float, names: tuple[str, ...], config: RateRuleConfig) -> None:
        self._rates, self._user_overall, self._names, self._hyperparameters = rates, user_overall, names, config
        if config.rate_feature not in names:
            raise BundleError(
                f"rate_rule: there is no feature {config.rate_feature!r}. Set rate_feature in "
                "[training.rankers.rate_rule] to the feature that holds the users' past participation rate."
            )
        self._column = names.index(config.rate_feature)

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: RateRuleConfig,
        context: FitContext,
        earlier: Ranker[Any] | None = None,
    ) -> Self:
        """Count participations by campaign type and average the users' past rates.

        Raises:
            LabelError: As `Ranker.fit`.
            BundleError: The examples lack the feature `rate_feature`.
        """
        known_N = known_redemptions(labels)
        rates = type_rates(examples, labels, known_N, prior_pairs=config.prior_pairs)
        ranker = cls(rates, 1.0, examples.feature_names, config)
        past_N = examples.features_NF[known_N, ranker._column]
        ranker._user_overall = float(np.nanmean(past_N)) if np.isfinite(past_N).any() else 1.0
        return ranker

    def score(self, examples: Examples) -> Scores:
        """Multiply the type's rate by the user's over the average user's. A user without a past rate is average."""
        examples = as_trained(self._names, examples)
        past_N = examples.features_NF[:, self._column].astype(np.float64)
        lift_N = np.where(np.isfinite(past_N), past_N / self._user_overall, 1.0)
        return Scores(redeem_N=np.clip(self._rates(examples) * lift_N, LOWEST, HIGHEST).astype(np.float32))

    def contributions(self, examples: Examples) -> None:
        """None: a product of two rates is not a sum over features."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Rates of the types, overall rate, and the average user's past rate."""
        return {"rates_K": self._rates.rates_K, "overall": np.array([self._rates.overall, self._user_overall])}

    def config(self) -> dict[str, Any]:
        """Hyperparameters, names of the types and of the features."""
        return {
            "hyper": self._hyperparameters.model_dump(),
            "vocabulary": {"campaign_type": list(self._rates.types)},
            "feature_names": list(self._names),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Rebuild the ranker from `tensors()` and `config()`."""
        overall, user_overall = tensors["overall"].tolist()
        rates = TypeRates(config["vocabulary"]["campaign_type"], tensors["rates_K"], overall)
        names = tuple(config["feature_names"])
        return cls(rates, user_overall, names, RateRuleConfig.model_validate(config["hyper"]))
