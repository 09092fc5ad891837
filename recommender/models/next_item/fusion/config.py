"""Hyperparameters of the flagship, and how those that are not given follow from the data."""

import math
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from recommender.engine.hyperparameters import SET_BY_FIT, Choices, Hyperparameters, Range
from recommender.models.next_item.causal import Length
from recommender.models.next_item.fields import (
    DROPOUTS,
    RATES,
    Accumulate,
    Attributes,
    Blocks,
    Gated,
    Heads,
    JudgedUsers,
    Patience,
    Precision,
    Relative,
    Smoothing,
    Text,
    TextCache,
    Timed,
    TorchCompile,
    WeightDecay,
    Wide,
    Width,
    require_heads_divide_width,
)
from recommender.models.next_item.fusion.gate import GateState
from recommender.models.next_item.fusion.habit import has_habits
from recommender.models.next_item.neural import MIN_STEPS
from recommender.models.next_item.sasrec import SASRecConfig
from recommender.sequences import Sequences

EPOCHS = 30
"""Epochs where none are given, chosen by hand. On few events there are more, enough for `MIN_STEPS` steps."""
DROPOUT_MOST, DROPOUT_LEAST = 0.5, 0.2
"""Dropout for few and for many events an item. Chosen by hand."""
FEW_EVENTS, MANY_EVENTS = 20, 300
"""Dropout falls from the most at FEW_EVENTS an item to the least at MANY_EVENTS, evenly in the logarithm. Chosen by
hand; Amazon Beauty lies near the one end, ML-1M near the other."""
BATCHES_AN_EPOCH = 64
"""A batch is a 64th of the events, so that an epoch has about as many steps on any set. Chosen by hand."""
TOKENS_LEAST, TOKENS_MOST = 1024, 4096
"""Bounds of a batch's size: smaller ones are slow, and larger ones make few steps. Chosen by hand."""
RATE = 0.001
"""Learning rate of a batch of TOKENS_LEAST, that of the SASRec paper. It grows with the root of the batch, as the
gradient's noise falls with it."""
JUDGEMENTS = 15
"""Judgements of a fit, about, where `judge_every` is not given. Chosen by hand: each costs a ranking of
`judged_users`."""


