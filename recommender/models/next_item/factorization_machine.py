"""Factorisation machine (Rendle, ICDM 2010) over a user's items, the last one, the candidate and its attributes.

Second-order weights are products of factors. So a score is the product of the user's summed factors and the
candidate's, plus the candidate's own weight. Terms of the user's features alone change no order and are left out. The
loss is the softmax over all items.

Shapes: T events · M targets · U users · L last items · V items, rows 1 … V · D width.
"""

from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.hyperparameters import Choices, Range
from recommender.engine.loop import Sum
from recommender.engine.softmax import linear_cross_entropy
from recommender.models.next_item.attributes import AttributeMeans
from recommender.models.next_item.fields import Batch, Dropout, Epochs, Rate, Width
from recommender.models.next_item.histories import before, shuffled, targets, users_of
from recommender.models.next_item.network import NeuralConfig, Size
from recommender.models.next_item.neural import NeuralRanker
from recommender.sequences import Sequences

DEVIATION = 0.1
"""Standard deviation of fresh factors. Chosen by hand."""


class FactorizationMachineConfig(NeuralConfig):
    """Hyperparameters of the factorisation machine.

    The defaults are chosen by hand, not tuned. Search ranges are chosen by hand.
    """

    epochs: Epochs = 30
    rate: Rate = 0.002
    dropout: Annotated[Dropout, Field(description="Share of the user's sum of factors set to zero in training.")] = 0.3
    width: Annotated[Width, Choices(32, 64, 128)] = 64
    length: Annotated[int, Range(5, 100, log=True)] = Field(
        50, ge=1, description="Number of latest items used as features."
    )
    batch: Batch = 1024


class Machine(AttributeMeans[FactorizationMachineConfig]):
    """Factors of every feature."""

    def __init__(self, size: Size, config: FactorizationMachineConfig) -> None:
        super().__init__(size, config)
        width, self.length, self.batch, self.dropout = config.width, config.length, config.batch, config.dropout
        self.had, self.last = nn.Embedding(size.items + 1, width), nn.Embedding(size.items + 1, width)
        self.candidate, self.attributes = nn.Embedding(size.items + 1, width), nn.Embedding(size.attributes, width)
        for table in (self.had, self.last, self.candidate, self.attributes):
            nn.init.normal_(table.weight, std=DEVIATION)
        self.bias_V = nn.Parameter(torch.zeros(size.items + 1))
        self.hold_attributes(size)

    def candidates(self) -> Tensor:
        """Sum of each item's factors and its attributes' mean: [V + 1, D]."""
        return self.with_attributes(self.candidate.weight)

    def users(self, items_ML: Tensor) -> Tensor:
        """Sum of the factors of a user's features, [M, D]. `items_ML` ends with the latest item."""
        real_ML1 = (items_ML > 0).unsqueeze(2)
        mean_MD = (self.had(items_ML) * real_ML1).sum(dim=1) / real_ML1.sum(dim=1).clamp(min=1)
        out: Tensor = functional.dropout(mean_MD + self.last(items_ML[:, -1]), self.dropout, self.training)
        return out

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Events that are targets, int64 [M] each."""
        return shuffled(targets(sequences), self.batch, rng)

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """Cross entropy of the targets' items, summed, and their number."""
        items_ML = torch.from_numpy(before(sequences, batch, users_of(sequences, batch), self.length)).to(self.device)
        targets_M = torch.from_numpy(sequences.items_T[batch].astype(np.int64)).to(self.device)
        loss = linear_cross_entropy(
            self.users(items_ML), self.candidates(), targets_M, self.bias_V, first=1, bfloat16=self.bf16
        )
        return Sum(loss, float(len(batch)))

    def scores(self, sequences: Sequences) -> Tensor:
        """As `Network.scores`."""
        ends, users = sequences.offsets[1:], np.arange(sequences.num_users)
        items_UL = torch.from_numpy(before(sequences, ends, users, self.length)).to(self.device)
        scores_UV: Tensor = self.users(items_UL) @ self.candidates().T + self.bias_V
        return scores_UV


class FactorizationMachine(NeuralRanker[FactorizationMachineConfig]):
    """Second-order factors of a user's items and a candidate's attributes."""

    name: ClassVar[str] = "factorization_machine"
    Config: ClassVar[type[FactorizationMachineConfig]] = FactorizationMachineConfig
    network: ClassVar[type[Machine]] = Machine
