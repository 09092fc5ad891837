"""The gate of a product of experts: how much each expert counts, for this user and this item.

Two forms, fitted on held-out items by the cross entropy of the best candidates:
- linear: a weight for each expert, linear in what is known of the user; the score is the weighted sum of log-probabilities;
- deep: beside such weights a hidden layer over the experts' opinions of an item and the facts about the user, as in mixtures of
  experts for ranking (Ma et al., KDD 2018). It puts the best candidates in a new order, within the mass that the linear form gives them.
The deep form stays where it ranks better on users that it was not fitted on.

Shapes: U users · V items, rows 1 … V · K experts · X facts about a user · C candidates · H hidden.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recommender.ranks import ndcg
from recommender.sequences import Sequences
from recommender.training.loop import seed_of

CANDIDATES = 200
MOST_USERS = 20_000
FEWEST_USERS = 20
STAY = 20.0
"""Prior of the linear form: as if this many users had said that the weights are even and do not depend on the user."""
LEAST = float(np.finfo(np.float32).min)
HIDDEN, EPOCHS, BATCH, RATE, DECAY = 32, 12, 128, 0.003, 0.1
Experts = Callable[[Sequences], tuple[NDArray[np.float32], NDArray[np.float32]]]


class Deep(nn.Module):
    """[U, C, K] centred log-probabilities and [U, X] standardised facts -> log-odds among the candidates, [U, C]."""

    scale_K: Tensor

    def __init__(self, experts: int, facts: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.weights = nn.Linear(facts, experts)
        self.opinions, self.facts = nn.Linear(experts, hidden, bias=False), nn.Linear(facts, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)
        self.register_buffer("scale_K", torch.ones(experts))
        nn.init.zeros_(self.weights.weight)
        nn.init.constant_(self.weights.bias, 0.5)
        nn.init.zeros_(self.out.weight)

    def forward(self, logs_UCK: Tensor, z_UX: Tensor) -> Tensor:
        x_UCK = logs_UCK / self.scale_K
        linear_UC = (x_UCK * self.weights(z_UX)[:, None]).sum(dim=2)
        hidden_UCH = functional.gelu(self.opinions(x_UCK) + self.facts(z_UX)[:, None])
        out_UC: Tensor = linear_UC + self.out(hidden_UCH)[:, :, 0]
        return out_UC


@dataclass(frozen=True, eq=False)
class Gate:
    """Linear weights [U, K] = bias_K + standardised facts @ slope_XK; `even_K` picks the candidates of the deep form."""

    bias_K: NDArray[np.float32]
    slope_XK: NDArray[np.float32]
    mean_X: NDArray[np.float32]
    scale_X: NDArray[np.float32]
    even_K: NDArray[np.float32]
    deep: Deep | None = None

    @classmethod
    def even(cls, weights_K: NDArray[np.float32], facts: int) -> Self:
        """These weights, whoever the user is."""
        slope_XK = np.zeros((facts, len(weights_K)), dtype=np.float32)
        return cls(weights_K, slope_XK, np.zeros(facts, np.float32), np.ones(facts, np.float32), weights_K)

    def standardised(self, facts_UX: NDArray[np.float32]) -> NDArray[np.float32]:
        z_UX = np.clip((facts_UX - self.mean_X) / self.scale_X, -3, 3)
        return np.asarray(z_UX, dtype=np.float32)

    def __call__(
        self, logs_KUV: NDArray[np.float32], facts_UX: NDArray[np.float32], histories: Sequences
    ) -> NDArray[np.float32]:
        """The product's logarithm, not normalised: float32 [U, V + 1]. `histories`: what the users had is no candidate."""
        z_UX = self.standardised(facts_UX)
        total_UV = _product(logs_KUV, self.bias_K + z_UX @ self.slope_XK)
        if self.deep is not None:
            best_UC = candidates(logs_KUV, self.even_K, histories)
            logs_UCK = opinions(logs_KUV, best_UC)
            with torch.inference_mode():
                odds_UC = self.deep(torch.from_numpy(logs_UCK), torch.from_numpy(z_UX))
                held_UC = torch.from_numpy(np.take_along_axis(total_UV, best_UC, axis=1))
                taken_UC = torch.from_numpy(_taken(best_UC, histories, total_UV.shape[1]))
                mass_U1 = held_UC.masked_fill(taken_UC, LEAST).logsumexp(dim=1, keepdim=True)
                new_UC = odds_UC.masked_fill(taken_UC, LEAST).log_softmax(dim=1) + mass_U1
                np.put_along_axis(total_UV, best_UC, torch.where(taken_UC, held_UC, new_UC).numpy(), axis=1)
        return total_UV

    def as_json(self) -> dict[str, Any]:
        arrays = {name: value.tolist() for name, value in vars(self).items() if name != "deep"}
        state = None if self.deep is None else {name: one.tolist() for name, one in self.deep.state_dict().items()}
        return {**arrays, "deep": state}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        arrays = {name: np.array(value, dtype=np.float32) for name, value in content.items() if name != "deep"}
        deep = None
        if content["deep"] is not None:
            with torch.random.fork_rng(devices=[]):
                deep = Deep(len(arrays["bias_K"]), len(arrays["mean_X"]))
            deep.load_state_dict({name: torch.tensor(value) for name, value in content["deep"].items()})
        return cls(**arrays, deep=deep)


