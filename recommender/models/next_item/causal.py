"""A causal transformer over packed sequences of items, trained with the full softmax at every position.

One embedding table serves input and output. An item's vector is its own embedding plus, if configured, the mean
embedding of its attributes.

Shapes: T tokens · D width · V items, row 0 is padding · M targets · S windows · U users.
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
from recommender.models.next_item.attention import Block, drop
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
from recommender.models.next_item.network import BERT_DEVIATION, NeuralConfig, Size
from recommender.models.next_item.neural import NeuralRanker
from recommender.models.next_item.packing import Group, Packed, batches_by_tokens, last_windows, pack, windows
from recommender.sequences import Sequences
from recommender.sequences.ranks import USERS_A_BATCH

Length = Annotated[
    int, Field(ge=2, description="Last items that are read. They are inputs and targets at once, so at least 2.")
]


class CausalConfig(NeuralConfig):
    """Hyperparameters of a causal transformer: by default a plain one, as in SASRec.

    Two blocks, a feed-forward layer as wide as the states and a length of 200 (ML-1M) are the paper's; the other
    defaults are chosen by hand, not tuned.
    """

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
        self.places: nn.Parameter | None = None
        if not config.relative:
            self.places = nn.Parameter(torch.empty(self.length, width).normal_(std=BERT_DEVIATION))
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
        nn.init.normal_(self.items.weight, std=BERT_DEVIATION)
        self.attributes = nn.Embedding(size.attributes, width) if size.attributes and config.attributes else None
        if self.attributes is not None:
            nn.init.normal_(self.attributes.weight, std=BERT_DEVIATION)
            self.hold_attributes(size)

    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Windows of events, each a start and a length, in batches of about `tokens` targets: int64 [S, 2] each."""
        starts, lengths = windows(sequences, self.length, rng)
        both = np.stack([starts, lengths], axis=1)
        return [both[rows] for rows in batches_by_tokens(lengths, self.tokens, rng)]

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """A context in which `torch.compile` compiles the per-token parts of the blocks, if configured.

        Attention itself is left out, as its groups have other shapes at each step.

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
        """Cross entropy of every next item in the windows, summed, and the number of targets."""
        states_MD, table_VD, events_M = self.states(sequences, batch)
        targets_M = torch.from_numpy(sequences.items_T[events_M].astype(np.int64)).to(self.device)
        loss = linear_cross_entropy(
            states_MD, table_VD, targets_M, first=1, smoothing=self.smoothing, bfloat16=self.bf16
        )
        return Sum(loss, float(len(targets_M)))

    def states(self, sequences: Sequences, batch: NDArray[np.int64]) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        """States before each target, [M, D], the items' table, [V + 1, D], and the events that are targets, [M]."""
        packed = pack(batch[:, 0], batch[:, 1] - 1, self._times(sequences)).to(self.device)
        with self.products():
            table_VD = self.table()
            states_MD = self(items_of(packed, sequences.items_T), packed.places_T, packed.groups, table_VD)
        return states_MD.to(table_VD.dtype), table_VD, packed.events_T + 1

    def encode(self, sequences: Sequences, table_VD: Tensor) -> Tensor:
        """Each user's state after the last event: [U, D]. Every user has an event."""
        packed = pack(*last_windows(sequences, self.length), self._times(sequences)).to(self.device)
        states_TD = self(items_of(packed, sequences.items_T), packed.places_T, packed.groups, table_VD)
        last_UD: Tensor = states_TD[packed.last]
        return last_UD

    def _times(self, sequences: Sequences) -> NDArray[np.int64] | None:
        if not self.timed:
            return None
        if sequences.times_T is None:
            raise BundleError(
                "the ranker was fitted on events with times, and these events have none. Give a timestamp, or fit with "
                "timed=false."
            )
        return sequences.times_T

    def scores(self, sequences: Sequences) -> Tensor:
        """As `Network.scores`."""
        table_VD = self.table()
        scores_UV: Tensor = self.encode(sequences, table_VD) @ table_VD.T
        return scores_UV

    def table(self) -> Tensor:
        """Vectors of all items: [V + 1, D]."""
        return self.with_attributes(self.items.weight)

    def forward(self, items_T: Tensor, places_T: Tensor, groups: tuple[Group, ...], table_VD: Tensor) -> Tensor:
        """States after each token, [T, D]. `places_T` is a token's place within its window."""
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

    encodes_order: ClassVar[bool] = True
    network: ClassVar[type[CausalEncoder[Any]]] = CausalEncoder
    model: CausalEncoder[K]

    @torch.inference_mode()
    def item_vectors(self) -> NDArray[np.float32]:
        """As `ItemRanker.item_vectors`."""
        return np.asarray(self.model.table().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        """As `ItemRanker.user_vectors`, with zeros for a user without events."""
        self.require_known(sequences)
        table_VD = self.model.table()
        out_UD = np.zeros((sequences.num_users, table_VD.shape[1]), dtype=np.float32)
        users = np.flatnonzero(sequences.lengths_U > 0)
        for first in range(0, len(users), USERS_A_BATCH):
            batch = users[first : first + USERS_A_BATCH]
            out_UD[batch] = self.model.encode(sequences.take(batch), table_VD).numpy()
        return out_UD
