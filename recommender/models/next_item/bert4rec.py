"""BERT4Rec: bidirectional self-attention that fills in masked items (Sun et al., CIKM 2019).

The loss is the exact softmax over all items at the masked places. Places are counted from a window's end, so the mask
that is appended for scoring stands where a masked last item stood in training. Some windows mask only their last item,
as in the paper.

Shapes: T tokens · B sequences of a group · L length of a group's longest · D width · V items, row 0 is padding · M
masked places · U users.
"""

from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.hyperparameters import Choices, Range
from recommender.engine.loop import Sum
from recommender.engine.softmax import linear_cross_entropy
from recommender.models.next_item.fields import (
    Blocks,
    Dropout,
    Epochs,
    Heads,
    JudgeEvery,
    Tokens,
    Width,
    require_heads_divide_width,
)
from recommender.models.next_item.network import BERT_DEVIATION, Network, NeuralConfig, Size
from recommender.models.next_item.neural import NeuralRanker
from recommender.models.next_item.packing import Packed, batches_by_tokens, last_windows, pack, padded, windows
from recommender.sequences import Sequences


class BERT4RecConfig(NeuralConfig):
    """Hyperparameters of BERT4Rec, chosen by hand, not tuned. Search ranges are chosen by hand.

    A masked epoch has fewer targets than a causal one, so there are more epochs.
    """

    epochs: Epochs = 100
    judge_every: JudgeEvery = 4
    dropout: Dropout = 0.2
    width: Annotated[Width, Choices(32, 64, 128)] = 64
    blocks: Annotated[Blocks, Range(1, 3)] = 2
    heads: Heads = 2
    length: int = Field(
        100, ge=3, description="Latest items that are read, including the mask. At least 3: two items and the mask."
    )
    mask: Annotated[float, Range(0.1, 0.6)] = Field(
        0.3, gt=0, le=1, description="Share of a window's items that are masked."
    )
    last: float = Field(0.3, ge=0, le=1, description="Share of windows in which only the last item is masked.")
    tokens: Tokens = 1024

    _heads = model_validator(mode="after")(require_heads_divide_width)