class FusionConfig(Hyperparameters):
    """Hyperparameters of the flagship. What is None is taken from the number of events. `resolved` says how.

    The other defaults are chosen by hand. docs/benchmarks.md measures some: width and attributes help on Amazon Beauty,
    the bias by distance and the gate on ML-1M, and label smoothing adds nothing to the flagship. Search ranges are
    chosen by hand.
    """

    members: int = Field(
        3, ge=0, description="Most transformers, whose mean is one expert. `budget_tflop` may allow fewer. 0: none."
    )
    budget_tflop: float = Field(
        110.0,
        gt=0,
        description="Most matrix work of all transformers in training, in 10^12 operations: members and then epochs "
        "are lowered to fit. 110 take at most 80 minutes of one core.",
    )
    epochs: Annotated[int | None, Field(ge=1)] = Field(
        None, description="Most passes over the training events. None: 30, or with few events enough for 1900 steps."
    )
    rate: Annotated[float | None, RATES, Field(gt=0)] = Field(
        None,
        description="Highest learning rate of AdamW. None: 0.001 for batches of 1024, growing with their square root.",
    )
    dropout: Annotated[float | None, DROPOUTS, Field(ge=0, lt=1)] = Field(
        None,
        description="Share of values set to zero in training. None: from 0.5 (20 events an item, or fewer) to 0.2 (300 "
        "and more).",
    )
    judge_every: Annotated[int | None, Field(ge=1)] = Field(
        None,
        description="Epochs between two judgements by the held-out items. None: a 15th of all epochs, at least 2.",
    )
    judged_users: JudgedUsers = 4000
    width: Annotated[Width, Choices(64, 128, 256)] = 128
    blocks: Annotated[Blocks, Range(1, 3)] = 2
    tokens: Annotated[int | None, Range(512, 8192, log=True), Field(ge=1)] = Field(
        None, description="Approximate number of targets in a batch. None: a 64th of the events, from 1024 to 4096."
    )
    heads: Heads = 2
    length: Length = 200
    relative: Relative = True
    timed: Annotated[
        Timed,
        Field(description="Whether attention is biased by the time between events, if they have real timestamps."),
    ] = True
    gated: Gated = True
    attributes: Attributes = True
    wide: Wide = 1
    weight_decay: WeightDecay = 0.0
    smoothing: Smoothing = 0.0
    patience: Patience = 5
    accumulate: Accumulate = 1
    precision: Precision = "auto"
    torch_compile: TorchCompile = False
    rules: bool = Field(True, description="Whether rules on which items follow the very last items are an expert.")
    broad: bool = Field(True, description="Whether the ranker `rules` with its own defaults is an expert.")
    latent: bool = Field(True, description="Whether latent factors (`als`) are an expert.")
    content: bool = Field(
        True, description="Whether similarity of attributes (`content`) is an expert, if items have attributes."
    )
    habit: bool | None = Field(
        None,
        description="Whether a user's earlier items are an expert. None: if users return to items (`has_habits`).",
    )
    trend: bool = Field(True, description="Whether current popularity is an expert, if events have real timestamps.")
    popularity: bool = Field(True, description="Whether popularity over all time is an expert.")
    text: Text = True
    text_cache: TextCache = ""
    stop_at: Annotated[
        Annotated[tuple[Annotated[float, Field(gt=0, le=1)] | None, ...], Field(strict=False)] | None, SET_BY_FIT
    ] = Field(None, description="Set by an earlier fit: the share of all steps after which each transformer stops.")
    mix: Annotated[GateState | None, SET_BY_FIT] = Field(
        None, description="Set by an earlier fit: the gate, which weights the experts."
    )

    _heads = model_validator(mode="after")(require_heads_divide_width)

    def member(self, number: int) -> SASRecConfig:
        """Hyperparameters of the transformer `number`. The configuration must be resolved."""
        own = self.model_dump(include=MEMBER_FIELDS)
        return SASRecConfig.model_validate({**own, "stop_at": None if self.stop_at is None else self.stop_at[number]})

    def resolved(self, sequences: Sequences) -> "FusionConfig":
        """Fill in what is None from the number of events and items, and keep the work within `budget_tflop`.

        There is at least one transformer and one epoch, but no transformer where no user has two events or none is
        asked for.
        """
        events = len(sequences.items_T)
        tokens = self.tokens
        if tokens is None:
            tokens = int(np.clip(events / BATCHES_AN_EPOCH, TOKENS_LEAST, TOKENS_MOST))
        epochs = self.epochs or max(EPOCHS, math.ceil(MIN_STEPS / max(events / tokens, 1)))
        members, afforded = self._within_budget(sequences, epochs)
        found: dict[str, Any] = {
            "dropout": _dropout(events, sequences.items.num) if self.dropout is None else self.dropout,
            "tokens": tokens,
            "rate": self.rate or round(RATE * float(np.sqrt(tokens / TOKENS_LEAST)), 6),
            "judge_every": self.judge_every or max(2, math.ceil(epochs / JUDGEMENTS)),
            "members": members,
            "epochs": afforded,
            "habit": has_habits(sequences) if self.habit is None else self.habit,
            "timed": self.timed and sequences.has_clock,
            "trend": self.trend and sequences.has_clock,
        }
        return self.model_copy(update=found)

    def _within_budget(self, sequences: Sequences, epochs: int) -> tuple[int, int]:
        """Transformers and epochs that the budget pays for."""
        if sequences.lengths_U.max(initial=0) < 2 or not self.members:
            return 0, epochs
        if self.stop_at is not None:
            # An earlier fit chose, and its gate was fitted with so many transformers.
            return len(self.stop_at), epochs
        # Six operations a weight and target: two in the forward pass, four in the backward pass. Of a block, 8 width x
        # width stand for attention (5 matrices and, roughly, the products of queries, keys and values), 2 x wide for
        # feed-forward.
        softmax = 6 * self.width * sequences.items.num
        blocks = 6 * self.blocks * self.width * (8 + 2 * self.wide) * self.width
        affordable = self.budget_tflop * 1e12 / max((softmax + blocks) * len(sequences.items_T), 1)
        members = int(np.clip(affordable // epochs, 1, self.members))
        return members, int(np.clip(affordable // members, 1, epochs))


def _dropout(events: int, num_items: int) -> float:
    an_item = max(events, 1) / max(num_items, 1)
    share = np.clip(np.log(an_item / FEW_EVENTS) / np.log(MANY_EVENTS / FEW_EVENTS), 0, 1)
    # Three decimals, so that the hyperparameters in a bundle can be read.
    return round(float(DROPOUT_MOST - (DROPOUT_MOST - DROPOUT_LEAST) * share), 3)


MEMBER_FIELDS = set(SASRecConfig.model_fields) & set(FusionConfig.model_fields) - {"stop_at"}
"""Hyperparameters that the flagship hands to its transformers."""
