"""GRU4Rec: a recurrent network over a user's last items (Hidasi, Karatzoglou, Baltrunas & Tikk, ICLR 2016).

The published ranking losses over sampled items are replaced by the exact softmax at every position, which is what their
successors approximate (Hidasi & Karatzoglou, CIKM 2018). One table of items serves input and output.

Shapes: T tokens · B sequences of a group · L length of a group's longest · D width · H width of the state · V items, row 0 is
no item · M targets · U users.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.hyperparameters import Space
from recommender.engine.loop import Sum
from recommender.engine.softmax import linear_cross_entropy
from recommender.models.next_item import neural
from recommender.models.next_item.neural import TRAINING, Network, NeuralRanker, Size
from recommender.models.next_item.packing import Packed, batches_by_tokens, laid_out, last_windows, pack, windows
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {
    **TRAINING,
    "cell": "gru",
    "width": 64,
    "hidden": 128,
    "layers": 1,
    "length": 100,
    "dropout": 0.4,
    "tokens": 512,
}
"""cell: "gru" or "lstm" · hidden: width of the state · length: last items that are read · tokens: targets of a batch · the others:
`neural.TRAINING`."""
SEARCHED: Space = {**neural.SEARCHED, "cell": ("gru", "lstm"), "width": (32, 64, 128), "hidden": (64, 128, 256)}
CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class Recurrent(Network):
    """Items so far -> a state whose product with an item's vector is that item's log-odds of being next."""

    def __init__(self, size: Size, hyper: Mapping[str, Any]) -> None:
        super().__init__(size, hyper)
        width, hidden = int(hyper["width"]), int(hyper["hidden"])
        self.length, self.tokens, self.dropout = int(hyper["length"]), int(hyper["tokens"]), float(hyper["dropout"])
        self.items = nn.Embedding(size.items + 1, width)
        nn.init.normal_(self.items.weight, std=width**-0.5)
        self.bias_V = nn.Parameter(torch.zeros(size.items + 1))
        self.cell = CELLS[hyper["cell"]](width, hidden, num_layers=int(hyper["layers"]), batch_first=True)
        self.out = nn.Linear(hidden, width)

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Windows, [B, 2] each: start and length."""
        starts, lengths = windows(sequences, self.length, rng)
        return [np.stack([starts[one], lengths[one]], 1) for one in batches_by_tokens(lengths, self.tokens, rng)]

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        packed = pack(batch[:, 0], batch[:, 1] - 1).to(self.device)
        targets_M = torch.from_numpy(sequences.items_T[packed.events_T + 1].astype(np.int64)).to(self.device)
        with self.products():
            states_MD = self(sequences, packed)
        weight = self.items.weight
        loss = linear_cross_entropy(states_MD.to(weight.dtype), weight, targets_M, self.bias_V, first=1, half=self.bf16)
        return Sum(loss, float(len(targets_M)))

    def forward(self, sequences: Sequences, packed: Packed) -> Tensor:
        """States after each token: [T, D]."""
        items_T = torch.from_numpy(sequences.items_T[packed.events_T].astype(np.int64)).to(self.device)
        x_TD = self._drop(self.items(items_T))
        states = []
        for x_BLD, group in zip(laid_out(x_TD, packed.groups), packed.groups, strict=True):
            out_BLH, _ = self.cell(x_BLD)
            states.append(out_BLH.flatten(0, 1)[group.real])
        out: Tensor = self.out(self._drop(torch.cat(states)))
        return out

    def scores(self, sequences: Sequences) -> Tensor:
        packed = pack(*last_windows(sequences, self.length)).to(self.device)
        return torch.addmm(self.bias_V, self(sequences, packed)[packed.last], self.items.weight.T)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class GRU4Rec(NeuralRanker):
    """A recurrent network's log-odds."""

    name: ClassVar[str] = "gru4rec"
    network: ClassVar[type[Network]] = Recurrent