def _product(logs_KUV: NDArray[np.float32], weights_UK: NDArray[np.float32]) -> NDArray[np.float32]:
    total_UV: NDArray[np.float32] = logs_KUV[0] * weights_UK[:, :1]
    for expert in range(1, len(logs_KUV)):
        total_UV += logs_KUV[expert] * weights_UK[:, expert : expert + 1]
    return total_UV


def candidates(logs_KUV: NDArray[np.float32], even_K: NDArray[np.float32], histories: Sequences) -> NDArray[np.int64]:
    """The best items of the even product that the user has not had: int64 [U, C], in no order."""
    product_UV = _product(logs_KUV, np.broadcast_to(even_K, (logs_KUV.shape[1], len(even_K))))
    product_UV[histories.rows_T(), histories.items_T] = -np.inf
    product_UV[:, 0] = -np.inf
    num = min(CANDIDATES, product_UV.shape[1] - 1)
    return np.argpartition(-product_UV, num - 1, axis=1)[:, :num]


def _taken(best_UC: NDArray[np.int64], histories: Sequences, size: int) -> NDArray[np.bool_]:
    """Candidates that are none: row 0 and what the user had, where a user has not left enough others."""
    taken_UV = np.zeros((len(best_UC), size), dtype=np.bool_)
    taken_UV[histories.rows_T(), histories.items_T] = True
    taken_UV[:, 0] = True
    return np.take_along_axis(taken_UV, best_UC, axis=1)


