"""Gradient-boosted trees on the features of the logistic baseline: what most teams would try first.

Ke et al., "LightGBM: A highly efficient gradient boosting decision tree", NeurIPS 2017. With one thread and
`deterministic`, the same pairs, hyperparameters and seed give the same trees. A bundle holds them in LightGBM's text
format, never as a pickle.

Shapes: N pairs · F features.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.errors import BundleError
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.ranker import HIGHEST_PROBABILITY, LOWEST_PROBABILITY, Ranker, Scores
from recommender.models.campaign.schema import as_trained, of_examples

if TYPE_CHECKING:
    from lightgbm import Booster


class LightGBMConfig(Hyperparameters):
    """Hyperparameters of `lightgbm`.

    The defaults are the best of 8 trials, rounded (reports/tuning/lightgbm.json). Search ranges are chosen by hand.
    """

    rounds: Annotated[int, Range(100, 600)] = Field(247, ge=1, description="Number of trees.")
    learning_rate: Annotated[float, Range(0.01, 0.1, log=True)] = Field(
        0.034, gt=0, description="Factor on the contribution of each tree (learning rate)."
    )
    leaves: Annotated[int, Range(4, 31)] = Field(9, ge=2, description="Largest number of leaves of a tree.")
    min_pairs_a_leaf: Annotated[int, Range(10, 100)] = Field(
        16, ge=1, description="Smallest number of pairs in a leaf."
    )
    feature_share: Annotated[float, Range(0.1, 0.8)] = Field(
        0.65, gt=0, le=1, description="Share of the features drawn for each tree."
    )
    pair_share: Annotated[float, Range(0.5, 1.0)] = Field(
        0.83, gt=0, le=1, description="Share of the pairs drawn for each tree."
    )
    penalty: Annotated[float, Range(0.1, 100.0, log=True)] = Field(
        8.2, ge=0, description="Weight of the L2 penalty on the values of the leaves."
    )


class LightGBMRanker(Ranker[LightGBMConfig]):
    """Boosted trees for participation, no prediction of money. Contributions are TreeSHAP values."""

    name = "lightgbm"
    Config = LightGBMConfig

    def __init__(self, trees: "Booster", names: tuple[str, ...], config: LightGBMConfig) -> None:
        self._trees, self._names, self._hyperparameters = trees, names, config

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: LightGBMConfig,
        context: FitContext,
        earlier: Ranker[Any] | None = None,
    ) -> Self:
        """Grow the trees. Raises LabelError as `Ranker.fit`."""
        known_N = known_redemptions(labels)
        trees = grow(examples.features_NF[known_N], labels.redeemed_N[known_N], config, seed=context.seed)
        # Through the text format at once, so that this ranker scores as the one that its bundle restores.
        again = _lightgbm().Booster(model_str=trees.model_to_string())
        return cls(again, examples.feature_names, config)

    def score(self, examples: Examples) -> Scores:
        """Predict the probability of participation of N pairs."""
        examples = as_trained(self._names, examples)
        p_N = np.asarray(self._trees.predict(examples.features_NF.astype(np.float64), num_threads=1))
        return Scores(redeem_N=np.clip(p_N, LOWEST_PROBABILITY, HIGHEST_PROBABILITY).astype(np.float32))

    def contributions(self, examples: Examples) -> NDArray[np.float32]:
        """TreeSHAP values of the features, float32 [N, F]. With the mean log-odds they add up to the log-odds."""
        features_NT = as_trained(self._names, examples).features_NF.astype(np.float64)
        added_NT1 = np.asarray(self._trees.predict(features_NT, pred_contrib=True, num_threads=1))
        return of_examples(np.ascontiguousarray(added_NT1[:, :-1], dtype=np.float32), self._names, examples)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The trees as bytes of LightGBM's text format."""
        return {"trees": np.frombuffer(self._trees.model_to_string().encode(), dtype=np.uint8)}

    def config(self) -> dict[str, Any]:
        """Hyperparameters and feature names."""
        return {"hyper": self._hyperparameters.model_dump(), "feature_names": list(self._names)}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Rebuild the ranker from `tensors()` and `config()`.

        Raises:
            BundleError: The trees were trained on another number of features than `config` names.
        """
        trees = _lightgbm().Booster(model_str=tensors["trees"].tobytes().decode())
        names = tuple(config["feature_names"])
        if trees.num_feature() != len(names):
            raise BundleError(
                f"lightgbm: the trees read {trees.num_feature()} features, the schema has {len(names)}. "
                "They come from different fits. Train again."
            )
        return cls(trees, names, LightGBMConfig.model_validate(config["hyper"]))


def grow(
    features_NF: NDArray[np.float32], happened_N: NDArray[np.floating], config: LightGBMConfig, *, seed: int
) -> "Booster":
    """Grow trees that predict outcomes (0 or 1), or the probabilities that stand for them, from features."""
    lightgbm = _lightgbm()
    # `binary` takes outcomes only. `cross_entropy` takes the probabilities that open pairs have as labels, too.
    outcomes_only = bool(np.isin(happened_N, (0, 1)).all())
    parameters = {
        "objective": "binary" if outcomes_only else "cross_entropy",
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_pairs_a_leaf,
        "feature_fraction": config.feature_share,
        "bagging_fraction": config.pair_share,
        "bagging_freq": 1,  # draw pairs anew for every tree
        "lambda_l2": config.penalty,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,  # as LightGBM's documentation advises beside `deterministic`
        "num_threads": 1,
        "verbosity": -1,
    }
    pairs = lightgbm.Dataset(features_NF.astype(np.float64), label=happened_N, params={"verbosity": -1})
    trees: Booster = lightgbm.train(parameters, pairs, num_boost_round=config.rounds)
    return trees


def _lightgbm() -> Any:
    """Import the package after torch, which brings the libgomp.so.1 that it needs where the system has none."""
    import torch  # noqa: F401, I001
    import lightgbm

    return lightgbm
