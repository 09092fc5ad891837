"""Two towers: networks that map a user's history and an item's content into one space.

Covington et al., RecSys 2016.

The user tower reads the mean of the last items' features, weighted by their place from the end. The item tower reads an
item's own vector and the mean of its attributes' vectors. Own vectors are dropped at random and are zero for items
without events, which are then represented by content alone. The loss is the exact softmax over the items with events,
or a softmax over a batch's targets, corrected by the logarithm of how often they are drawn (Yi et al., RecSys 2019).

Shapes: T events · R competing items · M targets · L last items · D width · V items, row 0 is padding · P pairs of item
and attribute · U users.
"""

from typing import Annotated, ClassVar, Literal

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
from recommender.models.next_item.fields import Batch, Dropout, Width
from recommender.models.next_item.histories import before, shuffled, targets, users_of
from recommender.models.next_item.network import NeuralConfig, Size
from recommender.models.next_item.neural import NeuralRanker
from recommender.sequences import Sequences


class TwoTowerConfig(NeuralConfig):
    """Hyperparameters of the two towers.

    The defaults are chosen by hand, not tuned. Search ranges are chosen by hand.
    """

    dropout: Dropout = 0.3
    width: Annotated[Width, Choices(32, 64, 128)] = 64
    hidden: Annotated[int, Choices(64, 128, 256)] = Field(128, ge=1, description="Width of the towers' hidden layer.")
    length: Annotated[int, Range(5, 100, log=True)] = Field(50, ge=1, description="Last items that are read.")
    item_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of items that a training step represents by content alone, without their own vector.",
    )
    softmax: Literal["full", "in-batch"] = Field(
        "full",
        description="Items that a target competes with: all with events, or the batch's targets (for very many items).",
    )
    batch: Batch = 512


