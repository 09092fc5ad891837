"""The student: one small causal transformer that learns the rankings of the flagship, including its rules.

The flagship ranks the possible next items before some of the training events. There the loss draws the student's exact
softmax towards the flagship's list, and at every event towards the item that came next (`distillation`). Serving needs
one network, which can be rounded to int8 (`int8`) and exported as a standalone program (`export`).

Shapes: U users · V items, rows 1 … V · M targets.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Choices, Range
from recommender.engine.loop import Sum
from recommender.models.next_item.causal import CausalConfig, CausalEncoder, CausalRanker, Length
from recommender.models.next_item.distillation import TeacherLists, distillation_loss, teacher_lists
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
from recommender.models.next_item.int8 import Int8Embedding, round_linear_layers
from recommender.models.next_item.network import Size
from recommender.models.next_item.ranker import ItemRanker
from recommender.sequences import Sequences
from recommender.storage.manifest import digest


class StudentConfig(CausalConfig):
    """Hyperparameters of the student.

    The temperature was chosen by validation items of Amazon Beauty and ML-1M (docs/benchmarks.md), the others and the
    search ranges by hand.
    """

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
        0.9, ge=0, le=1, description="Weight of the teacher's list in a training target that has one."
    )
    temperature: float = Field(
        0.5, gt=0, description="Divisor of the teacher's log-odds. Below 1 the best items of a list count for more."
    )
    lists: int = Field(150_000, ge=1, description="Most training events for which the teacher ranks a list.")
    listed: int = Field(64, ge=1, description="Items of a list.")
    int8: bool = Field(False, description="Whether the weights are rounded to eight bits after training.")
    teacher: FusionConfig = Field(
        default_factory=FusionConfig,
        description="Hyperparameters of the teacher, a `fusion`. Without accumulate, precision or torch_compile here, "
        "the teacher uses the student's.",
    )

    @field_serializer("teacher")
    def _given(self, teacher: FusionConfig) -> dict[str, Any]:
        """The teacher's given hyperparameters. Its defaults must not override the student's values when read again."""
        return teacher.model_dump(mode="json", exclude_unset=True)

    def of_teacher(self) -> FusionConfig:
        """The teacher's hyperparameters, completed by the student's."""
        shared = self.model_dump(include={"accumulate", "precision", "torch_compile"} - self.teacher.model_fields_set)
        return self.teacher.model_copy(update=shared)


class StudentEncoder(CausalEncoder[StudentConfig]):
    """A causal encoder whose weights may be int8."""

    def __init__(self, size: Size, config: StudentConfig) -> None:
        super().__init__(size, config)
        if config.int8:
            self.round_weights()

    def round_weights(self) -> None:
        """Round the weights to eight bits. What attributes add to an item becomes part of the items' table."""
        table_VD = self.table()
        if self.attributes is not None:
            self.attributes = None
            del self.attribute_offsets, self.attributes_P
        self.items = Int8Embedding(table_VD)
        round_linear_layers(self)


class Student(CausalRanker[StudentConfig]):
    """A small causal transformer, taught by `fusion`."""

    name: ClassVar[str] = "student"
    Config: ClassVar[type[StudentConfig]] = StudentConfig
    network: ClassVar[type[StudentEncoder]] = StudentEncoder
    model: StudentEncoder

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: StudentConfig,
        context: FitContext,
    ) -> Self:
        """Fit a teacher, then a student of it. Otherwise as `ItemRanker.fit`."""
        return cls.fits(sequences, held_out_U=held_out_U, context=context)(config)

    @classmethod
    def fits(
        cls, sequences: Sequences, *, held_out_U: NDArray[np.int32] | None, context: FitContext
    ) -> Callable[[StudentConfig], Self]:
        """As `ItemRanker.fits`. Students that want the same lists of the same teacher share one."""
        known: dict[str, tuple[dict[str, Any], TeacherLists]] = {}

        def lesson(config: StudentConfig) -> tuple[dict[str, Any], TeacherLists]:
            own = config.of_teacher()
            given = own.model_dump(mode="json", exclude_unset=True)
            key = digest(given, config.lists, config.listed, config.temperature)
            if key not in known:
                apart = replace(context, checkpoints=context.checkpoints and context.checkpoints / "teacher")
                teacher = Fusion.fit(sequences, held_out_U=held_out_U, config=own, context=apart)
                known[key] = teacher.chosen(), _lists_for(config, teacher, sequences, context)
            return known[key]

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
        """A student of a teacher that was already fitted on the same sequences. Otherwise as `fit`."""
        lists = _lists_for(config, teacher, sequences, context)
        return cls._learned(teacher.chosen(), lists, sequences, held_out_U, config, context)

    @classmethod
    def _learned(
        cls,
        of_teacher: dict[str, Any],
        lists: TeacherLists,
        sequences: Sequences,
        held_out_U: NDArray[np.int32] | None,
        config: StudentConfig,
        context: FitContext,
    ) -> Self:
        """A student trained on these lists. `of_teacher` is what the teacher's fit chose."""
        # Training is in float32. The trained student is rounded afterwards.
        whole = cls.resolved(config, sequences).model_copy(update={"int8": False})

        def loss(
            model: StudentEncoder, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator
        ) -> Sum:
            return distillation_loss(model, sequences, batch, lists, softness=config.softness)

        made = cls._train(sequences, held_out_U, whole, context, loss)
        given = config.teacher.model_dump(mode="json", exclude_unset=True)
        made._chosen["teacher"] = {**given, **of_teacher}
        return made.in_int8() if config.int8 else made

    def in_int8(self) -> Self:
        """The same ranker, its weights rounded to eight bits."""
        model = deepcopy(self.model)
        model.round_weights()
        config = self.hyperparameters.model_copy(update={"int8": True})
        return type(self)(model, self._size, self.popularity_V, config, self._chosen)


def _lists_for(
    config: StudentConfig, teacher: ItemRanker[Any], sequences: Sequences, context: FitContext
) -> TeacherLists:
    return teacher_lists(
        teacher,
        sequences,
        lists=config.lists,
        listed=config.listed,
        temperature=config.temperature,
        seed=context.seed,
    )