def opinions(logs_KUV: NDArray[np.float32], best_UC: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the experts say of the candidates, less each one's mean over them: float32 [U, C, K]."""
    logs_UCK = np.take_along_axis(logs_KUV, best_UC[None], axis=2).transpose(1, 2, 0)
    return np.ascontiguousarray(logs_UCK - logs_UCK.mean(axis=1, keepdims=True), dtype=np.float32)


def fit_gate(experts: Experts, start: Gate, sequences: Sequences, held_out_U: NDArray[np.int32], *, seed: int) -> Gate:
    """The gate that makes the held-out item the most probable one among the candidates of `start`.

    A user whose held-out item is not among them says nothing about the order and is left out; with too few users `start` stays.
    """
    users = np.flatnonzero((held_out_U > 0) & (sequences.lengths_U > 0))
    rng = np.random.default_rng(seed_of(seed, "gate", 0))
    users = rng.permutation(users)[:MOST_USERS]
    found = []
    batch = max(2**24 // (sequences.items.num + 1), 16)
    for first in range(0, len(users), batch):
        some = users[first : first + batch]
        histories = sequences.take(some)
        logs_KUV, facts_UX = experts(histories)
        best_UC = candidates(logs_KUV, start.even_K, histories)
        is_target_UC = best_UC == held_out_U[some][:, None]
        known_U = is_target_UC.any(axis=1)
        logs_UCK = opinions(logs_KUV[:, known_U], best_UC[known_U])
        found.append((logs_UCK, facts_UX[known_U], is_target_UC[known_U].argmax(axis=1)))
    if sum(len(one[2]) for one in found) < FEWEST_USERS:
        return start
    logs_UCK, facts_UX, places_U = (np.concatenate(part) for part in zip(*found, strict=True))
    halves = [np.arange(len(places_U)) % 2 == part for part in (0, 1)]
    better = 0.0
    for learn_U, judge_U in (halves, halves[::-1]):
        fits = [
            _fit(logs_UCK[learn_U], facts_UX[learn_U], places_U[learn_U], start, seed, deep=deep)
            for deep in (False, True)
        ]
        linear, deep = (_ndcg(gate, logs_UCK[judge_U], facts_UX[judge_U], places_U[judge_U]) for gate in fits)
        better += deep - linear
    return _fit(logs_UCK, facts_UX, places_U, start, seed, deep=better > 0)


def _ndcg(
    gate: Gate, logs_UCK: NDArray[np.float32], facts_UX: NDArray[np.float32], places_U: NDArray[np.int64]
) -> float:
    """NDCG@10 of the held-out items, summed over the users."""
    z_UX = gate.standardised(facts_UX)
    if gate.deep is None:
        scores_UC = np.einsum("uck,uk->uc", logs_UCK, gate.bias_K + z_UX @ gate.slope_XK)
    else:
        with torch.inference_mode():
            scores_UC = gate.deep(torch.from_numpy(logs_UCK), torch.from_numpy(z_UX)).numpy()
    of_target_U1 = np.take_along_axis(scores_UC, places_U[:, None], axis=1)
    return float(ndcg((scores_UC >= of_target_U1).sum(axis=1)).sum())


def _fit(
    logs_UCK: NDArray[np.float32],
    facts_UX: NDArray[np.float32],
    places_U: NDArray[np.int64],
    start: Gate,
    seed: int,
    *,
    deep: bool,
) -> Gate:
    mean_X, scale_X = facts_UX.mean(axis=0), np.maximum(facts_UX.std(axis=0), 1e-3)
    made = Gate(start.bias_K, start.slope_XK, mean_X.astype(np.float32), scale_X.astype(np.float32), start.even_K)
    logs, z_UX, places = map(torch.from_numpy, (logs_UCK, made.standardised(facts_UX), places_U))
    bias_K, slope_XK = _fit_linear(logs, z_UX, places, torch.from_numpy(start.even_K))
    net = _fit_deep(logs, z_UX, places, seed) if deep else None
    return replace(made, bias_K=bias_K.numpy(), slope_XK=slope_XK.numpy(), deep=net)


def _fit_linear(logs_UCK: Tensor, z_UX: Tensor, places_U: Tensor, even_K: Tensor) -> tuple[Tensor, Tensor]:
    bias_K = even_K.clone().requires_grad_()
    slope_XK = torch.zeros(z_UX.shape[1], len(even_K), requires_grad=True)
    optimiser = torch.optim.LBFGS([bias_K, slope_XK], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        scores_UC = torch.einsum("uck,uk->uc", logs_UCK, bias_K + z_UX @ slope_XK)
        prior = ((bias_K - even_K) ** 2).sum() + (slope_XK**2).sum()
        value = functional.cross_entropy(scores_UC, places_U) + STAY / len(places_U) * prior
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return bias_K.detach(), slope_XK.detach()


def _fit_deep(logs_UCK: Tensor, z_UX: Tensor, places_U: Tensor, seed: int) -> Deep:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "deep gate", 0))
        deep = Deep(logs_UCK.shape[2], z_UX.shape[1])
        deep.scale_K.copy_(logs_UCK.std(dim=(0, 1)).clamp(min=1e-3))
        optimiser = torch.optim.AdamW(deep.parameters(), lr=RATE, weight_decay=DECAY)
        for epoch in range(EPOCHS):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - epoch / EPOCHS)
            for some in torch.split(torch.randperm(len(places_U)), BATCH):
                optimiser.zero_grad()
                loss = functional.cross_entropy(deep(logs_UCK[some], z_UX[some]), places_U[some])
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return deep.eval().requires_grad_(False)
