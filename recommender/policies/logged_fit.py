"""Common parts of the policy head and the reward model: a small network, its training, and checks of the log.

Shapes: N decisions · B a batch · X columns of a context · A actions · H hidden.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.hyperparameters import Hyperparameters
from recommender.engine.loop import Divisible, Part, Schedule, Sum, seed_of
from recommender.errors import ContractError
from recommender.policies.off_policy import require_rows


class HeadConfig(Hyperparameters):
    """Hyperparameters of a `Head` and its training by AdamW. Chosen by hand on three worlds of `make bench-policy`."""

    hidden: int = Field(0, ge=0, description="Width of the hidden layer. 0: no hidden layer, the network is linear.")
    steps: int = Field(600, ge=1, description="Steps of training.")
    batch: int = Field(2048, ge=1, description="Decisions in a batch, drawn with replacement.")
    rate: float = Field(0.03, gt=0, description="Highest learning rate.")
    weight_decay: float = Field(0.001, ge=0, description="Weight decay of AdamW.")


class Head(nn.Module):
    """Contexts -> one number an action, linear or with one hidden layer. It starts at zero: the uniform policy."""

    def __init__(self, num_columns: int, num_actions: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_columns, hidden) if hidden else None
        self.out = nn.Linear(hidden or num_columns, num_actions)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_BX: Tensor) -> Tensor:
        """float32 [B, X] -> logits, float32 [B, A]."""
        logits_BA: Tensor = self.out(functional.gelu(self.hidden(x_BX)) if self.hidden is not None else x_BX)
        return logits_BA


def scale_of(contexts_NX: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean and standard deviation of each column (1 where it is constant), float32 [2, X]."""
    deviation_X = contexts_NX.std(axis=0)
    return np.stack([contexts_NX.mean(axis=0), np.where(deviation_X > 0, deviation_X, 1)]).astype(np.float32)


def scaled(contexts_NX: NDArray[np.float32], scale_2X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standardise contexts by `scale_of`."""
    return np.asarray((contexts_NX - scale_2X[0]) / scale_2X[1], dtype=np.float32)


def batches_of(phase: str, loss_of: Callable[[Tensor], Tensor], num_rows: int, batch: int, seed: int) -> Divisible:
    """Batches that depend on seed, phase and step alone.

    A part of a batch weighs as much as its share of the batch, so the loss of a whole batch is its mean to the bit.

    Args:
        phase: Name of the training phase.
        loss_of: Mean loss of the rows with given numbers.
        num_rows: N.
        batch: Most rows of a batch.
        seed: Seed of the fit.
    """

    def loss_at(step: int, part: Part) -> Sum:
        generator = torch.Generator().manual_seed(seed_of(seed, f"{phase} rows", step))
        rows_B = torch.randint(num_rows, (min(batch, num_rows),), generator=generator)
        some = torch.from_numpy(part(rows_B.numpy()))
        share = len(some) / len(rows_B)
        return Sum(loss_of(some) * share if len(some) else torch.zeros(()), share)

    return Divisible(loss_at)


def schedule_of(config: HeadConfig) -> Schedule:
    """Steps, learning rate and weight decay for the training loop."""
    return Schedule(steps=config.steps, rate=config.rate, weight_decay=config.weight_decay)


def require_log(
    contexts_NX: NDArray[Any], actions_N: NDArray[Any], num_actions: int, *, rows: int, **outcome_N: NDArray[Any]
) -> None:
    """Check logged decisions before a fit.

    Args:
        contexts_NX: Context of each decision.
        actions_N: Action that was shown.
        num_actions: A.
        rows: N, the length that every column must have.
        **outcome_N: What came of the decisions, by the column's name.

    Raises:
        ContractError: There are no rows, a column has another length, a value is not finite, or an action is outside
            0 … A - 1. Names column and row.
    """
    contexts_NX = np.asarray(contexts_NX)
    columns = {f"context {place}": contexts_NX[:, place] for place in range(contexts_NX.shape[1])}
    actions, *_ = require_rows(rows, action=actions_N, **outcome_N, **columns)
    wrong_N = (actions < 0) | (actions >= num_actions) | (actions % 1 != 0)
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        problem = f"must be a whole number from 0 to {num_actions - 1} (got {actions[row]:g})"
        raise ContractError("decisions", problem, column="action", row=f"row {row}")
