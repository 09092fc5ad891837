"""A causal transformer over packed sequences of items, trained with the full softmax at every position.

Pre-norm blocks as in SASRec (Kang & McAuley, ICDM 2018), with the choices that the flagship adds: attention biased by distance
(Raffel et al., JMLR 2020) instead of absolute places, and by the time between two events where there are times; an output gate per
channel (in the spirit of HSTU, Zhai et al., ICML 2024); items that are the sum of an embedding of their own and the mean of their
attributes'. One embedding table serves input and output.

Shapes: T tokens · B sequences of a group · L length of a group's longest · D width · H heads · V items, row 0 is no
item · M targets · S windows · U users · K classes of distance or gap · X width of queries, keys and values together.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.compiler import require_compiler
from recommender.engine.loop import Sum
from recommender.engine.softmax import linear_cross_entropy
from recommender.errors import BundleError
from recommender.models.next_item.attributes import AttributeMeans
from recommender.models.next_item.fields import (
    Attributes,
    Blocks,
    Gated,
    Heads,
    Relative,
    Tokens,
    TorchCompile,
    Wide,
    Width,
    require_heads_divide_width,
)
from recommender.models.next_item.int8 import Int8Embedding
from recommender.models.next_item.network import NeuralConfig, Size
from recommender.models.next_item.neural import NeuralRanker
from recommender.models.next_item.packing import (
    GAPS,
    Group,
    Packed,
    batches_by_tokens,
    laid_out,
    last_windows,
    pack,
    windows,
)
from recommender.sequences import Sequences
from recommender.sequences.ranks import USERS_A_BATCH

BUCKETS, EXACT = 64, 32
"""Distances below EXACT have a bucket each; longer ones share by their logarithm."""


class _Looked(torch.autograd.Function):
    """table_HK[:, classes_BLL] as [B, H, L, L]; as `embedding`, whose gradient costs ten times as much for so few classes."""

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
    """table_HK[:, classes]: of [L, L] as [H, L, L], of [B, L, L] as [B, H, L, L]."""
    if classes.device.type != "cpu":
        return _embedded(table_HK, classes)
    looked: Tensor = table_HK[:, classes] if classes.dim() == 2 else _Looked.apply(table_HK, classes)  # type: ignore[no-untyped-call]
    return looked


def _embedded(table_HK: Tensor, classes: Tensor) -> Tensor:
    """As a GPU does it: indexing adds up the gradient of one class one by one there, and counting waits for the device; `embedding` sorts."""
    return functional.embedding(classes, table_HK.T).movedim(-1, -3)


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
        qkv_TX, width = self.project(x_TD), x_TD.shape[1]
        qkv_TX, gate_TD = torch.split(qkv_TX, [3 * width, width], dim=1) if self.gated else (qkv_TX, None)
        mixed_TD = torch.cat([self._attend(*both) for both in zip(laid_out(qkv_TX, groups), groups, strict=True)])
        return self.join(x_TD, mixed_TD, gate_TD)

    def project(self, x_TD: Tensor) -> Tensor:
        """What attention reads, and the gate: [T, 3 D or 4 D]."""
        qkv_TX: Tensor = self.qkv(self.norm_attention(x_TD))
        return qkv_TX

    def join(self, x_TD: Tensor, mixed_TD: Tensor, gate_TD: Tensor | None) -> Tensor:
        """What attention found, and the feed-forward, added to the states."""
        if gate_TD is not None:
            mixed_TD = mixed_TD * torch.sigmoid(gate_TD)
        x_TD = x_TD + self._drop(self.out(mixed_TD))
        return x_TD + self._drop(self.narrow(self._drop(functional.gelu(self.wide(self.norm_forward(x_TD))))))

    def _attend(self, qkv_BLX: Tensor, group: Group) -> Tensor:
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
        """What is added before the softmax: [H, L, L] by distance, [B, H, L, L] by time too; None: nothing."""
        bias = None
        if self.distance_HK is not None:
            bias = looked_up(self.distance_HK, distances(length, group.real.device))
        if self.gap_HK is None or group.gaps_BLL is None:
            return bias
        timed_BHLL = looked_up(self.gap_HK, group.gaps_BLL)
        return timed_BHLL if bias is None else timed_BHLL + bias

    def _drop(self, x: Tensor) -> Tensor:
        return drop(x, self.dropout) if self.training else x


def drop(x: Tensor, share: float) -> Tensor:
    """Dropout; on a CPU by 16 random bits a number, cheaper than `functional.dropout`: shares are rounded to 1 / 65,536."""
    dropped = round(share * (1 << 16))
    if x.device.type != "cpu" or not 0 < dropped < 1 << 16 or torch.compiler.is_compiling():
        return functional.dropout(x, share)
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None).view(torch.int16)
    kept = bits[: x.numel()].view(x.shape) >= dropped - (1 << 15)
    return x * kept.to(x.dtype).mul_((1 << 16) / ((1 << 16) - dropped))


def distances(length: int, device: torch.device) -> Tensor:
    """Bucket of the distance from each place back to each other: int64 [L, L]; the future has bucket 0 and is masked."""
    place = torch.arange(length, device=device)
    far = (place[:, None] - place[None, :]).clamp(min=0)
    log = EXACT + (torch.log(far.float().clamp(min=1) / EXACT) / math.log(8) * (BUCKETS - EXACT - 1)).long()
    return torch.where(far < EXACT, far, log.clamp(max=BUCKETS - 1))


Length = Annotated[
    int, Field(ge=2, description="Last items that are read. They are inputs and targets at once, so at least 2.")
]


class CausalConfig(NeuralConfig):
    """Hyperparameters of a causal transformer: by default a plain one, as in SASRec."""

    width: Width = 64
    blocks: Blocks = 2
    heads: Heads = 2
    length: Length = 200
    tokens: Tokens = 2048
    relative: Relative = False
    gated: Gated = False
    attributes: Attributes = False
    wide: Wide = 1
    torch_compile: TorchCompile = False

    _heads = model_validator(mode="after")(require_heads_divide_width)

    @property
    def reads_times(self) -> bool:
        """Whether attention is biased by the time between events."""
        return False

    @property
    def label_smoothing(self) -> float:
        """Share of a target's probability that is spread over all items."""
        return 0.0


