"""Common parts of the neural next-item rankers: hyperparameters, sizes, and the interface of their networks.

Shapes: U users · V items, rows 1 … V (row 0 is padding).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recommender.engine.hyperparameters import Hyperparameters
from recommender.engine.loop import Sum
from recommender.engine.precision import uses_bfloat16
from recommender.models.next_item.fields import (
    Accumulate,
    Dropout,
    Epochs,
    JudgedUsers,
    JudgeEvery,
    MinSteps,
    Patience,
    Precision,
    Rate,
    StopAt,
    WeightDecay,
)
from recommender.sequences import Sequences

BERT_DEVIATION = 0.02
"""Standard deviation of a transformer's fresh embeddings, as in BERT (Devlin et al., NAACL 2019)."""


class NeuralConfig(Hyperparameters):
    """Hyperparameters of every network that is trained in epochs. The defaults are chosen by hand, not tuned."""

    epochs: Epochs = 30
    min_steps: MinSteps = None
    rate: Rate = 0.003
    weight_decay: WeightDecay = 0.0
    patience: Patience = 5
    judge_every: JudgeEvery = 1
    judged_users: JudgedUsers = 2000
    accumulate: Accumulate = 1
    precision: Precision = "auto"
    dropout: Dropout
    stop_at: StopAt = None


@dataclass(frozen=True)
class Size:
    """Counts that determine the sizes of a network's tensors."""

    items: int
    users: int
    attributes: int
    pairs: int
    """Pairs of item and attribute."""

    @classmethod
    def of(cls, sequences: Sequences) -> "Size":
        """The sizes for these sequences."""
        items = sequences.items
        return cls(items.num, sequences.num_users, items.num_attributes, len(items.attribute_rows()[0]))


N = TypeVar("N", bound=NeuralConfig)
"""A network's own configuration."""


class Network(nn.Module, ABC, Generic[N]):
    """A network: how an epoch is cut into batches, a batch's loss, and the scores."""

    @abstractmethod
    def __init__(self, size: Size, config: N) -> None:
        super().__init__()
        self.precision = config.precision

    def observe(self, sequences: Sequences) -> None:
        """Store what is read from the training sequences instead of learned: counts and attributes."""

    @abstractmethod
    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """One epoch: batches whose rows `loss` reads."""

    @abstractmethod
    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """The loss of a batch, summed over its targets, and their number."""

    @abstractmethod
    def scores(self, sequences: Sequences) -> Tensor:
        """Scores of all items, [U, V + 1], for users for whom `can_score` is true."""

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """A context in which parts of the network run compiled, if the hyperparameters ask for it."""
        yield

    def can_score(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Users that the network can score, bool [U]. The others get the popular items."""
        return sequences.lengths_U > 0

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def bf16(self) -> bool:
        """Whether the matrix products of a softmax over all items are of bfloat16 in training."""
        return uses_bfloat16(self.precision, self.device)

    def products(self) -> torch.autocast:
        """A context in which the network's own matrix products are of bfloat16, on a GPU only.

        On a CPU they are small and change their shapes at each step, which costs more than bfloat16 saves.
        """
        on = self.bf16 and self.device.type == "cuda"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on)
