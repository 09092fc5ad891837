"""Logistic regression on portrait, campaign and affinity features, with ridge regressions for spend and excess.

Scoring needs numpy only: one standardisation and three products. The penalty is L2 and L-BFGS runs to convergence, so
the weights are the global optimum. Money has heavy tails, so the ridge regressions learn its asinh. Their answers are
transformed back and multiplied by one factor that makes the total over the training pairs right (a simple form of the
smearing of Duan, JASA 1983).

Shapes: N pairs · F features · E inputs after preprocessing.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.matching.examples import Examples, Labels
from recommender.matching.packed_history import Histories
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.ranker import (
    HIGHEST_PROBABILITY,
    LOWEST_PROBABILITY,
    Contributions,
    Ranker,
    Scores,
)
from recommender.models.campaign.schema import as_trained, of_examples

MIN_MONEY_PAIRS = 20
"""Spend and excess are predicted only where this many pairs have a known value. Chosen by hand: fewer tell nothing."""
FARTHEST = 30.0
"""Log-odds are clipped here, so that exp stays finite. The probability is clipped at log-odds of 14 to 16 anyway."""
MAX_ITERATIONS, TOLERANCE = 2_000, 1e-6
"""Limits of L-BFGS. scikit-learn's defaults (100, 1e-4) may stop short of the optimum."""
MAX_FACTOR = 10.0
"""The factor for money stays between 1/10 and 10, so that a poor fit cannot predict absurd sums. Chosen by hand."""


class LogisticConfig(Hyperparameters):
    """Hyperparameters of `logistic`.

    `strength` and `clip` were the best of 8 trials (reports/tuning/logistic.json). Search ranges are chosen by hand.
    """

    strength: Annotated[float, Range(1e-4, 0.1, log=True)] = Field(
        0.003, gt=0, description="Inverse of the weight of the L2 penalty of the regression for participation."
    )
    # Chosen by hand. Above 0: the features that never vary leave a singular matrix without a penalty.
    ridge: float = Field(300.0, gt=0, description="Weight of the L2 penalty of the regressions for spend and excess.")
    clip: Annotated[float, Range(2.0, 8.0)] = Field(
        4.0, gt=0, description="Standard deviations at which each standardised input is clipped."
    )


