"""A causal transformer over baskets, pretrained to predict the next basket.

A basket is a set. Its vector is the mean of its items' vectors, each the sum of the embeddings of the item's taxonomy
values, plus facts about the basket (money, size, days since the one before). Attention is causal as in SASRec (Kang &
McAuley, ICDM 2018). The objective is the cross entropy of the next basket's lines over the finest taxonomy axis of
manageable size, with a softmax over all of its values.

Shapes: B sequences · b baskets of all sequences · L baskets of the longest, 1 + L positions (the first stands for "no
basket yet") · X facts · D width · V values predicted · n distinct items · T lines · A axes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recommender.matching.look_rules import LEFT_OUT_DAYS
from recommender.matching.packed_history import Histories
from recommender.models.campaign.interleaved import BOUGHT, Interleaved

BASKET_FACTS = 3
"""How many facts describe a basket: days since the one before, money, number of lines."""
GAP_SCALE, SPEND_SCALE, LINES_SCALE = 2, 4, 3
"""Divide the logarithms of these facts, so that each is about 1 for an everyday basket. Chosen by hand."""
POOLED_SCALE = 4.0
"""Factor of a basket's mean item. It brings embeddings that start at `EMBEDDING_STD` to the scale of the facts. Chosen
by hand."""
EMBEDDING_STD = 0.08
"""Standard deviation of new embeddings. Chosen by hand."""
NEVER = -30.0
"""Log-odds of a value that must not be predicted: its probability (1e-13) is 0 beside any other."""


@dataclass(frozen=True, eq=False)
class Batch:
    """B sequences of baskets, left-aligned."""

    items_n: NDArray[np.int64]
    """Distinct rows of the catalogue, int64 [n]."""
    line_items_T: Tensor
    """Index of each line's item in `items_n`, int64 [T]."""
    line_starts: Tensor
    """First line of each basket, int64 [b]."""
    places: Tensor
    """Flat place in [B, L] of each basket, int64 [b]."""
    facts_BLX: Tensor
    lengths_B: Tensor
    """Baskets of each sequence."""
    basket_of_line_T: Tensor
    num_lines: Tensor
    """Lines of each basket, int64 [b]."""
    looks: "Looks | None" = None
    """What tells looks from purchases. None: all are purchases."""


@dataclass(frozen=True, eq=False)
class Looks:
    """What tells looks from purchases in a batch."""

    kinds_T: Tensor
    """`interleaved.BOUGHT`, or the kind of the look, int64 [T]."""
    shares_T: Tensor
    """Weight of the line in its basket, float32 [T]."""
    asked: Tensor
    """Flat place in [B, 1 + L] of the state that predicts each basket, int64 [b]."""


def batch_of(
    histories: Histories, starts_B: NDArray[np.int64], ends_B: NDArray[np.int64], whole: bool = False
) -> Batch:
    """Lay out the baskets [start, end) of each sequence.

    Args:
        histories: All baskets.
        starts_B: First basket of each sequence.
        ends_B: One past the last basket of each sequence.
        whole: Index lines by rows of the catalogue instead of by the batch's distinct items, and leave `items_n` empty.
    """
    lengths_B = ends_B - starts_B
    num_baskets, width = int(lengths_B.sum()), max(int(lengths_B.max(initial=0)), 1)
    first_B = np.cumsum(lengths_B) - lengths_B
    within_b = np.arange(num_baskets) - np.repeat(first_B, lengths_B)
    baskets_b = np.repeat(starts_B, lengths_B) + within_b
    rows_b = np.repeat(np.arange(len(starts_B)), lengths_B)
    lines_b = histories.line_offsets[baskets_b + 1] - histories.line_offsets[baskets_b]
    first_line_b = np.cumsum(lines_b) - lines_b
    lines_T = np.arange(int(lines_b.sum())) - np.repeat(first_line_b - histories.line_offsets[baskets_b], lines_b)
    items_T = histories.items_T[lines_T].astype(np.int64)
    items_n, line_items_T = (items_T[:0], items_T) if whole else np.unique(items_T, return_inverse=True)
    ages_b = histories.age_days_B[baskets_b].astype(np.float64)
    gap_b = np.where(within_b > 0, np.concatenate([[0.0], ages_b[:-1]]) - ages_b, 0.0) if num_baskets else ages_b
    spend_b = np.maximum(histories.spend_B[baskets_b].astype(np.float64), 0.0)
    facts = np.zeros((len(starts_B), width, BASKET_FACTS), dtype=np.float32)
    facts[rows_b, within_b] = np.stack(
        [
            np.log1p(np.maximum(gap_b, 0)) / GAP_SCALE,
            np.log1p(spend_b) / SPEND_SCALE,
            np.log1p(lines_b) / LINES_SCALE,
        ],
        axis=1,
    )
    looks = None
    if isinstance(histories, Interleaved):
        is_look_b = histories.is_look_B[baskets_b]
        asked_b = within_b - _steps_back(is_look_b, ages_b, within_b)
        looks = Looks(
            kinds_T=torch.from_numpy(histories.kinds_T[lines_T]),
            shares_T=torch.from_numpy(histories.shares_T[lines_T]),
            asked=torch.from_numpy(rows_b * (width + 1) + asked_b),
        )
    return Batch(
        looks=looks,
        items_n=items_n,
        line_items_T=torch.from_numpy(line_items_T.astype(np.int64, copy=False)),
        line_starts=torch.from_numpy(first_line_b.astype(np.int64)),
        places=torch.from_numpy(rows_b * width + within_b),
        facts_BLX=torch.from_numpy(facts),
        lengths_B=torch.from_numpy(lengths_B.astype(np.int64)),
        basket_of_line_T=torch.from_numpy(np.repeat(np.arange(num_baskets), lines_b)),
        num_lines=torch.from_numpy(lines_b.astype(np.int64)),
    )


