"""A causal transformer over packed sequences of items, trained with the full softmax at every position.

Pre-norm blocks as in SASRec (Kang & McAuley, ICDM 2018), with the choices that the flagship adds: attention biased by distance
(Raffel et al., JMLR 2020) instead of absolute places, an output gate per channel (in the spirit of HSTU, Zhai et al., ICML 2024), and
items that are the sum of an embedding of their own and the mean of their attributes'. One embedding table serves input and output.

Shapes: T tokens · B sequences of a group · L length of a group's longest · D width · H heads · V items, row 0 is no item.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recommender.models.next_item.packing import Group, Packed
from recommender.sequences import Items

BUCKETS, EXACT = 64, 32
"""Distances below EXACT have a bucket each; longer ones share by their logarithm."""


class Block(nn.Module):
    """Attention and feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float, *, relative: bool, gated: bool, wide: int) -> None:
        super().__init__()
        self.heads, self.dropout, self.gated = heads, dropout, gated
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, (4 if gated else 3) * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, wide * width), nn.Linear(wide * width, width)
        self.distance_HK = nn.Parameter(torch.zeros(heads, BUCKETS)) if relative else None

    def forward(self, x_TD: Tensor, groups: tuple[Group, ...]) -> Tensor:
        z_TX = self.qkv(self.norm_attention(x_TD))
        width = x_TD.shape[1]
        mixed_TD = torch.cat([self._attend(z_TX[:, : 3 * width], group) for group in groups])
        if self.gated:
            mixed_TD = mixed_TD * torch.sigmoid(z_TX[:, 3 * width :])
        x_TD = x_TD + self._drop(self.out(mixed_TD))
        return x_TD + self._drop(self.narrow(self._drop(functional.gelu(self.wide(self.norm_forward(x_TD))))))

    def _attend(self, qkv_TX: Tensor, group: Group) -> Tensor:
        size, length = group.tokens_BL.shape
        laid_out = qkv_TX.index_select(0, group.tokens_BL.reshape(-1)).view(size, length, 3, self.heads, -1)
        q, k, v = laid_out.permute(2, 0, 3, 1, 4)
        if self.distance_HK is None:
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            bias_HLL = self.distance_HK[:, distances(length, q.device)]
            hidden_LL = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
            mask = bias_HLL.masked_fill(hidden_LL, -torch.inf).to(q.dtype)
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(size * length, -1).index_select(0, group.real)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


def distances(length: int, device: torch.device) -> Tensor:
    """Bucket of the distance from each place back to each other: int64 [L, L]; the future has bucket 0 and is masked."""
    place = torch.arange(length, device=device)
    far = (place[:, None] - place[None, :]).clamp(min=0)
    log = EXACT + (torch.log(far.float().clamp(min=1) / EXACT) / math.log(8) * (BUCKETS - EXACT - 1)).long()
    return torch.where(far < EXACT, far, log.clamp(max=BUCKETS - 1))


class CausalEncoder(nn.Module):
    """Items so far -> a state whose product with an item's vector is that item's log-odds of being next.

    `hyper`: width, blocks, heads, dropout, length, and optionally relative, gated, wide (feed-forward / width), attributes.
    """

    def __init__(self, items: Items | None, num_items: int, num_attributes: int, hyper: Mapping[str, Any]) -> None:
        super().__init__()
        width = int(hyper["width"])
        self.length, self.dropout = int(hyper["length"]), float(hyper["dropout"])
        self.items = nn.Embedding(num_items + 1, width)
        relative = bool(hyper.get("relative", False))
        self.places = None if relative else nn.Parameter(torch.empty(self.length, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(
            Block(
                width,
                int(hyper["heads"]),
                self.dropout,
                relative=relative,
                gated=bool(hyper.get("gated", False)),
                wide=int(hyper.get("wide", 1)),
            )
            for _ in range(int(hyper["blocks"]))
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.items.weight, std=0.02)
        self.attributes = nn.Embedding(num_attributes, width) if num_attributes and hyper.get("attributes") else None
        if self.attributes is not None:
            nn.init.normal_(self.attributes.weight, std=0.02)
            self.register_buffer("attributes_P", torch.zeros(0, dtype=torch.int64), persistent=False)
            self.register_buffer("attribute_offsets", torch.zeros(num_items + 2, dtype=torch.int64), persistent=False)
            if items is not None:
                self.know(items)

    def know(self, items: Items) -> None:
        """Take the items' attributes."""
        if self.attributes is None or items.attribute_offsets is None or items.attributes_P is None:
            return
        device = self.items.weight.device
        self.attributes_P = torch.from_numpy(items.attributes_P.astype(np.int64)).to(device)
        self.attribute_offsets = torch.from_numpy(items.attribute_offsets).to(device)

    def table(self) -> Tensor:
        """Vectors of all items: [V + 1, D]."""
        if self.attributes is None:
            return self.items.weight
        means = functional.embedding_bag(
            self.attributes_P, self.attributes.weight, self.attribute_offsets, mode="mean", include_last_offset=True
        )
        return self.items.weight + means

    def forward(self, items_T: Tensor, packed: Packed, table_VD: Tensor) -> Tensor:
        """States after each token: [T, D]."""
        x_TD = functional.embedding(items_T, table_VD) * math.sqrt(table_VD.shape[1])
        if self.places is not None:
            x_TD = x_TD + self.places[packed.places_T]
        x_TD = functional.dropout(x_TD, self.dropout, self.training)
        for block in self.blocks:
            x_TD = block(x_TD, packed.groups)
        out: Tensor = self.norm(x_TD)
        return out


def items_of(packed: Packed, items_T: NDArray[np.int32]) -> Tensor:
    """The packed tokens' items: int64 [T]."""
    return torch.from_numpy(items_T[packed.events_T].astype(np.int64)).to(packed.places_T.device)
