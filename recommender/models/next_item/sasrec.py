"""SASRec: self-attention over a user's last items (Kang & McAuley, ICDM 2018), trained with the full softmax.

Binary cross entropy with sampled negatives, as published, is overconfident (Petrov & Macdonald, RecSys 2023). The exact
softmax over all items is what makes SASRec strong (Klenitskiy & Vasilev, RecSys 2023).
"""

from typing import Annotated, ClassVar

from recommender.engine.hyperparameters import Choices, Range
from recommender.models.next_item.causal import CausalConfig, CausalRanker
from recommender.models.next_item.fields import (
    Blocks,
    Dropout,
    Epochs,
    JudgedUsers,
    JudgeEvery,
    Rate,
    Smoothing,
    Timed,
    Tokens,
    Width,
)


class SASRecConfig(CausalConfig):
    """Hyperparameters of SASRec.

    The defaults are chosen by hand, not tuned. `rate` is the paper's. Search ranges are chosen by hand.
    """

    epochs: Epochs = 40
    rate: Rate = 0.001
    judge_every: JudgeEvery = 2
    judged_users: JudgedUsers = 4000
    dropout: Dropout = 0.3
    width: Annotated[Width, Choices(32, 64, 128)] = 64
    blocks: Annotated[Blocks, Range(1, 3)] = 2
    tokens: Annotated[Tokens, Range(512, 8192, log=True)] = 2048
    timed: Timed = False
    smoothing: Smoothing = 0.0

    @property
    def reads_times(self) -> bool:
        """Whether attention is biased by the time between events."""
        return self.timed

    @property
    def label_smoothing(self) -> float:
        """Share of a target's probability that is spread over all items."""
        return self.smoothing


class SASRec(CausalRanker[SASRecConfig]):
    """A causal transformer's log-odds."""

    name: ClassVar[str] = "sasrec"
    Config: ClassVar[type[SASRecConfig]] = SASRecConfig
