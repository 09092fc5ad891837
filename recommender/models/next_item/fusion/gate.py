"""The gate of a product of experts: the weight of each expert for this user and this item.

It has one of two forms:

- linear: each expert has a weight, linear in facts about the user. The score is the weighted sum of the experts'
  log-probabilities.
- deep: besides such weights, a hidden layer over the experts' log-probabilities of an item and the facts about the
  user, as in mixtures of experts for ranking (Ma et al., KDD 2018). It reorders the best candidates of the linear form;
  together they keep the probability that the linear form gives them.

`gate_fit` fits both on held-out items.

Shapes: U users · V items, rows 1 … V · K experts · X facts about a user · C candidates · H hidden.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from recommender.sequences import Sequences

CANDIDATES = 200
"""Best items of the linear form that the hidden layer reorders. Enough for lists of ten to be refilled. Chosen by
hand."""
CELLS_AT_ONCE = 2**24
"""Users times items for which the experts are asked at once: 64 MiB of float32 an expert."""
HIDDEN = 32
"""Width of the hidden layer. Chosen by hand: it is fitted on some thousand held-out items only."""
EXCLUDED = float(np.finfo(np.float32).min)
"""Log-odds of items that are no candidates: the least finite float32. -inf would make a row without candidates NaN."""


class HiddenLayer(nn.Module):
    """[U, C, K] centred log-probabilities and [U, X] standardised facts -> log-odds among the candidates, [U, C]."""

    scale_K: Tensor

    def __init__(self, experts: int, facts: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.weights = nn.Linear(facts, experts)
        self.opinions, self.facts = nn.Linear(experts, hidden, bias=False), nn.Linear(facts, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)
        self.register_buffer("scale_K", torch.ones(experts))
        # The fit starts from the plain product of experts: equal weights for every user, and a hidden layer that adds
        # nothing. The weight itself, 0.5, is chosen by hand.
        nn.init.zeros_(self.weights.weight)
        nn.init.constant_(self.weights.bias, 0.5)
        nn.init.zeros_(self.out.weight)

    def forward(self, logs_UCK: Tensor, z_UX: Tensor) -> Tensor:
        """Log-odds of the candidates, [U, C]."""
        x_UCK = logs_UCK / self.scale_K
        linear_UC = (x_UCK * self.weights(z_UX)[:, None]).sum(dim=2)
        hidden_UCH = functional.gelu(self.opinions(x_UCK) + self.facts(z_UX)[:, None])
        out_UC: Tensor = linear_UC + self.out(hidden_UCH)[:, :, 0]
        return out_UC


class GateState(BaseModel):
    """A gate as JSON values, in bundles and from one fit to the next."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bias_K: list[float]
    slope_XK: list[list[float]]
    mean_X: list[float]
    scale_X: list[float]
    low_X: list[float]
    high_X: list[float]
    repeats: bool
    deep: dict[str, list[float] | list[list[float]]] | None
    """Name -> tensor of the hidden layer."""


