"""The rate rule: the user's past participation rate times the campaign type's, no model. The figure to beat.

Both rates are shrunk (a user's by the features, a type's here); their product over the overall rate is the estimate that would be
exact if user and type acted independently on the odds of a rare outcome.

Shapes: N pairs.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.errors import BundleError
from recommender.matching.examples import Examples, Histories, Labels
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.popularity import TypeRates, campaign_types
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.models.campaign.schema import require_features

DEFAULTS: dict[str, Any] = {"prior_pairs": 50.0, "rate_feature": "behaviour__campaign_rate"}
HIGHEST = 0.99


class RateRuleRanker(Ranker):
    """The user's past rate times the campaign type's past rate."""

    name = "rate_rule"

    def __init__(self, rates: TypeRates, user_overall: float, names: tuple[str, ...], hyper: Mapping[str, Any]) -> None:
        self._rates, self._user_overall, self._names, self._hyper = rates, user_overall, names, dict(hyper)
        if hyper["rate_feature"] not in names:
            raise BundleError(
                f"rate_rule: no feature is called {hyper['rate_feature']!r}. Name the users' past participation rate in "
                "`training.rankers.rate_rule.rate_feature`."
            )
        self._column = names.index(hyper["rate_feature"])

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
        ranker = cls(rates, 1.0, examples.feature_names, hyper)
        past_N = examples.features_NF[known_N, ranker._column]
        ranker._user_overall = float(np.nanmean(past_N)) if np.isfinite(past_N).any() else 1.0
        return ranker

    def score(self, examples: Examples) -> Scores:
        require_features(self._names, examples)
        past_N = examples.features_NF[:, self._column].astype(np.float64)
        lift_N = np.where(np.isfinite(past_N), past_N / self._user_overall, 1.0)
        return Scores(redeem_N=np.clip(self._rates(examples) * lift_N, 1e-6, HIGHEST).astype(np.float32))

    def contributions(self, examples: Examples) -> None:
        return None

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"rates_K": self._rates.rates_K, "overall": np.array([self._rates.overall, self._user_overall])}

    def config(self) -> dict[str, Any]:
        vocabulary = {"campaign_type": list(self._rates.types)}
        return {"hyper": self._hyper, "vocabulary": vocabulary, "feature_names": list(self._names)}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        overall, user_overall = tensors["overall"].tolist()
        rates = TypeRates(config["vocabulary"]["campaign_type"], tensors["rates_K"], overall)
        return cls(rates, user_overall, tuple(config["feature_names"]), config["hyper"])
