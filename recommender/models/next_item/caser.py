"""Caser: convolutions over the last items seen as an image (Tang & Wang, WSDM 2018).

Horizontal filters span some items and the whole width and keep their maximum over time; vertical ones weigh each width over time.
Unlike the paper: every event with a past is a target (sliding windows) under the exact softmax over all items, the items' table
serves input and output, and a user's own vector is dropped now and then, so that a new user has a place.

Shapes: T events · M targets · L last items · D width · F filters of all heights · V items, row 0 is no item · U users, row 0 is a new one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.hyperparameters import Range, Space
from recommender.engine.loop import Sum
from recommender.engine.softmax import linear_cross_entropy
from recommender.models.next_item import neural
from recommender.models.next_item.neural import (
    TRAINING,
    Network,
    NeuralRanker,
    Size,
    before,
    shuffled,
    targets,
    users_of,
)
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {
    **TRAINING,
    "width": 64,
    "length": 6,
    "horizontal": 16,
    "vertical": 4,
    "user_width": 16,
    "new_users": 0.5,
    "dropout": 0.4,
    "batch": 512,
}
"""length: last items that are read · horizontal: filters of each height 1 … length · vertical: filters over time · user_width: of a user's
own vector, 0 is none · new_users: share of training rows whose user is taken for a new one · the others: `neural.TRAINING`."""
SEARCHED: Space = {**neural.SEARCHED, "width": (32, 64, 128), "length": Range(3, 12), "new_users": Range(0.0, 1.0)}


class Convolutions(Network):
    """The last items and the user -> a state whose product with an item's vector is that item's log-odds of being next."""

    def __init__(self, size: Size, hyper: Mapping[str, Any]) -> None:
        super().__init__(size, hyper)
        width, own = int(hyper["width"]), int(hyper["user_width"])
        self.length, self.batch, self.dropout = int(hyper["length"]), int(hyper["batch"]), float(hyper["dropout"])
        self.new_users = float(hyper["new_users"])
        self.items = nn.Embedding(size.items + 1, width, padding_idx=0)
        nn.init.normal_(self.items.weight, std=width**-0.5)
        self.bias_V = nn.Parameter(torch.zeros(size.items + 1))
        self.users = nn.Embedding(size.users + 1, own, padding_idx=0) if own else None
        if self.users is not None:
            nn.init.normal_(self.users.weight, std=0.02)
        heights = range(1, self.length + 1)
        self.horizontal = nn.ModuleList(nn.Conv1d(width, int(hyper["horizontal"]), height) for height in heights)
        self.vertical = nn.Linear(self.length, int(hyper["vertical"]), bias=False)
        filters = int(hyper["horizontal"]) * self.length + int(hyper["vertical"]) * width
        self.mix, self.out = nn.Linear(filters, width), nn.Linear(width + own, width)

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Events to be foretold, [M] each."""
        return shuffled(targets(sequences), self.batch, rng)

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        users_M = users_of(sequences, batch)
        rows_M = users_M if sequences.users_U is None else sequences.users_U[users_M]
        known_M = np.where(rng.random(len(batch)) < self.new_users, -1, rows_M)
        items_ML = torch.from_numpy(before(sequences, batch, users_M, self.length)).to(self.device)
        with self.products():
            states_MD = self(items_ML, torch.from_numpy(known_M + 1).to(self.device))
        weight, targets_M = self.items.weight, torch.from_numpy(sequences.items_T[batch].astype(np.int64))
        states_MD = states_MD.to(weight.dtype)
        loss = linear_cross_entropy(states_MD, weight, targets_M.to(self.device), self.bias_V, first=1, half=self.bf16)
        return Sum(loss, float(len(batch)))

    def forward(self, items_ML: Tensor, users_M: Tensor) -> Tensor:
        """States [M, D]; `users_M`: row of the user + 1, 0 a new one."""
        x_MDL = functional.dropout(self.items(items_ML), self.dropout, self.training).transpose(1, 2)
        highest = [functional.relu(filters(x_MDL)).amax(dim=2) for filters in self.horizontal]
        seen_MF = torch.cat([*highest, self.vertical(x_MDL).flatten(1)], dim=1)
        z_MD = functional.relu(self.mix(functional.dropout(seen_MF, self.dropout, self.training)))
        if self.users is not None:
            z_MD = torch.cat([z_MD, self.users(users_M)], dim=1)
        out: Tensor = self.out(functional.dropout(z_MD, self.dropout, self.training))
        return out

    def scores(self, sequences: Sequences) -> Tensor:
        users = np.arange(sequences.num_users)
        items_UL = torch.from_numpy(before(sequences, sequences.offsets[1:], users, self.length)).to(self.device)
        rows_U = np.full(len(users), -1) if sequences.users_U is None else sequences.users_U
        states_UD = self(items_UL, torch.from_numpy(np.maximum(rows_U, -1) + 1).to(self.device))
        return torch.addmm(self.bias_V, states_UD, self.items.weight.T)


class Caser(NeuralRanker):
    """The log-odds of convolutions over the last items."""

    name: ClassVar[str] = "caser"
    network: ClassVar[type[Network]] = Convolutions
