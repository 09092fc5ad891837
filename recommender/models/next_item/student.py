"""The student: one small causal transformer that learns from the flagship what the flagship knows, rules included.

Knowledge distillation (Hinton et al., 2015) from ranked lists (Tang & Wang, KDD 2018): at some places of the training sequences the
teacher says which items could be next; there the student's exact softmax is drawn towards the teacher's K best, everywhere to the item
that came. What it costs to serve is one network, which can be rounded to int8 and exported.

    cross entropy to a soft list p = cross entropy to the item t + (score of t - sum of p_k x score of k)

so that the softmax over all items stays the one of `training.softmax`, in its memory.

Shapes: U users · T events · V items, rows 1 … V · M targets · D width · P places with a list · K items of a list.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_serializer
from torch.nn import functional

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Choices, Range
from recommender.engine.loop import Sum, seed_of
from recommender.engine.softmax import linear_cross_entropy
from recommender.models.next_item.causal import CausalConfig, CausalEncoder, CausalRanker, Length
from recommender.models.next_item.fields import (
    Attributes,
    Blocks,
    Dropout,
    Epochs,
    Gated,
    Heads,
    JudgedUsers,
    JudgeEvery,
    Rate,
    Relative,
    Width,
)
from recommender.models.next_item.fusion import Fusion, FusionConfig
from recommender.models.next_item.gate import LEAST, no_candidate
from recommender.models.next_item.habit import has_habits
from recommender.models.next_item.histories import targets, users_of
from recommender.models.next_item.int8 import Int8Embedding, round_linear_layers
from recommender.models.next_item.network import Size
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import Sequences
from recommender.storage.manifest import digest

CELLS_AT_ONCE = 1 << 24
E = TypeVar("E", bound=CausalEncoder[Any])


class StudentConfig(CausalConfig):
    """Hyperparameters of the student."""

    epochs: Epochs = 30
    rate: Rate = 0.002
    judge_every: JudgeEvery = 2
    judged_users: JudgedUsers = 4000
    dropout: Dropout = 0.1
    width: Annotated[Width, Choices(16, 32, 64)] = 32
    blocks: Blocks = 1
    heads: Heads = 1
    length: Length = 100
    relative: Relative = True
    gated: Gated = True
    attributes: Attributes = True
    softness: Annotated[float, Range(0.0, 1.0)] = Field(
        0.9, ge=0, le=1, description="Share of a target that is the teacher's list, where the teacher gave one."
    )
    temperature: float = Field(
        0.5,
        gt=0,
        description="Divisor of the teacher's log-odds. Below 1 the best items of a list count for more.",
    )
    lists: int = Field(150_000, ge=1, description="Most events before which the teacher is asked for a list.")
    listed: int = Field(64, ge=1, description="Items of a list.")
    int8: bool = Field(False, description="Whether the weights are rounded to eight bits after training.")
    teacher: FusionConfig = Field(
        default_factory=FusionConfig,
        description="Hyperparameters of the `fusion` that teaches. Without their own accumulate, precision and torch_compile it "
        "has the student's.",
    )

    @field_serializer("teacher")
    def _given(self, teacher: FusionConfig) -> dict[str, Any]:
        """What was given of the teacher: the rest must not override the student's own values when it is read again."""
        return teacher.model_dump(mode="json", exclude_unset=True)

    def of_teacher(self) -> FusionConfig:
        """The teacher's hyperparameters, completed by the student's own."""
        shared = self.model_dump(include={"accumulate", "precision", "torch_compile"} - self.teacher.model_fields_set)
        return self.teacher.model_copy(update=shared)


@dataclass(frozen=True, eq=False)
class Lists:
    """What the teacher said."""

    place_T: NDArray[np.int64]
    """[T]: the list of each training event, -1 where the teacher was not asked."""
    items_PK: NDArray[np.int32]
    shares_PK: NDArray[np.float32]
    """Probabilities of the items, they sum to 1."""


class StudentEncoder(CausalEncoder[StudentConfig]):
    """A causal encoder that can be laid out for weights in int8."""

    def __init__(self, size: Size, config: StudentConfig) -> None:
        super().__init__(size, config)
        if config.int8:
            rounded(self)