def _steps_back(
    is_look_b: NDArray[np.bool_], ages_b: NDArray[np.float64], within_b: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many of the baskets right before each one are looks that teach nothing about it, int64 [b]."""
    steps_b, place_b = np.zeros_like(within_b), np.arange(len(within_b))
    for step in count():
        before_b = np.maximum(place_b - step - 1, 0)
        is_left_out_b = is_look_b[before_b] & (ages_b[before_b] - ages_b < LEFT_OUT_DAYS)
        # The steps of a basket end at the first one that stays, or where its sequence begins.
        goes_on_b = is_left_out_b & (steps_b == step) & (step < within_b)
        if not goes_on_b.any():
            break
        steps_b += goes_on_b
    return steps_b


class Block(nn.Module):
    """Attention and feed-forward, each with a layer norm before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        # A feed-forward layer of twice the width, where four times is usual: fewer weights. Chosen by hand.
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Let each position read those before it: [B, L, D] -> [B, L, D]."""
        size, length, width = x_BLD.shape
        q, k, v = self.qkv(self.norm_attention(x_BLD)).view(size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        x_BLD = x_BLD + self._drop(self.out(mixed.transpose(1, 2).reshape(size, length, width)))
        return x_BLD + self._drop(self.narrow(functional.gelu(self.wide(self.norm_forward(x_BLD)))))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class BasketEncoder(nn.Module):
    """Baskets -> states. A state predicts the next basket."""

    def __init__(
        self,
        sizes_A: Sequence[int],
        target: int,
        *,
        width: int,
        blocks: int,
        heads: int,
        baskets: int,
        dropout: float,
        look_kinds: int = 0,
    ) -> None:
        """Make new weights. With `look_kinds` the baskets may be looks of so many kinds."""
        super().__init__()
        self.target, self.baskets, self.dropout = target, baskets, dropout
        self.axes = nn.ModuleList(nn.Embedding(size, width, padding_idx=0) for size in sizes_A)
        self.facts = nn.Linear(BASKET_FACTS, width)
        self.start = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.zeros(baskets + 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.bias_V = nn.Parameter(torch.zeros(sizes_A[target]))
        # At first a look is read as a purchase. What tells them apart is learnt.
        self.kinds = nn.Parameter(torch.zeros(look_kinds + 1, width)) if look_kinds else None
        for axis in self.axes:
            nn.init.normal_(axis.weight, std=EMBEDDING_STD)  # type: ignore[arg-type]
            with torch.no_grad():
                axis.weight[0] = 0.0  # type: ignore[operator]

    def item_vectors(self, axes_nA: Tensor) -> Tensor:
        """Sum the embeddings of each item's values: int64 [n, A] -> [n, D]."""
        vectors_nD: Tensor = self.axes[0](axes_nA[:, 0])
        for axis in range(1, len(self.axes)):
            vectors_nD = vectors_nD + self.axes[axis](axes_nA[:, axis])
        return vectors_nD

    def pooled(self, vectors_nD: Tensor, batch: Batch) -> Tensor:
        """Average each basket's items: [B, L, D], zeros beyond a sequence's end."""
        size, width = batch.facts_BLX.shape[:2]
        depth = vectors_nD.shape[1]
        out = vectors_nD.new_zeros(size * width, depth)
        if len(batch.places):
            means = self._means(vectors_nD, batch)
            out = out.index_copy(0, batch.places, means * POOLED_SCALE)
        return out.view(size, width, depth)

    def _means(self, vectors_nD: Tensor, batch: Batch) -> Tensor:
        """Mean vector of each basket's lines, [b, D]: of looks by what they count, with their kinds' vectors."""
        if batch.looks is None or self.kinds is None:
            return functional.embedding_bag(batch.line_items_T, vectors_nD, batch.line_starts, mode="mean")
        shares_T = batch.looks.shares_T.to(vectors_nD.dtype)

        def mean(rows_T: Tensor, vectors: Tensor) -> Tensor:
            return functional.embedding_bag(rows_T, vectors, batch.line_starts, mode="sum", per_sample_weights=shares_T)

        return mean(batch.line_items_T, vectors_nD) + mean(batch.looks.kinds_T, self.kinds)

    def forward(self, pooled_BLD: Tensor, facts_BLX: Tensor) -> Tensor:
        """Compute the states after 0 … L baskets: [B, 1 + L, D]."""
        x_BLD = functional.dropout(pooled_BLD, self.dropout, self.training) + self.facts(facts_BLX.to(self.start.dtype))
        start = self.start.expand(len(x_BLD), 1, -1)
        x_BLD = torch.cat([start, x_BLD], dim=1) + self.position[: x_BLD.shape[1] + 1]
        for block in self.blocks:
            x_BLD = block(x_BLD)
        out: Tensor = self.norm(x_BLD)
        return out

    def next_log_odds(self, states_MD: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the next basket's lines: [M, V]. Value 0 is excluded."""
        logits = states_MD @ self.axes[self.target].weight.T + self.bias_V  # type: ignore[operator]
        return torch.cat([torch.full_like(logits[:, :1], NEVER), logits[:, 1:]], dim=1)


def next_basket_loss(encoder: BasketEncoder, batch: Batch, axes_VA: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of each purchase's lines, predicted from the baskets before it.

    Where the last of these are looks of under `LEFT_OUT_DAYS` before, it is predicted from the baskets before them.

    Returns:
        The sum over purchases of the mean over their lines, and the number of purchases. One counts only by its share
        of lines whose value on the predicted axis is known.
    """
    axes_nA = axes_VA[torch.from_numpy(batch.items_n)]
    pooled_BLD = encoder.pooled(encoder.item_vectors(axes_nA), batch)
    states_BLD = encoder(pooled_BLD, batch.facts_BLX)
    if batch.looks is None:
        states_bD = states_BLD[:, :-1].reshape(-1, states_BLD.shape[-1])[batch.places]
    else:
        states_bD = states_BLD.reshape(-1, states_BLD.shape[-1])[batch.looks.asked]
    log_p_bV = encoder.next_log_odds(states_bD).float().log_softmax(dim=1)
    values_T = axes_nA[batch.line_items_T, encoder.target]
    known_T = values_T > 0
    if batch.looks is not None:
        known_T = known_T & (batch.looks.kinds_T == BOUGHT)
    weights_T = known_T / batch.num_lines[batch.basket_of_line_T]
    picked_T = log_p_bV[batch.basket_of_line_T, values_T]
    return -(picked_T * weights_T).sum(), weights_T.sum()


def chunks(histories: Histories, length: int, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut every history into sequences of at most `length` baskets, the first cut at random.

    Returns:
        Starts and ends of the sequences that hold a basket, int64 each.
    """
    starts, ends = [], []
    for first, last in zip(histories.basket_offsets[:-1].tolist(), histories.basket_offsets[1:].tolist(), strict=True):
        cuts = [first, *range(first + int(rng.integers(1, length + 1)), last, length), last]
        starts += [a for a, b in pairwise(cuts) if b > a]
        ends += [b for a, b in pairwise(cuts) if b > a]
    return np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the batch's tensors to `device`."""
    if device.type == "cpu":
        return batch
    looks = None if batch.looks is None else Looks(**_on(device, vars(batch.looks)))
    return Batch(items_n=batch.items_n, looks=looks, **_on(device, vars(batch)))


def _on(device: torch.device, values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
