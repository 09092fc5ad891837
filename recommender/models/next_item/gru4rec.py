"""GRU4Rec: a recurrent network over a user's last items (Hidasi, Karatzoglou, Baltrunas & Tikk, ICLR 2016).

The published ranking losses over sampled items are replaced by the exact softmax at every position, which their
successors approximate (Hidasi & Karatzoglou, CIKM 2018). One table of items serves input and output.

Shapes: T tokens · B sequences of a group · L length of a group's longest · D width · H width of the state · V items,
row 0 is padding · M targets · U users.
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.hyperparameters import Choices
from recommender.engine.loop import Sum
from recommender.engine.softmax import linear_cross_entropy
from recommender.models.next_item.fields import Dropout, Tokens, Width
from recommender.models.next_item.network import Network, NeuralConfig, Size
from recommender.models.next_item.neural import NeuralRanker
from recommender.models.next_item.packing import Packed, batches_by_tokens, last_windows, pack, padded, windows
from recommender.sequences import Sequences

CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class GRU4RecConfig(NeuralConfig):
    """Hyperparameters of GRU4Rec.

    The defaults are chosen by hand, not tuned. Search ranges are chosen by hand.
    """

    dropout: Dropout = 0.4
    cell: Annotated[Literal["gru", "lstm"], Choices("gru", "lstm")] = Field(
        "gru", description="Kind of recurrent cell."
    )
    width: Annotated[Width, Choices(32, 64, 128)] = 64
    hidden: Annotated[int, Choices(64, 128, 256)] = Field(128, ge=1, description="Width H of the recurrent state.")
    layers: int = Field(1, ge=1, description="Recurrent layers.")
    length: int = Field(
        100, ge=2, description="Last items that are read. They are inputs and targets at once, so at least 2."
    )
    tokens: Tokens = 512


class Recurrent(Network[GRU4RecConfig]):
    """Items so far -> a state whose product with an item's vector is that item's log-odds of being next."""

    def __init__(self, size: Size, config: GRU4RecConfig) -> None:
        super().__init__(size, config)
        width, hidden = config.width, config.hidden
        self.length, self.tokens, self.dropout = config.length, config.tokens, config.dropout
        self.items = nn.Embedding(size.items + 1, width)
        nn.init.normal_(self.items.weight, std=width**-0.5)  # vectors of length 1, about
        self.bias_V = nn.Parameter(torch.zeros(size.items + 1))
        self.cell = CELLS[config.cell](width, hidden, num_layers=config.layers, batch_first=True)
        self.out = nn.Linear(hidden, width)

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Windows of events in batches, int64 [windows, 2] each: start and length."""
        starts, lengths = windows(sequences, self.length, rng)
        return [np.stack([starts[rows], lengths[rows]], 1) for rows in batches_by_tokens(lengths, self.tokens, rng)]

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """Cross entropy of every next item in the windows, summed, and the number of targets."""
        packed = pack(batch[:, 0], batch[:, 1] - 1).to(self.device)
        targets_M = torch.from_numpy(sequences.items_T[packed.events_T + 1].astype(np.int64)).to(self.device)
        with self.products():
            states_MD = self(sequences, packed)
        weight = self.items.weight
        loss = linear_cross_entropy(
            states_MD.to(weight.dtype), weight, targets_M, self.bias_V, first=1, bfloat16=self.bf16
        )
        return Sum(loss, float(len(targets_M)))

    def forward(self, sequences: Sequences, packed: Packed) -> Tensor:
        """States after each token: [T, D]."""
        items_T = torch.from_numpy(sequences.items_T[packed.events_T].astype(np.int64)).to(self.device)
        x_TD = self._drop(self.items(items_T))
        states = []
        for x_BLD, group in zip(padded(x_TD, packed.groups), packed.groups, strict=True):
            out_BLH, _ = self.cell(x_BLD)
            states.append(out_BLH.flatten(0, 1)[group.real])
        out: Tensor = self.out(self._drop(torch.cat(states)))
        return out

    def scores(self, sequences: Sequences) -> Tensor:
        """As `Network.scores`."""
        packed = pack(*last_windows(sequences, self.length)).to(self.device)
        return torch.addmm(self.bias_V, self(sequences, packed)[packed.last], self.items.weight.T)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class GRU4Rec(NeuralRanker[GRU4RecConfig]):
    """A recurrent network's log-odds."""

    name: ClassVar[str] = "gru4rec"
    Config: ClassVar[type[GRU4RecConfig]] = GRU4RecConfig
    network: ClassVar[type[Recurrent]] = Recurrent