class Student(CausalRanker[StudentConfig]):
    """A small causal transformer, taught by `fusion`."""

    name: ClassVar[str] = "student"
    Config: ClassVar[type[StudentConfig]] = StudentConfig
    network: ClassVar[type[StudentEncoder]] = StudentEncoder

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: StudentConfig,
        context: FitContext,
    ) -> Self:
        return cls.fits(sequences, held_out_U=held_out_U, context=context)(config)

    @classmethod
    def fits(
        cls, sequences: Sequences, *, held_out_U: NDArray[np.int32] | None, context: FitContext
    ) -> Callable[[StudentConfig], Self]:
        """As of every ranker; the teacher is fitted and asked once for all students that want the same of it."""
        taught: dict[str, tuple[dict[str, Any], Lists]] = {}

        def lesson(config: StudentConfig) -> tuple[dict[str, Any], Lists]:
            own = config.of_teacher()
            given = own.model_dump(mode="json", exclude_unset=True)
            key = digest(given, config.lists, config.listed, config.temperature)
            if key not in taught:
                apart = replace(context, checkpoints=context.checkpoints and context.checkpoints / "teacher")
                teacher = Fusion.fit(sequences, held_out_U=held_out_U, config=own, context=apart)
                taught[key] = teacher.chosen(), ask(teacher, sequences, config, seed=context.seed)
            return taught[key]

        return lambda config: cls._learned(*lesson(config), sequences, held_out_U, config, context)

    @classmethod
    def taught(
        cls,
        teacher: ItemRanker[Any],
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: StudentConfig,
        context: FitContext,
    ) -> Self:
        """A student of a teacher that is there already, fitted on the same sequences. Otherwise as `fit`."""
        lists = ask(teacher, sequences, config, seed=context.seed)
        return cls._learned(teacher.chosen(), lists, sequences, held_out_U, config, context)

    @classmethod
    def _learned(
        cls,
        chosen: dict[str, Any],
        lists: Lists,
        sequences: Sequences,
        held_out_U: NDArray[np.int32] | None,
        config: StudentConfig,
        context: FitContext,
    ) -> Self:
        """A student of the `lists` of a teacher who had `chosen` so."""
        whole = cls.resolved(config, sequences).model_copy(update={"int8": False})

        def loss(
            model: StudentEncoder, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator
        ) -> Sum:
            return softened(model, sequences, batch, lists, config.softness)

        made = cls._train(sequences, held_out_U, whole, context, loss)
        made._chosen["teacher"] = {**config.teacher.model_dump(mode="json", exclude_unset=True), **chosen}
        return made.in_int8() if config.int8 else made

    def in_int8(self) -> Self:
        """The same ranker, its weights rounded to eight bits; what attributes add to an item is folded into the table."""
        config = self.hyperparameters.model_copy(update={"int8": True})
        return type(self)(rounded(deepcopy(self.model)), self._size, self.popularity_V, config, self._chosen)


def ask(teacher: ItemRanker[Any], sequences: Sequences, config: StudentConfig, *, seed: int) -> Lists:
    """The teacher's lists before at most `config.lists` of the events that have a history, drawn at random. What a user had is in a
    list only where users come back."""
    events = targets(sequences)
    if len(events) > config.lists:
        rng = np.random.default_rng(seed_of(seed, "lists", 0))
        events = np.sort(rng.choice(events, config.lists, replace=False))
    listed, repeats = min(config.listed, sequences.items.num), has_habits(sequences)
    place_T = np.full(len(sequences.items_T), -1, dtype=np.int64)
    place_T[events] = np.arange(len(events))
    items_PK = np.empty((len(events), listed), dtype=np.int32)
    shares_PK = np.empty((len(events), listed), dtype=np.float32)
    users = max(CELLS_AT_ONCE // (sequences.items.num + 1), 16)
    for first in range(0, len(events), users):
        some = slice(first, min(first + users, len(events)))
        before = histories(sequences, events[some])
        scores_UV = teacher.score(before)
        scores_UV[no_candidate(before, repeats=repeats)] = LEAST
        best_UK, items_UK = torch.from_numpy(scores_UV).topk(listed, dim=1)
        items_PK[some], shares_PK[some] = items_UK.numpy(), (best_UK / config.temperature).softmax(dim=1).numpy()
    return Lists(place_T, items_PK, shares_PK)


def histories(sequences: Sequences, events_P: NDArray[np.int64]) -> Sequences:
    """What came before each event, as P users that nobody knows."""
    starts_P = sequences.offsets[users_of(sequences, events_P)]
    offsets = np.concatenate([[0], np.cumsum(events_P - starts_P)]).astype(np.int64)
    places = np.arange(int(offsets[-1])) + np.repeat(starts_P - offsets[:-1], events_P - starts_P)
    times_T = None if sequences.times_T is None else sequences.times_T[places]
    return Sequences(sequences.items, offsets, sequences.items_T[places], times_T)


def softened(
    model: StudentEncoder, sequences: Sequences, batch: NDArray[np.int64], lists: Lists, softness: float
) -> Sum:
    """Cross entropy to `softness` x the teacher's list + the rest x the item that came; to that item alone where there is no list."""
    states_MD, table_VD, events_M = model.states(sequences, batch)
    targets_M = torch.from_numpy(sequences.items_T[events_M].astype(np.int64)).to(model.device)
    loss = linear_cross_entropy(states_MD, table_VD, targets_M, first=1, half=model.bf16)
    place_M = lists.place_T[events_M]
    asked = np.flatnonzero(place_M >= 0)
    if len(asked):
        items_MK = torch.from_numpy(lists.items_PK[place_M[asked]].astype(np.int64)).to(model.device)
        shares_MK = torch.from_numpy(lists.shares_PK[place_M[asked]]).to(model.device)
        where = torch.from_numpy(asked).to(model.device)
        wanted_MD = functional.embedding(items_MK, table_VD).mul(shares_MK[:, :, None]).sum(dim=1)
        drawn_M = states_MD[where] * (functional.embedding(targets_M[where], table_VD) - wanted_MD)
        loss = loss + softness * drawn_M.sum()
    return Sum(loss, float(len(targets_M)))


def rounded(model: E) -> E:
    """`model` itself, its weights in int8."""
    table_VD = model.table()
    if model.attributes is not None:
        model.attributes = None
        del model.attribute_offsets, model.attributes_P
    model.items = Int8Embedding(table_VD)
    round_linear_layers(model)
    return model
