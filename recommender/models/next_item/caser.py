"""Caser: convolutions over the last items, read as an image of length x width (Tang & Wang, WSDM 2018).

Horizontal filters span some items and the whole width, and keep their maximum over time. Vertical filters weigh the
last items for each column of the width. Unlike the paper:

- every event with an earlier one is a target (sliding windows), under the exact softmax over all items;
- the items' table serves input and output;
- a user's own vector is dropped at random, so that the network learns to rank for new users.

Shapes: T events · M targets · L last items · D width · F outputs of all filters · V items, row 0 is padding · U users,
row 0 is a new one.
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
from recommender.models.next_item.fields import Batch, Dropout, NewUsers, Width
from recommender.models.next_item.histories import before, shuffled, targets, users_of
from recommender.models.next_item.network import Network, NeuralConfig, Size
from recommender.models.next_item.neural import NeuralRanker
from recommender.sequences import Sequences

USER_DEVIATION = 0.02
"""Standard deviation of fresh user vectors, chosen by hand: small, so that users start alike."""


class CaserConfig(NeuralConfig):
    """Hyperparameters of Caser.

    The defaults are chosen by hand, not tuned. Search ranges are chosen by hand.
    """

    dropout: Dropout = 0.4
    width: Annotated[Width, Choices(32, 64, 128)] = 64
    length: Annotated[int, Range(3, 12)] = Field(6, ge=1, description="Number of latest items that are read.")
    horizontal: int = Field(16, ge=1, description="Horizontal filters of each height from 1 to `length`.")
    vertical: int = Field(4, ge=0, description="Vertical filters, each a weighting of the last items.")
    user_width: int = Field(16, ge=0, description="Width of the user vectors. 0: there are none.")
    new_users: Annotated[NewUsers, Range(0.0, 1.0)] = 0.5
    batch: Batch = 512


class Convolutions(Network[CaserConfig]):
    """Last items and user -> a state whose product with an item's vector is that item's log-odds of being next."""

    def __init__(self, size: Size, config: CaserConfig) -> None:
        super().__init__(size, config)
        width, own = config.width, config.user_width
        self.length, self.batch, self.dropout = config.length, config.batch, config.dropout
        self.new_users = config.new_users
        self.items = nn.Embedding(size.items + 1, width, padding_idx=0)
        nn.init.normal_(self.items.weight, std=width**-0.5)  # vectors of length 1, about
        self.bias_V = nn.Parameter(torch.zeros(size.items + 1))
        self.users = nn.Embedding(size.users + 1, own, padding_idx=0) if own else None
        if self.users is not None:
            nn.init.normal_(self.users.weight, std=USER_DEVIATION)
        heights = range(1, self.length + 1)
        self.horizontal = nn.ModuleList(nn.Conv1d(width, config.horizontal, height) for height in heights)
        self.vertical = nn.Linear(self.length, config.vertical, bias=False)
        filters = config.horizontal * self.length + config.vertical * width
        self.mix, self.out = nn.Linear(filters, width), nn.Linear(width + own, width)

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Events that are targets, int64 [M] each."""
        return shuffled(targets(sequences), self.batch, rng)

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """Cross entropy of the targets' items, summed, and their number. A share of the users is treated as new."""
        users_M = users_of(sequences, batch)
        rows_M = users_M if sequences.users_U is None else sequences.users_U[users_M]
        known_M = np.where(rng.random(len(batch)) < self.new_users, -1, rows_M)
        items_ML = torch.from_numpy(before(sequences, batch, users_M, self.length)).to(self.device)
        with self.products():
            states_MD = self(items_ML, torch.from_numpy(known_M + 1).to(self.device))
        weight, targets_M = self.items.weight, torch.from_numpy(sequences.items_T[batch].astype(np.int64))
        states_MD = states_MD.to(weight.dtype)
        loss = linear_cross_entropy(
            states_MD, weight, targets_M.to(self.device), self.bias_V, first=1, bfloat16=self.bf16
        )
        return Sum(loss, float(len(batch)))

    def forward(self, items_ML: Tensor, users_M: Tensor) -> Tensor:
        """States, [M, D]. `users_M` is the user's row plus 1, and 0 for a new user."""
        x_MDL = functional.dropout(self.items(items_ML), self.dropout, self.training).transpose(1, 2)
        highest = [functional.relu(filters(x_MDL)).amax(dim=2) for filters in self.horizontal]
        seen_MF = torch.cat([*highest, self.vertical(x_MDL).flatten(1)], dim=1)
        z_MD = functional.relu(self.mix(functional.dropout(seen_MF, self.dropout, self.training)))
        if self.users is not None:
            z_MD = torch.cat([z_MD, self.users(users_M)], dim=1)
        out: Tensor = self.out(functional.dropout(z_MD, self.dropout, self.training))
        return out

    def scores(self, sequences: Sequences) -> Tensor:
        """As `Network.scores`."""
        users = np.arange(sequences.num_users)
        items_UL = torch.from_numpy(before(sequences, sequences.offsets[1:], users, self.length)).to(self.device)
        rows_U = np.full(len(users), -1) if sequences.users_U is None else sequences.users_U
        states_UD = self(items_UL, torch.from_numpy(np.maximum(rows_U, -1) + 1).to(self.device))
        return torch.addmm(self.bias_V, states_UD, self.items.weight.T)


class Caser(NeuralRanker[CaserConfig]):
    """The log-odds of convolutions over the last items."""

    name: ClassVar[str] = "caser"
    Config: ClassVar[type[CaserConfig]] = CaserConfig
    network: ClassVar[type[Convolutions]] = Convolutions