class LogisticRanker(Ranker[LogisticConfig]):
    """L2-penalised logistic regression on all features. Its contributions are exact."""

    name = "logistic"
    Config = LogisticConfig

    def __init__(
        self,
        preprocessing: Preprocessing,
        redeem_E: NDArray[np.float32],
        redeem_bias: float,
        money: Mapping[str, NDArray[np.float32]],
        names: tuple[str, ...],
        config: LogisticConfig,
    ) -> None:
        self._preprocessing, self._redeem_E, self._redeem_bias = preprocessing, redeem_E, redeem_bias
        self._money, self._names, self._hyperparameters = dict(money), names, config

    @classmethod
    def fit(
        cls,
        examples: Examples,
        labels: Labels,
        *,
        corpus: Histories,
        config: LogisticConfig,
        context: FitContext,
        earlier: Ranker[Any] | None = None,
    ) -> Self:
        """Fit the preprocessing and the regressions. Raises LabelError as `Ranker.fit`."""
        known_N = known_redemptions(labels)
        preprocessing = Preprocessing.fit(examples.features_NF[known_N], clip=config.clip)
        z_NE = preprocessing(examples.features_NF)
        redeem_E, bias = fit_logistic(z_NE[known_N], labels.redeemed_N[known_N], strength=config.strength)
        money = {}
        for head, target_N in (("spend", labels.spend_N), ("excess", labels.excess_N)):
            paid_N = np.isfinite(target_N)
            if paid_N.sum() >= MIN_MONEY_PAIRS:
                money[head] = fit_money(z_NE[paid_N], target_N[paid_N], ridge=config.ridge)
        return cls(preprocessing, redeem_E, bias, money, examples.feature_names, config)

    def score(self, examples: Examples) -> Scores:
        """Predict participation, and spend (at least 0) and excess where the training pairs had enough of them."""
        z_NE = self._preprocessing(as_trained(self._names, examples).features_NF)
        money = {head: unfold_money(z_NE, weights) for head, weights in self._money.items()}
        if "spend" in money:
            np.maximum(money["spend"], 0, out=money["spend"])
        return Scores(
            redeem_N=self._redeem_N(z_NE),
            spend_N=money.get("spend"),
            excess_N=money.get("excess"),
        )

    def contributions(self, examples: Examples) -> NDArray[np.float32]:
        """Weight times input of each feature, float32 [N, F]. With the bias they add up to the log-odds."""
        z_NE = self._preprocessing(as_trained(self._names, examples).features_NF)
        return of_examples(self._preprocessing.by_feature(z_NE * self._redeem_E), self._names, examples)

    def ranked(self, examples: Examples) -> tuple[NDArray[np.float32], Contributions]:
        """Preprocess once, and leave out the money."""
        z_NE = self._preprocessing(as_trained(self._names, examples).features_NF)
        by_feature, redeem_E, names = self._preprocessing.by_feature, self._redeem_E, self._names
        return self._redeem_N(z_NE), lambda places: of_examples(by_feature(z_NE[places] * redeem_E), names, examples)

    def _redeem_N(self, z_NE: NDArray[np.float32]) -> NDArray[np.float32]:
        return sigmoid(_rowwise(z_NE, self._redeem_E) + self._redeem_bias)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Preprocessing and weights."""
        return {
            **self._preprocessing.tensors(),
            "redeem_E": self._redeem_E,
            "redeem_bias": np.array([self._redeem_bias]),
            **{f"{head}_money": weights for head, weights in self._money.items()},
        }

    def config(self) -> dict[str, Any]:
        """Hyperparameters and feature names."""
        return {
            "hyper": self._hyperparameters.model_dump(),
            "feature_names": list(self._names),
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """Rebuild the ranker from `tensors()` and `config()`."""
        money = {head: tensors[f"{head}_money"] for head in ("spend", "excess") if f"{head}_money" in tensors}
        hyperparameters = LogisticConfig.model_validate(config["hyper"])
        return cls(
            Preprocessing.restore(tensors, clip=hyperparameters.clip),
            tensors["redeem_E"],
            float(tensors["redeem_bias"][0]),
            money,
            tuple(config["feature_names"]),
            hyperparameters,
        )


def fit_logistic(
    z_NE: NDArray[np.float32],
    redeemed_N: NDArray[np.float32],
    *,
    strength: float,
    weights_N: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Weights [E] and bias of an L2-penalised logistic regression at its optimum.

    A label between 0 and 1 is the probability of a participation: its pair counts as both outcomes, weighted by it.
    With `weights_N`, labels are 0 or 1.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    inputs, outcomes = z_NE.astype(np.float64), redeemed_N.astype(np.int64)
    unsure_N = (redeemed_N > 0) & (redeemed_N < 1)
    if unsure_N.any():
        share_U = redeemed_N[unsure_N].astype(np.float64)
        inputs = np.concatenate([z_NE[~unsure_N], z_NE[unsure_N], z_NE[unsure_N]]).astype(np.float64)
        ones_U = np.ones_like(share_U, np.int64)
        outcomes = np.concatenate([redeemed_N[~unsure_N].astype(np.int64), ones_U, 0 * ones_U])
        weights_N = np.concatenate([np.ones(int((~unsure_N).sum())), share_U, 1 - share_U])
    model = LogisticRegression(C=strength, max_iter=MAX_ITERATIONS, tol=TOLERANCE)
    # Thousands of products of a small matrix with a vector: two threads take eight times the CPU time of one.
    with threadpool_limits(1, "blas"):
        model.fit(inputs, outcomes, sample_weight=weights_N)
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


def fit_money(z_NE: NDArray[np.float32], target_N: NDArray[np.float32], *, ridge: float) -> NDArray[np.float32]:
    """Ridge regression on asinh of the target.

    Returns:
        float32 [E + 4]: weights [E], bias, factor of the inverse, lowest and highest asinh of the training targets.
    """
    folded_N = np.arcsinh(target_N.astype(np.float64))
    z_NE = z_NE.astype(np.float64)
    mean_E, mean = z_NE.mean(axis=0), folded_N.mean()
    centred_NE = z_NE - mean_E
    gram_EE = centred_NE.T @ centred_NE + ridge * np.eye(z_NE.shape[1])
    weights_E = np.linalg.solve(gram_EE, centred_NE.T @ (folded_N - mean))
    bias = mean - mean_E @ weights_E
    low, high = folded_N.min(), folded_N.max()
    raw_N = np.sinh(np.clip(z_NE @ weights_E + bias, low, high))
    magnitude = np.abs(raw_N).sum()
    ratio = np.abs(target_N).sum() / magnitude if magnitude > 0 else 1.0
    factor = float(np.clip(ratio, 1 / MAX_FACTOR, MAX_FACTOR))
    return np.concatenate([weights_E, [bias, factor, low, high]]).astype(np.float32)


def unfold_money(z_NE: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Prediction of the regression that `fit_money` returned, in currency units: float32 [N]."""
    bias, factor, low, high = weights[-4:]
    unfolded_N = factor * np.sinh(np.clip(_rowwise(z_NE, weights[:-4]) + bias, low, high))
    return np.asarray(unfolded_N, dtype=np.float32)


def sigmoid(log_odds_N: NDArray[Any]) -> NDArray[np.float32]:
    """Probability of N log-odds, inside (0, 1) also in float32."""
    bounded_N = np.minimum(np.maximum(log_odds_N.astype(np.float64), -FARTHEST), FARTHEST)
    p_N = 1.0 / (1.0 + np.exp(-bounded_N))
    return np.minimum(np.maximum(p_N, LOWEST_PROBABILITY), HIGHEST_PROBABILITY).astype(np.float32)


def _rowwise(z_NE: NDArray[np.float32], weights_E: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply z @ w row by row, so that a pair gets the same bits alone and in a batch."""
    return np.asarray((z_NE * weights_E).sum(axis=1, dtype=np.float64), dtype=np.float32)
