"""NeuMF: neural collaborative filtering by a product of vectors beside a network over vectors (He et al., WWW 2017).

The loss is binary cross entropy against sampled items, as published. A user that was not in the fit is represented by
the mean of vectors of the items in the history. Some training rows are represented that way too (without their own
item), so that these vectors are learned.

Shapes: T events · M rows · N items of a row, its own first and then the sampled ones · L last items · D factors · H
hidden · V items, row 0 is padding · U users.
"""

from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.hyperparameters import Choices, Range
from recommender.engine.loop import Sum
from recommender.models.next_item.fields import Batch, Dropout, NewUsers, WeightDecay
from recommender.models.next_item.histories import before, shuffled, users_of
from recommender.models.next_item.network import Network, NeuralConfig, Size
from recommender.models.next_item.neural import NeuralRanker
from recommender.sequences import Sequences

USERS_A_BLOCK = 16
"""Users whose log-odds of all items are computed at once: their hidden layers take users x items x width numbers.
Chosen by hand."""
DEVIATION = 0.05
"""Standard deviation of fresh vectors. Chosen by hand."""


class NeuralCFConfig(NeuralConfig):
    """Hyperparameters of NeuMF.

    The defaults are chosen by hand, not tuned. Search ranges are chosen by hand.
    """

    weight_decay: WeightDecay = 0.01
    dropout: Dropout = 0.1
    factors: Annotated[int, Choices(16, 32, 64)] = Field(
        32, ge=1, description="Width of user and item vectors, separately for the product and for the network."
    )
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)] = Field(
        (32, 16), min_length=1, description="Widths of the network's layers."
    )
    negatives: Annotated[int, Range(4, 32, log=True)] = Field(
        8, ge=1, description="Negative items sampled for each event."
    )
    new_users: Annotated[NewUsers, Range(0.0, 1.0)] = 0.3
    length: int = Field(50, ge=1, description="Last items that represent a user who is treated as unknown.")
    batch: Batch = 2048


class NeuMF(Network[NeuralCFConfig]):
    """User and item -> log-odds of an event."""

    def __init__(self, size: Size, config: NeuralCFConfig) -> None:
        super().__init__(size, config)
        factors, widths = config.factors, config.hidden
        self.length, self.batch, self.dropout = config.length, config.batch, config.dropout
        self.negatives, self.new_users = config.negatives, config.new_users
        self.items = nn.Embedding(size.items + 1, 2 * factors)
        self.users = nn.Embedding(size.users, 2 * factors)
        self.history = nn.Embedding(size.items + 1, 2 * factors, padding_idx=0)
        for table in (self.items, self.users, self.history):
            nn.init.normal_(table.weight, std=DEVIATION)
        self.bias_V = nn.Parameter(torch.zeros(size.items + 1))
        self.user_in, self.item_in = nn.Linear(factors, widths[0]), nn.Linear(factors, widths[0], bias=False)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.product, self.out = nn.Linear(factors, 1, bias=False), nn.Linear(widths[-1], 1)
        nn.init.ones_(self.product.weight)

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """All events, int64 [M] each."""
        return shuffled(np.arange(len(sequences.items_T)), self.batch, rng)

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """Binary cross entropy of each event's item and of sampled items, summed, and their number."""
        users_M = users_of(sequences, batch)
        own_M = sequences.items_T[batch].astype(np.int64)
        rows_M = users_M if sequences.users_U is None else sequences.users_U[users_M]
        new_M = (rng.random(len(batch)) < self.new_users) | (rows_M < 0)
        history_NL = before(sequences, sequences.offsets[1:][users_M[new_M]], users_M[new_M], self.length)
        history_NL[history_NL == own_M[new_M][:, None]] = 0  # else the row's own item would give its answer away
        sampled = rng.integers(1, sequences.items.num + 1, (len(batch), self.negatives))
        items_MN = torch.from_numpy(np.concatenate([own_M[:, None], sampled], axis=1)).to(self.device)
        with self.products():
            users_MD = self.vectors(np.where(new_M, -1, rows_M), history_NL)
            logits_MN = self.logits(users_MD[:, None, :], self.items(items_MN)) + self.bias_V[items_MN]
        happened_MN = torch.zeros(items_MN.shape, device=self.device)
        happened_MN[:, 0] = 1
        loss = functional.binary_cross_entropy_with_logits(logits_MN.float(), happened_MN, reduction="sum")
        return Sum(loss, float(items_MN.numel()))

    def vectors(self, rows_M: NDArray[np.int64], history_NL: NDArray[np.int64]) -> Tensor:
        """Vectors of users, [M, 2 D]. Those of row -1 are represented by their items, one row of `history_NL` each."""
        known_M = torch.from_numpy(rows_M >= 0).to(self.device)
        items = torch.from_numpy(history_NL).to(self.device)
        mean = self.history(items).sum(dim=1) / (items > 0).sum(dim=1, keepdim=True).clamp(min=1)
        own = self.users(torch.from_numpy(rows_M[rows_M >= 0]).to(self.device))
        out = own.new_empty(len(rows_M), own.shape[1])
        out = out.index_put((torch.nonzero(known_M)[:, 0],), own)
        vectors: Tensor = out.index_put((torch.nonzero(~known_M)[:, 0],), mean.to(out.dtype))
        return vectors

    def logits(self, users: Tensor, items: Tensor) -> Tensor:
        """Log-odds without the items' bias: users [M, 1, 2 D] and items [M, N, 2 D] or [1, V, 2 D] -> [M, N or V]."""
        (p, user), (q, item) = users.chunk(2, dim=-1), items.chunk(2, dim=-1)
        x = functional.relu(self.user_in(user) + self.item_in(item))
        for layer in self.layers:
            x = functional.relu(layer(functional.dropout(x, self.dropout, self.training)))
        product = (p * self.product.weight[0]) @ q.transpose(-1, -2)
        out: Tensor = product[:, 0] + self.out(x)[..., 0]
        return out

    def can_score(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Users with events or known to the fit, bool [U]."""
        known_U = np.zeros(sequences.num_users, dtype=np.bool_) if sequences.users_U is None else sequences.users_U >= 0
        return (sequences.lengths_U > 0) | known_U

    def scores(self, sequences: Sequences) -> Tensor:
        """As `Network.scores`."""
        users = np.arange(sequences.num_users)
        rows_U = np.full(len(users), -1, dtype=np.int64) if sequences.users_U is None else sequences.users_U
        new = users[rows_U < 0]
        vectors_UD = self.vectors(rows_U, before(sequences, sequences.offsets[1:][new], new, self.length))
        items_VD = self.items.weight[None]
        blocks = [
            self.logits(vectors[:, None, :], items_VD) + self.bias_V
            for vectors in torch.split(vectors_UD, USERS_A_BLOCK)
        ]
        return torch.cat(blocks)


class NeuralCF(NeuralRanker[NeuralCFConfig]):
    """NeuMF's log-odds."""

    name: ClassVar[str] = "neural_cf"
    Config: ClassVar[type[NeuralCFConfig]] = NeuralCFConfig
    scores_are_log_odds: ClassVar[bool] = False
    network: ClassVar[type[NeuMF]] = NeuMF
