"""Gradient-boosted trees on the features of the logistic baseline: what most teams would try first, and so a figure to beat.

Ke et al., "LightGBM: A highly efficient gradient boosting decision tree", NeurIPS 2017. One thread and `deterministic`: the same
pairs, dials and seed give the same trees. The trees travel as LightGBM's own text, bytes in a tensor, never a pickle.

Shapes: N pairs · F features.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.errors import BundleError
from recommender.matching.examples import Examples, Histories, Labels
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.models.campaign.schema import require_features

if TYPE_CHECKING:
    from lightgbm import Booster

DEFAULTS: dict[str, Any] = {
    "rounds": 247,
    "learning_rate": 0.034,
    "leaves": 9,
    "min_pairs_a_leaf": 16,
    "feature_share": 0.65,
    "pair_share": 0.83,
    "penalty": 8.2,
}
"""rounds: trees · learning_rate: what a tree adds · leaves: of a tree · min_pairs_a_leaf: fewer are not split off · feature_share:
drawn for each tree · pair_share: drawn for each tree · penalty: L2 on the values of leaves."""
LOWEST, HIGHEST = 1e-7, 1 - 1e-6


class LightGBMRanker(Ranker):
    """Boosted trees for participation; no heads for money. Contributions are TreeSHAP's, which add up to the log-odds."""

    name = "lightgbm"

    def __init__(self, trees: "Booster", names: tuple[str, ...], hyper: Mapping[str, Any]) -> None:
        self._trees, self._names, self._hyper = trees, names, dict(hyper)

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
        lightgbm = _lightgbm()

        known_N = known_redemptions(labels)
        hyper = {**DEFAULTS, **config}
        dials = {
            "objective": "binary",
            "learning_rate": float(hyper["learning_rate"]),
            "num_leaves": int(hyper["leaves"]),
            "min_data_in_leaf": int(hyper["min_pairs_a_leaf"]),
            "feature_fraction": float(hyper["feature_share"]),
            "bagging_fraction": float(hyper["pair_share"]),
            "bagging_freq": 1,
            "lambda_l2": float(hyper["penalty"]),
            "seed": context.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        pairs = lightgbm.Dataset(
            examples.features_NF[known_N].astype(np.float64), label=labels.redeemed_N[known_N], params={"verbosity": -1}
        )
        trees = lightgbm.train(dials, pairs, num_boost_round=int(hyper["rounds"]))
        return cls.restore(
            {"trees": np.frombuffer(trees.model_to_string().encode(), dtype=np.uint8)},
            {"feature_names": list(examples.feature_names), "hyper": hyper},
        )

    def score(self, examples: Examples) -> Scores:
        require_features(self._names, examples)
        p_N = np.asarray(self._trees.predict(examples.features_NF.astype(np.float64), num_threads=1))
        return Scores(redeem_N=np.clip(p_N, LOWEST, HIGHEST).astype(np.float32))

    def contributions(self, examples: Examples) -> NDArray[np.float32]:
        require_features(self._names, examples)
        features_NF = examples.features_NF.astype(np.float64)
        added_NF1 = np.asarray(self._trees.predict(features_NF, pred_contrib=True, num_threads=1))
        return np.ascontiguousarray(added_NF1[:, :-1], dtype=np.float32)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"trees": np.frombuffer(self._trees.model_to_string().encode(), dtype=np.uint8)}

    def config(self) -> dict[str, Any]:
        return {"hyper": self._hyper, "feature_names": list(self._names)}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        trees = _lightgbm().Booster(model_str=tensors["trees"].tobytes().decode())
        names = tuple(config["feature_names"])
        if trees.num_feature() != len(names):
            raise BundleError(
                f"lightgbm: the trees read {trees.num_feature()} features, the schema has {len(names)}. They are of different fits; "
                "train again."
            )
        return cls(trees, names, config["hyper"])


def _lightgbm() -> Any:
    """The package. Its library wants libgomp.so.1, which torch brings where the system has none."""
    import torch  # noqa: F401, I001
    import lightgbm

    return lightgbm
