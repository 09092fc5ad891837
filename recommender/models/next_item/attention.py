"""A block of causal attention over packed sequences.

It is pre-norm as in SASRec (Kang & McAuley, ICDM 2018). Optional additions are a bias by distance instead of embedded
places (Raffel et al., JMLR 2020), a bias by the time between two events, and an output gate for each channel (in the
spirit of HSTU, Zhai et al., ICML 2024).

Shapes: T tokens · B sequences of a group · L length of a group's longest · D width · H heads · K classes of distance or
gap · X width of queries, keys and values together.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recommender.models.next_item.packing import GAPS, Group, padded

BUCKETS, EXACT, FARTHEST = 64, 32, 256
"""Distances below EXACT have a bucket each. Longer ones share the other buckets by their logarithm, up to FARTHEST,
from there on all have the last bucket. Half of the buckets exact, as in T5 (Raffel et al.); the numbers were chosen for
histories of 200."""
DROPOUT_BITS = 16
"""Random bits of a number in dropout on a CPU: one draw of 64 bits serves four numbers, and shares keep 1/65,536."""


class _LookedUp(torch.autograd.Function):
    """table_HK[:, classes_BLL] as [B, H, L, L].

    As `embedding`, whose gradient costs ten times as much for so few classes.
    """

    @staticmethod
    def forward(context: Any, table_HK: Tensor, classes_BLL: Tensor) -> Tensor:
        context.save_for_backward(classes_BLL)
        context.num_classes = table_HK.shape[1]
        return torch.stack([table_K.take(classes_BLL) for table_K in table_HK], dim=1)

    @staticmethod
    def backward(context: Any, grad_BHLL: Tensor) -> tuple[Tensor, None]:
        (classes_BLL,) = context.saved_tensors
        classes = classes_BLL.reshape(-1)
        sums = (torch.bincount(classes, grad.reshape(-1), context.num_classes) for grad in grad_BHLL.unbind(1))
        return torch.stack(list(sums)).to(grad_BHLL.dtype), None


def looked_up(table_HK: Tensor, classes: Tensor) -> Tensor:
    """table_HK[:, classes]: [H, L, L] of classes [L, L], and [B, H, L, L] of classes [B, L, L]."""
    if classes.device.type != "cpu":
        return _embedded(table_HK, classes)
    if classes.dim() == 2:
        return table_HK[:, classes]
    looked: Tensor = _LookedUp.apply(table_HK, classes)  # type: ignore[no-untyped-call]
    return looked


def _embedded(table_HK: Tensor, classes: Tensor) -> Tensor:
    """`looked_up` on a GPU, by `embedding`, which sorts.

    There indexing adds up a class's gradient one by one, and counting waits for the device.
    """
    return functional.embedding(classes, table_HK.T).movedim(-1, -3)


def drop(x: Tensor, share: float) -> Tensor:
    """Dropout, on a CPU by 16 random bits a number, which is cheaper than `functional.dropout`.

    Shares are rounded to 1 / 65,536 there.
    """
    levels = 1 << DROPOUT_BITS
    dropped = round(share * levels)
    if x.device.type != "cpu" or not 0 < dropped < levels or torch.compiler.is_compiling():
        return functional.dropout(x, share)
    # Four numbers of 16 bits to each draw of 64, rounded up.
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None).view(torch.int16)
    kept = bits[: x.numel()].view(x.shape) >= dropped - levels // 2
    return x * kept.to(x.dtype).mul_(levels / (levels - dropped))


def distances(length: int, device: torch.device) -> Tensor:
    """Bucket of the distance from each place (row) back to each other: int64 [L, L].

    The future has bucket 0; attention masks it.
    """
    place = torch.arange(length, device=device)
    far = (place[:, None] - place[None, :]).clamp(min=0)
    beyond = torch.log(far.float().clamp(min=1) / EXACT) / math.log(FARTHEST // EXACT)
    shared = EXACT + (beyond * (BUCKETS - EXACT - 1)).long()
    return torch.where(far < EXACT, far, shared.clamp(max=BUCKETS - 1))


class Block(nn.Module):
    """Attention and feed-forward."""

    def __init__(
        self, width: int, heads: int, dropout: float, *, relative: bool, timed: bool, gated: bool, wide: int
    ) -> None:
        super().__init__()
        self.heads, self.dropout, self.gated = heads, dropout, gated
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, (4 if gated else 3) * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, wide * width), nn.Linear(wide * width, width)
        self.distance_HK = nn.Parameter(torch.zeros(heads, BUCKETS)) if relative else None
        self.gap_HK = nn.Parameter(torch.zeros(heads, GAPS)) if timed else None

    def forward(self, x_TD: Tensor, groups: tuple[Group, ...]) -> Tensor:
        """The tokens' states after the block, [T, D]."""
        qkv_TX, width = self.project(x_TD), x_TD.shape[1]
        qkv_TX, gate_TD = torch.split(qkv_TX, [3 * width, width], dim=1) if self.gated else (qkv_TX, None)
        mixed_TD = torch.cat([self._attend(*both) for both in zip(padded(qkv_TX, groups), groups, strict=True)])
        return self.join(x_TD, mixed_TD, gate_TD)

    def project(self, x_TD: Tensor) -> Tensor:
        """Queries, keys and values, and the gate if there is one: [T, 3 D or 4 D]."""
        qkv_TX: Tensor = self.qkv(self.norm_attention(x_TD))
        return qkv_TX

    def join(self, x_TD: Tensor, mixed_TD: Tensor, gate_TD: Tensor | None) -> Tensor:
        """Add the attention's output and then the feed-forward layer's output to the states: [T, D]."""
        if gate_TD is not None:
            mixed_TD = mixed_TD * torch.sigmoid(gate_TD)
        x_TD = x_TD + self._drop(self.out(mixed_TD))
        return x_TD + self._drop(self.narrow(self._drop(functional.gelu(self.wide(self.norm_forward(x_TD))))))

    def _attend(self, qkv_BLX: Tensor, group: Group) -> Tensor:
        """Attention of a group's sequences: its tokens' values [tokens, D]."""
        size, length = group.tokens_BL.shape
        q, k, v = qkv_BLX.view(size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self._bias(group, length)
        if bias is None:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            hidden_LL = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
            mask = bias.masked_fill(hidden_LL, -torch.inf).to(q.dtype)
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(size * length, -1).index_select(0, group.real)

    def _bias(self, group: Group, length: int) -> Tensor | None:
        """Bias that is added before the softmax: [H, L, L] by distance, [B, H, L, L] by time too. None: no bias."""
        bias = None
        if self.distance_HK is not None:
            bias = looked_up(self.distance_HK, distances(length, group.real.device))
        if self.gap_HK is None or group.gaps_BLL is None:
            return bias
        timed_BHLL = looked_up(self.gap_HK, group.gaps_BLL)
        return timed_BHLL if bias is None else timed_BHLL + bias

    def _drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout) if self.training else x
