"""The gate of a product of experts: a weight for each expert, linear in what is known of the user.

Shapes: U users · V items · K experts · X facts about a user · C candidates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from recommender.sequences import Sequences
from recommender.training.loop import seed_of

CANDIDATES = 100
MOST_USERS = 20_000
STAY = 20.0
"""Prior: as if this many users had said that the weights are even and do not depend on the user."""
Experts = Callable[[Sequences], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class Gate:
    """weights [U, K] = bias_K + standardised facts @ slope_XK."""

    bias_K: NDArray[np.float32]
    slope_XK: NDArray[np.float32]
    mean_X: NDArray[np.float32]
    scale_X: NDArray[np.float32]

    @classmethod
    def even(cls, members: int, rules: int) -> Self:
        """Half to the transformers, half to the rules, none to popularity, whoever the user is."""
        half = 0.5 if members and rules else 1.0
        bias = [half / max(members, 1)] * members + [half / max(rules, 1)] * rules + [0.0]
        facts = 2 + members + rules
        return cls(
            np.array(bias, dtype=np.float32),
            np.zeros((facts, len(bias)), dtype=np.float32),
            np.zeros(facts, dtype=np.float32),
            np.ones(facts, dtype=np.float32),
        )

    def weights(self, facts_UX: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [U, K]."""
        z_UX = np.clip((facts_UX - self.mean_X) / self.scale_X, -3, 3)
        weights_UK: NDArray[np.float32] = self.bias_K + z_UX.astype(np.float32) @ self.slope_XK
        return weights_UK

    def __call__(self, logs_KUV: NDArray[np.float32], facts_UX: NDArray[np.float32]) -> NDArray[np.float32]:
        """The product's logarithm, not normalised: float32 [U, V + 1]."""
        weights_UK = self.weights(facts_UX)
        total_UV: NDArray[np.float32] = logs_KUV[0] * weights_UK[:, :1]
        for expert in range(1, len(logs_KUV)):
            total_UV += logs_KUV[expert] * weights_UK[:, expert : expert + 1]
        return total_UV

    def as_json(self) -> dict[str, Any]:
        return {name: value.tolist() for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{name: np.array(value, dtype=np.float32) for name, value in content.items()})


def fit_gate(experts: Experts, start: Gate, sequences: Sequences, held_out_U: NDArray[np.int32], *, seed: int) -> Gate:
    """The weights that make the held-out item the most probable one among the best candidates of `start`.

    Candidates are items not seen by the user. A user whose held-out item is not among them says nothing about the order and is
    left out; with too few users `start` stays.
    """
    users = np.flatnonzero((held_out_U > 0) & (sequences.lengths_U > 0))
    if len(users) > MOST_USERS:
        users = np.sort(np.random.default_rng(seed_of(seed, "gate", 0)).choice(users, MOST_USERS, replace=False))
    logs: list[NDArray[np.float32]] = []
    facts: list[NDArray[np.float32]] = []
    places: list[NDArray[np.int64]] = []
    batch = max(2**24 // (sequences.items.num + 1), 16)
    for first in range(0, len(users), batch):
        some = users[first : first + batch]
        found = _candidates(experts, start, sequences.take(some), held_out_U[some])
        logs.append(found[0])
        facts.append(found[1])
        places.append(found[2])
    if not places or sum(len(one) for one in places) < STAY:
        return start
    return _fit(np.concatenate(logs), np.concatenate(facts), np.concatenate(places), start)


def _candidates(
    experts: Experts, start: Gate, histories: Sequences, target_U: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    logs_KUV, facts_UX = experts(histories)
    product_UV = start(logs_KUV, facts_UX)
    product_UV[histories.rows_T(), histories.items_T] = -np.inf
    product_UV[:, 0] = -np.inf
    num = min(CANDIDATES, product_UV.shape[1] - 1)
    best_UC = np.argpartition(-product_UV, num - 1, axis=1)[:, :num]
    is_target_UC = best_UC == target_U[:, None]
    known = is_target_UC.any(axis=1)
    logs_KUC = np.take_along_axis(logs_KUV[:, known], best_UC[None, known], axis=2)
    return logs_KUC.transpose(1, 2, 0), facts_UX[known], is_target_UC[known].argmax(axis=1)


def _fit(
    logs_UCK: NDArray[np.float32], facts_UX: NDArray[np.float32], places_U: NDArray[np.int64], start: Gate
) -> Gate:
    mean_X, scale_X = facts_UX.mean(axis=0), np.maximum(facts_UX.std(axis=0), 1e-3)
    z_UX = torch.from_numpy(np.clip((facts_UX - mean_X) / scale_X, -3, 3))
    logs = torch.from_numpy(np.ascontiguousarray(logs_UCK - logs_UCK.mean(axis=1, keepdims=True)))
    places = torch.from_numpy(places_U)
    bias = torch.from_numpy(start.bias_K.copy()).requires_grad_()
    slope = torch.zeros(z_UX.shape[1], len(start.bias_K), requires_grad=True)
    even = torch.from_numpy(start.bias_K)
    optimiser = torch.optim.LBFGS([bias, slope], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        scores_UC = torch.einsum("uck,uk->uc", logs, bias + z_UX @ slope)
        prior = ((bias - even) ** 2).sum() + (slope**2).sum()
        value = functional.cross_entropy(scores_UC, places) + STAY / len(places) * prior
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return Gate(bias.detach().numpy(), slope.detach().numpy(), mean_X.astype(np.float32), scale_X.astype(np.float32))