K = TypeVar("K", bound=CausalConfig)


class CausalEncoder(AttributeMeans[K]):
    """Items so far -> a state whose product with an item's vector is that item's log-odds of being next."""

    def __init__(self, size: Size, config: K) -> None:
        super().__init__(size, config)
        width = config.width
        self.length, self.dropout, self.tokens = config.length, config.dropout, config.tokens
        self.smoothing, self.timed, self.torch_compile = (
            config.label_smoothing,
            config.reads_times,
            config.torch_compile,
        )
        self.items: nn.Embedding | Int8Embedding = nn.Embedding(size.items + 1, width)
        self.places = None if config.relative else nn.Parameter(torch.empty(self.length, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(
            Block(
                width,
                config.heads,
                self.dropout,
                relative=config.relative,
                timed=self.timed,
                gated=config.gated,
                wide=config.wide,
            )
            for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.items.weight, std=0.02)
        self.attributes = nn.Embedding(size.attributes, width) if size.attributes and config.attributes else None
        if self.attributes is not None:
            nn.init.normal_(self.attributes.weight, std=0.02)
            self.hold_attributes(size)

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Windows of events, each a start and a length, in batches of about `tokens` targets: int64 [S, 2] each."""
        starts, lengths = windows(sequences, self.length, rng)
        both = np.stack([starts, lengths], axis=1)
        return [both[some] for some in batches_by_tokens(lengths, self.tokens, rng)]

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Attention's groups have another shape at each step, so what is compiled is what blocks do to all tokens alike.

        Raises:
            SettingsError: there is no compiler.
        """
        if not self.torch_compile:
            yield
            return
        require_compiler("torch_compile=true", self.device.type)
        for block in self.blocks:
            for name in ("project", "join"):
                setattr(block, name, torch.compile(getattr(block, name), dynamic=True))
        try:
            yield
        finally:
            for block in self.blocks:
                del block.project, block.join

    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """Cross entropy of every next item in the windows, summed, and how many targets there are."""
        states_MD, table_VD, events_M = self.states(sequences, batch)
        targets_M = torch.from_numpy(sequences.items_T[events_M].astype(np.int64)).to(self.device)
        loss = linear_cross_entropy(states_MD, table_VD, targets_M, first=1, smoothing=self.smoothing, half=self.bf16)
        return Sum(loss, float(len(targets_M)))

    def states(self, sequences: Sequences, batch: NDArray[np.int64]) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        """States before each target of the windows, [M, D], the items' table, [V + 1, D], and which events the targets are, [M]."""
        packed = pack(batch[:, 0], batch[:, 1] - 1, self._times(sequences)).to(self.device)
        with self.products():
            table_VD = self.table()
            states_MD = self(items_of(packed, sequences.items_T), packed.places_T, packed.groups, table_VD)
        return states_MD.to(table_VD.dtype), table_VD, packed.events_T + 1

    def encode(self, sequences: Sequences, table_VD: Tensor) -> Tensor:
        """Each user's state after the last event: [U, D]; every user has one."""
        packed = pack(*last_windows(sequences, self.length), self._times(sequences)).to(self.device)
        states_TD = self(items_of(packed, sequences.items_T), packed.places_T, packed.groups, table_VD)
        last_UD: Tensor = states_TD[packed.last]
        return last_UD

    def _times(self, sequences: Sequences) -> NDArray[np.int64] | None:
        if not self.timed:
            return None
        if sequences.times_T is None:
            raise BundleError(
                "the ranker was fitted on events with times, and these have none: give a timestamp, or fit with timed=false."
            )
        return sequences.times_T

    def scores(self, sequences: Sequences) -> Tensor:
        table_VD = self.table()
        scores_UV: Tensor = self.encode(sequences, table_VD) @ table_VD.T
        return scores_UV

    def table(self) -> Tensor:
        """Vectors of all items: [V + 1, D]."""
        return self.with_attributes(self.items.weight)

    def forward(self, items_T: Tensor, places_T: Tensor, groups: tuple[Group, ...], table_VD: Tensor) -> Tensor:
        """States after each token: [T, D]; `places_T`: its place within its window."""
        x_TD = functional.embedding(items_T, table_VD) * math.sqrt(table_VD.shape[1])
        if self.places is not None:
            x_TD = x_TD + self.places[places_T]
        x_TD = drop(x_TD, self.dropout) if self.training else x_TD
        for block in self.blocks:
            x_TD = block(x_TD, groups)
        out: Tensor = self.norm(x_TD)
        return out


def items_of(packed: Packed, items_T: NDArray[np.int32]) -> Tensor:
    """The packed tokens' items: int64 [T]."""
    return torch.from_numpy(items_T[packed.events_T].astype(np.int64)).to(packed.places_T.device)


class CausalRanker(NeuralRanker[K]):
    """A ranker by one causal transformer, whose item and user vectors multiply to its scores."""

    network: ClassVar[type[CausalEncoder[Any]]] = CausalEncoder
    model: CausalEncoder[K]

    @torch.inference_mode()
    def item_vectors(self) -> NDArray[np.float32]:
        """As `ItemRanker.item_vectors`."""
        return np.asarray(self.model.table().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        """As `ItemRanker.user_vectors`; zeros for a user without events."""
        self.require_known(sequences)
        table_VD = self.model.table()
        out_UD = np.zeros((sequences.num_users, table_VD.shape[1]), dtype=np.float32)
        users = np.flatnonzero(sequences.lengths_U > 0)
        for first in range(0, len(users), USERS_A_BATCH):
            some = users[first : first + USERS_A_BATCH]
            out_UD[some] = self.model.encode(sequences.take(some), table_VD).numpy()
        return out_UD