class BidirectionalBlock(nn.Module):
    """Attention in both directions, and a feed-forward layer of four times the width, as in the paper."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BLD: Tensor, real_BL: Tensor) -> Tensor:
        """States after the block, [B, L, D]. `real_BL` is false where there is padding."""
        size, length, _ = x_BLD.shape
        q, k, v = self.qkv(self.norm_attention(x_BLD)).view(size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=real_BL[:, None, None, :])
        x_BLD = x_BLD + self._drop(self.out(mixed.transpose(1, 2).reshape(x_BLD.shape)))
        return x_BLD + self._drop(self.narrow(functional.gelu(self.wide(self.norm_forward(x_BLD)))))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class Bidirectional(Network[BERT4RecConfig]):
    """Items with masks -> states whose product with an item's vector is its log-odds of being the masked item."""

    def __init__(self, size: Size, config: BERT4RecConfig) -> None:
        super().__init__(size, config)
        width = config.width
        self.length, self.tokens, self.dropout = config.length, config.tokens, config.dropout
        self.mask, self.last = config.mask, config.last
        self.items = nn.Embedding(size.items + 1, width)
        self.places = nn.Embedding(self.length, width)
        self.mask_D = nn.Parameter(torch.empty(width).normal_(std=BERT_DEVIATION))
        self.bias_V = nn.Parameter(torch.zeros(size.items + 1))
        for table in (self.items, self.places):
            nn.init.normal_(table.weight, std=BERT_DEVIATION)
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(BidirectionalBlock(width, config.heads, self.dropout) for _ in range(config.blocks))
        self.out = nn.Linear(width, width)

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Windows of events in batches, int64 [windows, 2] each: start and length."""
        starts, lengths = windows(sequences, self.length - 1, rng)
        return [np.stack([starts[rows], lengths[rows]], 1) for rows in batches_by_tokens(lengths, self.tokens, rng)]

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """Cross entropy of the masked items, summed, and their number."""
        packed = pack(batch[:, 0], batch[:, 1])
        items_T = sequences.items_T[packed.events_T].astype(np.int64)
        masked_T = masks(packed.places_T.numpy(), rng, mask=self.mask, last=self.last)
        where_M = torch.from_numpy(np.flatnonzero(masked_T)).to(self.device)
        with self.products():
            states_TD = self(torch.from_numpy(np.where(masked_T, 0, items_T)).to(self.device), packed.to(self.device))
            states_MD = self.out(states_TD[where_M])
        weight, targets_M = self.items.weight, torch.from_numpy(items_T[masked_T]).to(self.device)
        loss = linear_cross_entropy(
            states_MD.to(weight.dtype), weight, targets_M, self.bias_V, first=1, bfloat16=self.bf16
        )
        return Sum(loss, float(len(targets_M)))

    def forward(self, items_T: Tensor, packed: Packed) -> Tensor:
        """States at each token, [T, D]. Item 0 is the mask."""
        ends_T = torch.from_numpy(from_end(packed.places_T.cpu().numpy())).to(self.device)
        x_TD = torch.where((items_T == 0)[:, None], self.mask_D, self.items(items_T)) + self.places(ends_T)
        x_TD = functional.dropout(self.norm_in(x_TD), self.dropout, self.training)
        states = []
        for x_BLD, group in zip(padded(x_TD, packed.groups), packed.groups, strict=True):
            real_BL = torch.zeros(group.tokens_BL.numel(), dtype=torch.bool, device=self.device)
            real_BL[group.real] = True
            real_BL = real_BL.view_as(group.tokens_BL)
            for block in self.blocks:
                x_BLD = block(x_BLD, real_BL)
            states.append(x_BLD.flatten(0, 1)[group.real])
        out: Tensor = self.norm_out(torch.cat(states))
        return out

    def scores(self, sequences: Sequences) -> Tensor:
        """As `Network.scores`: a mask is appended to each user's last items, and its state is scored."""
        starts, lengths = last_windows(sequences, self.length - 1)
        packed = pack(np.zeros_like(starts), lengths + 1)
        items_T = np.zeros(len(packed.events_T), dtype=np.int64)
        last = packed.last.numpy()
        rows = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        items_T[last[rows] - lengths[rows] + within] = sequences.items_T[starts[rows] + within]
        states_TD = self(torch.from_numpy(items_T).to(self.device), packed.to(self.device))
        states_UD = self.out(states_TD[packed.last.to(self.device)])
        return torch.addmm(self.bias_V, states_UD, self.items.weight.T)


def from_end(places_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of later tokens in each token's window, from the tokens' places in their windows."""
    starts = np.flatnonzero(places_T == 0)
    lengths = np.diff(np.append(starts, len(places_T)))
    return np.asarray(np.repeat(lengths, lengths) - 1 - places_T)


def masks(places_T: NDArray[np.int64], rng: np.random.Generator, *, mask: float, last: float) -> NDArray[np.bool_]:
    """Tokens to mask, bool [T]: a share `mask` of each window's, or with probability `last` its last one only.

    At least one token of a window is masked, and never all of a window of two and more.
    """
    starts = np.flatnonzero(places_T == 0)
    lengths = np.diff(np.append(starts, len(places_T)))
    ends = starts + lengths - 1
    masked_T = rng.random(len(places_T)) < mask
    num = np.add.reduceat(masked_T.astype(np.int64), starts)
    only_last = (rng.random(len(starts)) < last) | (num == 0) | (num == lengths)
    masked_T[np.repeat(only_last, lengths)] = False
    masked_T[ends[only_last]] = True
    return masked_T


class BERT4Rec(NeuralRanker[BERT4RecConfig]):
    """The log-odds of the item under a mask after the last one."""

    name: ClassVar[str] = "bert4rec"
    Config: ClassVar[type[BERT4RecConfig]] = BERT4RecConfig
    network: ClassVar[type[Bidirectional]] = Bidirectional