class Tower(nn.Module):
    """A residual layer: the input plus what a hidden layer adds to it."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = dropout

    def forward(self, x_MD: Tensor) -> Tensor:
        """Vectors in the common space, [M, D]."""
        inner = functional.dropout(functional.relu(self.wide(self.norm(x_MD))), self.dropout, self.training)
        out: Tensor = x_MD + self.narrow(inner)
        return out


class Towers(AttributeMeans[TwoTowerConfig]):
    """Products of user and item vectors: log-odds of being next."""

    count_V: Tensor

    def __init__(self, size: Size, config: TwoTowerConfig) -> None:
        super().__init__(size, config)
        width, self.length, self.batch = config.width, config.length, config.batch
        self.dropout, self.item_dropout = config.dropout, config.item_dropout
        self.in_batch = config.softmax == "in-batch"
        self.items = nn.Embedding(size.items + 1, width)
        self.attributes = nn.Embedding(size.attributes, width)
        for table in (self.items, self.attributes):
            nn.init.normal_(table.weight, std=width**-0.5)  # vectors of length 1, about
        self.age_L = nn.Parameter(torch.zeros(self.length))
        self.user_tower = Tower(width, config.hidden, self.dropout)
        self.item_tower = Tower(width, config.hidden, 0.0)
        self.hold_attributes(size)
        self.register_buffer("count_V", torch.zeros(size.items + 1))

    def observe(self, sequences: Sequences) -> None:
        """Take the items' attributes and numbers of events from the training sequences."""
        super().observe(sequences)
        counts_V = np.bincount(sequences.items_T, minlength=len(self.count_V))
        self.count_V.copy_(torch.from_numpy(counts_V.astype(np.float32)))

    def features(self, rng: np.random.Generator | None = None) -> Tensor:
        """Each item's own vector plus its attributes', [V + 1, D]. With `rng` some own vectors are left out."""
        kept_V = self.count_V > 0
        if rng is not None and self.item_dropout:
            kept_V = kept_V & torch.from_numpy(rng.random(len(kept_V)) >= self.item_dropout).to(self.device)
        return self.with_attributes(self.items.weight * kept_V[:, None])

    def users(self, items_ML: Tensor, features_VD: Tensor) -> Tensor:
        """Vectors of users by their last items, the latest one last: [M, D]."""
        x_MLD = functional.dropout(features_VD, self.dropout, self.training)[items_ML]
        weight_ML = self.age_L.expand(items_ML.shape).masked_fill(items_ML == 0, -torch.inf).softmax(dim=1)
        mean_MD = torch.bmm(weight_ML[:, None, :].to(x_MLD.dtype), x_MLD)[:, 0]
        out: Tensor = self.user_tower(mean_MD)
        return out

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Events that are targets, int64 [M] each."""
        return shuffled(targets(sequences), self.batch, rng)

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """Cross entropy of the targets' items, summed, and their number."""
        items_ML = torch.from_numpy(before(sequences, batch, users_of(sequences, batch), self.length)).to(self.device)
        targets_M = torch.from_numpy(sequences.items_T[batch].astype(np.int64)).to(self.device)
        competing_R = targets_M if self.in_batch else torch.nonzero(self.count_V)[:, 0]
        with self.products():
            features_VD = self.features(rng)
            users_MD, items_RD = self.users(items_ML, features_VD), self.item_tower(features_VD[competing_R])
        users_MD, items_RD = users_MD.float(), items_RD.float()
        if self.in_batch:
            return Sum(self._in_batch(users_MD, items_RD, targets_M), float(len(batch)))
        loss = linear_cross_entropy(users_MD, items_RD, torch.searchsorted(competing_R, targets_M), bfloat16=self.bf16)
        return Sum(loss, float(len(batch)))

    def _in_batch(self, users_MD: Tensor, targets_MD: Tensor, targets_M: Tensor) -> Tensor:
        """Cross entropy among a batch's targets. Further copies of a row's own target do not compete with it."""
        logits_MM = users_MD @ targets_MD.T - torch.log(self.count_V[targets_M] / self.count_V.sum())
        same_MM = (targets_M[:, None] == targets_M[None, :]).fill_diagonal_(False)
        places = torch.arange(len(targets_M), device=self.device)
        return functional.cross_entropy(logits_MM.masked_fill(same_MM, -torch.inf), places, reduction="sum")

    def user_vectors(self, sequences: Sequences, features_VD: Tensor) -> Tensor:
        """Vectors of users after their last events: [U, D]."""
        ends, users = sequences.offsets[1:], np.arange(sequences.num_users)
        items_UL = torch.from_numpy(before(sequences, ends, users, self.length)).to(self.device)
        return self.users(items_UL, features_VD)

    def scores(self, sequences: Sequences) -> Tensor:
        """As `Network.scores`."""
        features_VD = self.features()
        scores_UV: Tensor = self.user_vectors(sequences, features_VD) @ self.item_tower(features_VD).T
        return scores_UV


class TwoTower(NeuralRanker[TwoTowerConfig]):
    """Products of a user tower's and an item tower's vectors."""

    name: ClassVar[str] = "two_tower"
    Config: ClassVar[type[TwoTowerConfig]] = TwoTowerConfig
    network: ClassVar[type[Towers]] = Towers
    model: Towers

    @torch.inference_mode()
    def item_vectors(self) -> NDArray[np.float32]:
        """As `ItemRanker.item_vectors`."""
        vectors_VD: NDArray[np.float32] = self.model.item_tower(self.model.features()).numpy()
        vectors_VD[0] = 0
        return vectors_VD

    @torch.inference_mode()
    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        """As `ItemRanker.user_vectors`, with zeros for a user without events."""
        self.require_known(sequences)
        out_UD = np.zeros((sequences.num_users, self.model.items.embedding_dim), dtype=np.float32)
        users, features_VD = np.flatnonzero(sequences.lengths_U > 0), self.model.features()
        out_UD[users] = self.model.user_vectors(sequences.take(users), features_VD).numpy()
        return out_UD
