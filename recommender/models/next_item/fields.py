"""Types of hyperparameters that several next-item rankers share: bounds, meaning and, for some, search space.

A bound excludes only what has no meaning, such as a network without layers.

A ranker's configuration names a type and its own default, for example `rate: Rate = 0.001`.
"""

from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import AfterValidator, Field

from recommender.engine.hyperparameters import SET_BY_FIT, Range

RATES = Range(3e-4, 1e-2, log=True)
"""Learning rates searched in every network. Chosen by hand. It holds the defaults of all of them."""
DROPOUTS = Range(0.0, 0.6)
"""Dropout searched in every network. Chosen by hand. It holds the defaults of all of them."""

Rate = Annotated[float, RATES, Field(gt=0, description="Highest learning rate of AdamW, reached after the warm-up.")]
Dropout = Annotated[float, DROPOUTS, Field(ge=0, lt=1, description="Share of values set to zero in training.")]
Epochs = Annotated[
    int, Field(ge=1, description="Most passes over the training events. The learning rate falls to zero over them.")
]
MinSteps = Annotated[
    int | None,
    Field(
        ge=0,
        description="Fewest steps. If `epochs` gives fewer, there are more epochs, with as many judgements. None: "
        "1900, or 0 if `epochs` is set.",
    ),
]
WeightDecay = Annotated[float, Field(ge=0, description="Weight decay of AdamW.")]
Patience = Annotated[
    int, Field(ge=1, description="Judgements in a row without improvement after which training stops.")
]
JudgeEvery = Annotated[int, Field(ge=1, description="Epochs between two judgements by the held-out items.")]
JudgedUsers = Annotated[int, Field(ge=1, description="Most users whose held-out items a judgement ranks.")]
Accumulate = Annotated[
    int,
    Field(
        ge=1,
        description="Parts into which a batch is split to save memory. Their gradients add up to the batch's, up to "
        "rounding. But dropout, masks, sampled items and in-batch competitors are drawn per part.",
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    Field(
        description="Number format of the softmax's matrix products in training. auto: bf16 if the device supports it."
    ),
]
StopAt = Annotated[
    float | None,
    SET_BY_FIT,
    Field(gt=0, le=1, description="Set by an earlier fit: the share of all steps after which training stops."),
]
Width = Annotated[int, Field(ge=1, description="Embedding size D.")]
Heads = Annotated[int, Field(ge=1, description="Attention heads of each block. They must divide the width.")]
Blocks = Annotated[int, Field(ge=1, description="Blocks of attention and feed-forward.")]
Batch = Annotated[int, Field(ge=1, description="Rows of a batch.")]
Tokens = Annotated[int, Field(ge=1, description="Approximate number of targets in a batch.")]
Relative = Annotated[
    bool, Field(description="Whether attention is biased by distance. Otherwise each position has an embedding.")
]
Timed = Annotated[bool, Field(description="Whether attention is biased by the time between events.")]
Gated = Annotated[bool, Field(description="Whether a gate for each channel follows attention.")]
Attributes = Annotated[
    bool, Field(description="Whether an item's embedding includes the mean embedding of its attributes.")
]
Wide = Annotated[int, Field(ge=1, description="Width of the feed-forward layer as a multiple of the width.")]
Smoothing = Annotated[float, Field(ge=0, lt=1, description="Label smoothing of the softmax loss.")]
TorchCompile = Annotated[bool, Field(description="Whether torch.compile compiles the blocks for training.")]
NewUsers = Annotated[
    float, Field(ge=0, le=1, description="Share of training rows whose user is treated as unknown to the fit.")
]
HalfLife = Annotated[
    float,
    Range(0.2, 20.0, log=True),
    Field(ge=0, description="Events after which the weight of a user's event halves. 0: all events count the same."),
]
"""Its search range is chosen by hand: from only the last event that counts to twenty that count about alike."""


def _folder_or_new(cache: str) -> str:
    if cache and Path(cache).exists() and not Path(cache).is_dir():
        raise ValueError("must be a folder, and this is a file")
    return cache


Text = Annotated[
    bool | str,
    Field(
        description="Encoder of the items' texts: true is the packaged MiniLM, a folder holds another, false is none."
    ),
]
TextCache = Annotated[
    str,
    AfterValidator(_folder_or_new),
    Field(description="Folder that keeps text vectors from one fit to the next. Empty: none are kept."),
]


class HasHeads(Protocol):
    """A configuration of attention."""

    @property
    def width(self) -> int:
        """Embedding size."""

    @property
    def heads(self) -> int:
        """Attention heads."""


A = TypeVar("A", bound=HasHeads)


def require_heads_divide_width(config: A) -> A:
    """The configuration itself.

    Raises:
        ValueError: the heads do not divide the width; pydantic turns it into a message that names the ranker.
    """
    if config.width % config.heads:
        raise ValueError(f"heads must divide width (got width {config.width}, heads {config.heads})")
    return config
