"""Logistic regression on portrait, campaign and affinity features, with ridge heads for spend and excess.

Scoring is numpy only: one standardisation, three products. The penalty is L2 (`strength`, the inverse of its weight), the optimum is
the global one (L-BFGS to convergence). Money has heavy tails, so the heads learn it folded (asinh) and are unfolded with one
factor that makes the training total right (the smearing of Duan, 1983, in its simplest form).

Shapes: N pairs · F features · E inputs.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.matching.examples import Examples, Histories, Labels
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.ranker import Ranker, Scores
from recommender.models.campaign.schema import require_features

DEFAULTS: dict[str, Any] = {"strength": 0.003, "ridge": 300.0, "clip": 4.0}
MIN_MONEY_PAIRS = 20
FARTHEST = 30.0
"""Log-odds are clipped here: the score stays inside (0, 1)."""


class LogisticRanker(Ranker):
    """L2 logistic regression; contributions are exact."""

    name = "logistic"

    def __init__(
        self,
        preprocessing: Preprocessing,
        redeem_E: NDArray[np.float32],
        redeem_bias: float,
        money: Mapping[str, NDArray[np.float32]],
        names: tuple[str, ...],
        hyper: Mapping[str, Any],
    ) -> None:
        self._preprocessing, self._redeem_E, self._redeem_bias = preprocessing, redeem_E, redeem_bias
        self._money, self._names, self._hyper = dict(money), names, dict(hyper)

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
        preprocessing = Preprocessing.fit(examples.features_NF[known_N], clip=float(hyper["clip"]))
        z_NE = preprocessing(examples.features_NF)
        redeem_E, bias = fit_logistic(z_NE[known_N], labels.redeemed_N[known_N], strength=float(hyper["strength"]))
        money = {}
        for head, target_N in (("spend", labels.spend_N), ("excess", labels.excess_N)):
            paid_N = np.isfinite(target_N)
            if paid_N.sum() >= MIN_MONEY_PAIRS:
                money[head] = fit_money(z_NE[paid_N], target_N[paid_N], ridge=float(hyper["ridge"]))
        return cls(preprocessing, redeem_E, bias, money, examples.feature_names, hyper)

    def score(self, examples: Examples) -> Scores:
        require_features(self._names, examples)
        z_NE = self._preprocessing(examples.features_NF)
        money = {head: unfold_money(z_NE, weights) for head, weights in self._money.items()}
        if "spend" in money:
            np.maximum(money["spend"], 0, out=money["spend"])
        return Scores(
            redeem_N=sigmoid(_rowwise(z_NE, self._redeem_E) + self._redeem_bias),
            spend_N=money.get("spend"),
            excess_N=money.get("excess"),
        )

    def contributions(self, examples: Examples) -> NDArray[np.float32]:
        require_features(self._names, examples)
        return self.contributions_of(self._preprocessing(examples.features_NF))

    def contributions_of(self, z_NE: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weight times input, with each indicator's added to its feature: float32 [N, F]."""
        added_NE = z_NE * self._redeem_E
        num_features = len(self._names)
        added_NF = np.ascontiguousarray(added_NE[:, :num_features])
        added_NF[:, self._preprocessing.missing_M] += added_NE[:, num_features:]
        return added_NF

    @property
    def bias(self) -> float:
        """Log-odds of a pair whose every input is average."""
        return self._redeem_bias

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {
            **self._preprocessing.tensors(),
            "redeem_E": self._redeem_E,
            "redeem_bias": np.array([self._redeem_bias]),
            **{f"{head}_money": weights for head, weights in self._money.items()},
        }

    def config(self) -> dict[str, Any]:
        return {"hyper": self._hyper, "feature_names": list(self._names), "clip": self._preprocessing.clip}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        money = {head: tensors[f"{head}_money"] for head in ("spend", "excess") if f"{head}_money" in tensors}
        return cls(
            Preprocessing.restore(tensors, clip=float(config["clip"])),
            tensors["redeem_E"],
            float(tensors["redeem_bias"][0]),
            money,
            tuple(config["feature_names"]),
            config["hyper"],
        )


def fit_logistic(
    z_NE: NDArray[np.float32], redeemed_N: NDArray[np.float32], *, strength: float
) -> tuple[NDArray[np.float32], float]:
    """Weights [E] and bias of an L2-penalised logistic regression, at its optimum."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=2_000, tol=1e-6)
    model.fit(z_NE.astype(np.float64), redeemed_N.astype(np.int64))
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])


def fit_money(z_NE: NDArray[np.float32], target_N: NDArray[np.float32], *, ridge: float) -> NDArray[np.float32]:
    """Ridge on the folded target: E weights, a bias, and the factor and limits of unfolding, float32 [E + 4]."""
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
    factor = float(np.clip(np.abs(target_N).sum() / magnitude, 0.1, 10.0)) if magnitude > 0 else 1.0
    return np.concatenate([weights_E, [bias, factor, low, high]]).astype(np.float32)


def unfold_money(z_NE: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `fit_money` learned, in currency units: float32 [N]."""
    bias, factor, low, high = weights[-4:]
    unfolded_N = factor * np.sinh(np.clip(_rowwise(z_NE, weights[:-4]) + bias, low, high))
    return np.asarray(unfolded_N, dtype=np.float32)


def sigmoid(log_odds_N: NDArray[Any]) -> NDArray[np.float32]:
    """Probability, inside (0, 1) also in float32."""
    p_N = 1.0 / (1.0 + np.exp(-np.clip(log_odds_N.astype(np.float64), -FARTHEST, FARTHEST)))
    return np.clip(p_N, 1e-7, 1 - 1e-6).astype(np.float32)


def _rowwise(z_NE: NDArray[np.float32], weights_E: NDArray[np.float32]) -> NDArray[np.float32]:
    """z @ w by rows: a pair gets the same bits alone and in a batch, which a matrix product does not promise."""
    return np.asarray((z_NE * weights_E).sum(axis=1, dtype=np.float64), dtype=np.float32)