@dataclass(frozen=True, eq=False)
class Gate:
    """Weights of the experts, [U, K] = bias_K + standardised facts @ slope_XK, and possibly a hidden layer."""

    bias_K: NDArray[np.float32]
    slope_XK: NDArray[np.float32]
    mean_X: NDArray[np.float32]
    scale_X: NDArray[np.float32]
    low_X: NDArray[np.float32]
    high_X: NDArray[np.float32]
    """Range of the standardised facts in the fit. Facts beyond it count as its ends, as nothing is known there."""
    repeats: bool = False
    """Whether an item that a user had is a candidate too."""
    deep: HiddenLayer | None = None

    @classmethod
    def even(cls, weights_K: NDArray[np.float32], facts: int, *, repeats: bool = False) -> Self:
        """A gate with these weights for every user."""
        slope_XK = np.zeros((facts, len(weights_K)), dtype=np.float32)
        zero_X = np.zeros(facts, dtype=np.float32)
        return cls(weights_K, slope_XK, zero_X, zero_X + 1, zero_X, zero_X, repeats)

    def standardised(self, facts_UX: NDArray[np.float32]) -> NDArray[np.float32]:
        """Facts less their mean, divided by their scale, within the range of the fit: float32 [U, X]."""
        z_UX = np.clip((facts_UX - self.mean_X) / self.scale_X, self.low_X, self.high_X)
        return np.asarray(z_UX, dtype=np.float32)

    def weights(self, facts_UX: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weights of the experts in the linear form: [U, K]."""
        return np.asarray(self.bias_K + self.standardised(facts_UX) @ self.slope_XK)

    def __call__(
        self, logs_KUV: NDArray[np.float32], facts_UX: NDArray[np.float32], histories: Sequences
    ) -> NDArray[np.float32]:
        """The logarithm of the experts' weighted product, not normalised: float32 [U, V + 1].

        `histories` are the users' events. The hidden layer does not reorder those items unless `repeats`.
        """
        total_UV = product(logs_KUV, self.weights(facts_UX))
        if self.deep is not None:
            open_UV = total_UV.copy()
            open_UV[excluded(histories, repeats=self.repeats)] = -np.inf
            best_UC = best_columns(open_UV, CANDIDATES)
            linear_UC = torch.from_numpy(np.take_along_axis(total_UV, best_UC, axis=1))
            excluded_UC = torch.from_numpy(np.isneginf(np.take_along_axis(open_UV, best_UC, axis=1)))
            with torch.inference_mode():
                logs_UCK = np.take_along_axis(logs_KUV, best_UC[None], axis=2).transpose(1, 2, 0)
                odds_UC = self.order(logs_UCK, facts_UX, excluded_UC.numpy())
                mass_U1 = linear_UC.masked_fill(excluded_UC, EXCLUDED).logsumexp(dim=1, keepdim=True)
                new_UC = odds_UC.masked_fill(excluded_UC, EXCLUDED).log_softmax(dim=1) + mass_U1
                kept_UC = torch.where(excluded_UC, linear_UC, new_UC)
                np.put_along_axis(total_UV, best_UC, kept_UC.numpy(), axis=1)
        return total_UV

    def order(
        self, logs_UCK: NDArray[np.float32], facts_UX: NDArray[np.float32], excluded_UC: NDArray[np.bool_]
    ) -> Tensor:
        """Log-odds of the best candidates by the hidden layer, [U, C]. Only for a gate that has one."""
        assert self.deep is not None
        z_UX = torch.from_numpy(self.standardised(facts_UX))
        odds_UC: Tensor = self.deep(torch.from_numpy(centred(logs_UCK, excluded_UC)), z_UX)
        return odds_UC

    def state(self) -> GateState:
        """The gate as JSON values, bit for bit."""
        named = {name: value for name, value in vars(self).items() if name not in ("deep", "repeats")}
        arrays = {name: value.tolist() for name, value in named.items()}
        deep = None if self.deep is None else {name: tensor.tolist() for name, tensor in self.deep.state_dict().items()}
        return GateState(**arrays, repeats=self.repeats, deep=deep)

    @classmethod
    def restore(cls, state: GateState) -> Self:
        """The gate that `state` came from."""
        named = {name: value for name, value in state if name not in ("deep", "repeats")}
        arrays = {name: np.array(value, dtype=np.float32) for name, value in named.items()}
        deep = None
        if state.deep is not None:
            with torch.random.fork_rng(devices=[]):
                deep = HiddenLayer(len(state.bias_K), len(state.mean_X))
            deep.load_state_dict({name: torch.tensor(value) for name, value in state.deep.items()})
            deep.eval().requires_grad_(False)
        return cls(**arrays, repeats=state.repeats, deep=deep)


def excluded(histories: Sequences, *, repeats: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of [U, V + 1] that are no candidates: row 0, and without `repeats` what a user had."""
    users = np.arange(histories.num_users)
    rows, items = (users[:0], users[:0]) if repeats else (histories.rows_T(), histories.items_T.astype(np.int64))
    return np.concatenate([users, rows]), np.concatenate([np.zeros_like(users), items])


def product(logs_KUV: NDArray[np.float32], weights_UK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted sum over the experts: [U, V + 1]."""
    total_UV: NDArray[np.float32] = logs_KUV[0] * weights_UK[:, :1]
    for expert in range(1, len(logs_KUV)):
        total_UV += logs_KUV[expert] * weights_UK[:, expert : expert + 1]
    return total_UV


def best_columns(scores_UV: NDArray[np.float32], number: int) -> NDArray[np.int64]:
    """Columns of the `number` largest scores, [U, C], in no order."""
    number = min(number, scores_UV.shape[1])
    return np.argpartition(-scores_UV, number - 1, axis=1)[:, :number]


def centred(logs_UCK: NDArray[np.float32], excluded_UC: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Log-probabilities less each expert's mean over the user's candidates: float32 [U, C, K]."""
    counts_U = np.maximum((~excluded_UC).sum(axis=1), 1)
    mean_UK = np.einsum("uck,uc->uk", logs_UCK, ~excluded_UC) / counts_U[:, None]
    return np.ascontiguousarray(logs_UCK - mean_UK[:, None], dtype=np.float32)
