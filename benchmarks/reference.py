"""The reference that our training is timed against: SASRec written on plain PyTorch, as fast as that goes.

Kang & McAuley, "Self-attentive sequential recommendation", ICDM 2018, with the full softmax of Klenitskiy & Vasilev,
"Turning dross into gold loss", RecSys 2023. Causal scaled-dot-product attention (sequences are padded on the right, so
no mask is needed), logits at valid targets only, `cross_entropy`, batches of sequences of similar length, fused Adam.
No dropout on attention weights: with it PyTorch's CPU attention leaves its fused kernel. This file imports nothing of
ours, and must never be made slower than it can be.

Shapes: B sequences · L positions of the batch's longest · D width · H heads, of d each · V items, row 0 is padding ·
M targets of a batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

BATCH_SIZES = (8, 16, 32, 64, 128)
"""Batch sizes (in sequences) that are tried before the fastest is measured. On the CPUs measured so far it was 8."""
PRECISIONS = ("fp32", "bf16")
INITIAL_STD = 0.02
"""Standard deviation of fresh embeddings, as in BERT (Devlin et al., NAACL 2019)."""
BETAS = (0.9, 0.98)
"""Adam's, as in the paper's code."""


@dataclass(frozen=True)
class Shape:
    """The model that is trained, the same for every row of the table.

    The defaults are a common SASRec for MovieLens-1M: two blocks, length 200, dropout 0.2 and the
    learning rate as in the paper, width 64 and two heads by hand.
    """

    num_items: int
    dimension: int = 64
    blocks: int = 2
    heads: int = 2
    length: int = 200
    dropout: float = 0.2
    learning_rate: float = 1e-3


class Block(nn.Module):
    """Attention and a feed-forward layer of the same width, each normalised before and added after dropout."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.dimension
        self.heads = shape.heads
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """States [B, L, D] after this block."""
        batch, length, width = x_BLD.shape
        mixed = self.into(self.norm_attention(x_BLD)).view(batch, length, 3, self.heads, width // self.heads)
        q_BHLd, k_BHLd, v_BHLd = mixed.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q_BHLd, k_BHLd, v_BHLd, is_causal=True)
        x_BLD = x_BLD + self.dropout(self.out(attended.transpose(1, 2).reshape(batch, length, width)))
        forward = self.narrow(self.dropout(functional.relu(self.wide(self.norm_forward(x_BLD)))))
        out_BLD: Tensor = x_BLD + self.dropout(forward)
        return out_BLD


class Reference(nn.Module):
    """A causal transformer whose item embeddings are its output weights as well."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.items = nn.Embedding(shape.num_items + 1, shape.dimension, padding_idx=0)
        self.positions = nn.Embedding(shape.length, shape.dimension)
        nn.init.normal_(self.items.weight, std=INITIAL_STD)
        nn.init.normal_(self.positions.weight, std=INITIAL_STD)
        self.dropout = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.dimension)

    def forward(self, inputs_BL: Tensor) -> Tensor:
        """States after every position, [B, L, D]."""
        x_BLD = self.dropout(self.items(inputs_BL) + self.positions.weight[: inputs_BL.shape[1]])
        for block in self.blocks:
            x_BLD = block(x_BLD)
        normed: Tensor = self.norm(x_BLD)
        return normed

    def loss(self, inputs_BL: Tensor, targets_BL: Tensor) -> Tensor:
        """Mean cross-entropy of the batch's targets over all V items."""
        valid_BL = targets_BL > 0
        logits_MV = self(inputs_BL)[valid_BL] @ self.items.weight[1:].T
        return functional.cross_entropy(logits_MV.float(), targets_BL[valid_BL] - 1)


Batch = tuple[Tensor, Tensor, int]
"""Inputs int64 [B, L], targets int64 [B, L] (0: none), and the number of targets M."""


def batches(sequences: Sequence[NDArray[np.int64]], *, length: int, size: int, seed: int) -> list[Batch]:
    """One epoch: every user's last `length` targets once, users of similar length together, batches in random order."""
    usable = [events[-(length + 1) :] for events in sequences if len(events) > 1]
    usable.sort(key=len)
    out: list[Batch] = []
    for start in range(0, len(usable), size):
        some = usable[start : start + size]
        inputs, targets = np.zeros((2, len(some), len(some[-1]) - 1), dtype=np.int64)
        for row, events in enumerate(some):
            inputs[row, : len(events) - 1] = events[:-1]
            targets[row, : len(events) - 1] = events[1:]
        out.append((torch.from_numpy(inputs), torch.from_numpy(targets), sum(map(len, some)) - len(some)))
    order = np.random.default_rng(seed).permutation(len(out))
    return [out[place] for place in order]


def steps(shape: Shape, epoch: list[Batch], *, precision: str, seed: int) -> Iterator[int]:
    """Train on `epoch`, one step per batch, and yield after each step how many targets it trained."""
    torch.manual_seed(seed)
    model = Reference(shape).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=shape.learning_rate, betas=BETAS, fused=True)
    for inputs_BL, targets_BL, num_targets in epoch:
        with _precision(precision):
            loss = model.loss(inputs_BL, targets_BL)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield num_targets


def _precision(name: str) -> AbstractContextManager[object]:
    return nullcontext() if name == "fp32" else torch.autocast("cpu", dtype=torch.bfloat16)
