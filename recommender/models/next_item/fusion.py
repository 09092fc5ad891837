"""The flagship: causal transformers and sequential rules, fused by weights that depend on the user.

Each expert says how probable every item is: some transformers (`causal`: attention biased by distance, gated, items with their
attributes; their mean is one expert), rules of what follows the last items and of what stands near any of them (`rules`, twice), latent
factors (`als`), where there is a clock what everybody takes at the moment (`trend`), where users come back to what they had their habits
(`habit`), likeness of attributes (`content`), and popularity. The score is a product of experts (Hinton, 2002), weighted by a function of what is known of
the user: how many items, how common the last one, how sure each expert is (`gate`). The weights are fitted on the held-out items;
nothing of the experts themselves is learned from those. What the experts say of an item that nobody took yet is what they say of the
items most like it.

Shapes: U users · T events · V items, rows 1 … V · K experts · X facts about a user · C candidates.
"""

import math
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import SET_BY_FIT, Choices, Hyperparameters, Range
from recommender.engine.loop import reproducible, seed_of
from recommender.errors import SettingsError, TrainingError
from recommender.models.next_item.als import ALS, ALSConfig
from recommender.models.next_item.causal import Length
from recommender.models.next_item.content import Content, ContentConfig
from recommender.models.next_item.content_rules import ContentRulesConfig, nearest_warm_items
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
from recommender.models.next_item.gate import Gate, fit_gate
from recommender.models.next_item.habit import habits, has_habits
from recommender.models.next_item.linear import packed, popularity, unpacked
from recommender.models.next_item.neural import MIN_STEPS
from recommender.models.next_item.ranker import NEVER, ItemRanker
from recommender.models.next_item.rules import Rules, RulesConfig
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.models.next_item.trend import Trend
from recommender.sequences import Sequences


class FusionConfig(Hyperparameters):
    """Hyperparameters of the flagship. What is None is taken from the number of events; `Fusion.resolved` says how."""

    members: int = Field(
        3, ge=0, description="Most transformers; `budget_tflop` may pay for fewer. 0: none. Their mean is one expert."
    )
    budget_tflop: float = Field(
        110.0,
        gt=0,
        description="Most matrix work of all transformers in training, in 10^12 operations: members and then epochs are lowered to "
        "fit. 110 take at most 80 minutes of one core.",
    )
    epochs: Annotated[int | None, Field(ge=1)] = Field(
        None, description="Most passes over the training events. None: 30, of few events as many as make 1900 steps."
    )
    rate: Annotated[float | None, RATES, Field(gt=0)] = Field(
        None,
        description="Highest learning rate of AdamW. None: 0.001 for a batch of 1024 targets, growing with the batch's root.",
    )
    dropout: Annotated[float | None, DROPOUTS, Field(ge=0, lt=1)] = Field(
        None,
        description="Share of values set to zero in training. None: from 0.5 (20 events an item, or fewer) to 0.2 (300 and more).",
    )
    judge_every: Annotated[int | None, Field(ge=1)] = Field(
        None,
        description="Epochs from one judgement by the held-out items to the next. None: a 15th of the epochs, at least 2.",
    )
    judged_users: JudgedUsers = 4000
    width: Annotated[Width, Choices(64, 128, 256)] = 128
    blocks: Annotated[Blocks, Range(1, 3)] = 2
    tokens: Annotated[int | None, Range(512, 8192, log=True), Field(ge=1)] = Field(
        None, description="Targets of a batch, about. None: a 64th of the events, from 1024 to 4096."
    )
    heads: Heads = 2
    length: Length = 200
    relative: Relative = True
    timed: Annotated[
        Timed, Field(description="Whether attention is biased by the time between events, where a clock wrote times.")
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
    rules: bool = Field(True, description="Whether rules of what follows the very last items are an expert.")
    broad: bool = Field(True, description="Whether the ranker `rules` with its own defaults is an expert.")
    latent: bool = Field(True, description="Whether latent factors (`als`) are an expert.")
    content: bool = Field(
        True, description="Whether likeness of attributes (`content`) is an expert, where items have attributes."
    )
    habit: bool | None = Field(
        None,
        description="Whether what a user had before is an expert. None: where users come back to items (`has_habits`).",
    )
    trend: bool = Field(
        True, description="Whether what all users take at the moment is an expert, where a clock wrote times."
    )
    popularity: bool = Field(True, description="Whether popularity over all time is an expert.")
    text: Text = True
    text_cache: TextCache = ""
    stop_at: Annotated[
        Annotated[tuple[Annotated[float, Field(gt=0, le=1)] | None, ...], Field(strict=False)] | None, SET_BY_FIT
    ] = Field(None, description="Set by an earlier fit: the share of all steps after which each transformer stops.")
    mix: Annotated[dict[str, Any] | None, SET_BY_FIT] = Field(
        None, description="Set by an earlier fit: the gate, which weights the experts."
    )

    _heads = model_validator(mode="after")(require_heads_divide_width)

    def member(self, number: int) -> SASRecConfig:
        """The hyperparameters of the transformer `number`; the configuration is resolved."""
        own = self.model_dump(include=MEMBER_FIELDS)
        return SASRecConfig.model_validate({**own, "stop_at": None if self.stop_at is None else self.stop_at[number]})


MEMBER_FIELDS = set(SASRecConfig.model_fields) & set(FusionConfig.model_fields) - {"stop_at"}
"""Hyperparameters that the flagship hands to its transformers."""
RULES = RulesConfig(decay=1.5, read_decay=2.5, backward=0.0, popularity_power=0.0)
"""Steeper than the defaults of `rules`: what follows the very last items."""
SPREAD = 0.03
"""Share of the rules' and the factors' probability that goes to popularity: no item is impossible."""
EPOCHS, STEPS = 30, MIN_STEPS
"""Of epochs, as many as make so many steps, and at least so many."""
FEW_EPOCHS = 10
"""A transformer that a budget gives fewer is hardly trained."""
FLOOR = 1e-9
LIKENESS = 10.0
"""Log-odds of an item with all attributes of what the user had, against one that has none of them."""
Expert = Rules | ALS | Trend | Content
KINDS: dict[str, type[Expert]] = {"rules": Rules, "broad": Rules, "latent": ALS, "trend": Trend, "content": Content}
VOICES = ("transformers", "rules", "broad", "latent", "trend", "habit", "content", "popularity")
FIRST = ("transformers", "rules", "habit")
"""Which experts count before a gate is fitted."""


class Fusion(ItemRanker[FusionConfig]):
    """Transformers and rules, one product."""

    name: ClassVar[str] = "fusion"
    Config: ClassVar[type[FusionConfig]] = FusionConfig
    scores_are_log_odds: ClassVar[bool] = True
    trains_on_gpu: ClassVar[bool] = True

    def __init__(
        self,
        members: list[SASRec],
        others: Mapping[str, Expert],
        kin_VV: sparse.csr_matrix,
        popularity_V: NDArray[np.float32],
        gate: Gate | None,
        hyperparameters: FusionConfig,
        chosen: Mapping[str, Any],
    ) -> None:
        self.members, self.others = members, dict(others)
        self._cold = np.flatnonzero(np.diff(kin_VV.indptr))
        self._kin_VV, self._kin_cV = kin_VV, kin_VV[self._cold]
        self._popularity_V, self.hyperparameters, self._chosen = popularity_V, hyperparameters, dict(chosen)
        if not self.voices():
            raise SettingsError(f"fusion: no expert is left; let it have one of members, {', '.join(VOICES[1:])}")
        self.gate = gate or self.evenly()

    @classmethod
    def resolved(cls, config: FusionConfig, sequences: Sequences) -> FusionConfig:
        """As `by_size`."""
        return by_size(sequences, config)

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: FusionConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`. Warns where the budget pays for few epochs or no user has two events."""
        wanted, config = config, cls.resolved(config, sequences)
        popularity_V = popularity(sequences)
        taken_V = popularity_V > 0
        half = 0.5 / max(len(sequences.items_T), 1)  # an event: no item is far below those that have one
        popularity_V[1:] += half
        likes = ContentRulesConfig(text=config.text, text_cache=config.text_cache)
        kin_VV = nearest_warm_items(sequences.items, taken_V, likes)
        _warn_of_less(sequences, wanted, config)
        members = _fit_members(sequences, held_out_U, config, context)
        others = _fit_others(sequences, config, context)
        made = cls(members, others, kin_VV, popularity_V, None, config, {})
        if held_out_U is not None:
            with reproducible(context):
                made.gate = fit_gate(made.experts, made.gate, sequences, held_out_U, seed=context.seed)
        if (
            held_out_U is not None and sequences.lengths_U.max(initial=0) > 1
        ):  # else it says nothing of a fit of more events
            made._chosen = made._choices()
        elif config.mix is not None:
            made.gate = Gate.from_json(config.mix)
        return made

    def _choices(self) -> dict[str, Any]:
        """What `chosen` returns after a fit with held-out items."""
        config = self.hyperparameters
        return {
            "stop_at": [member.chosen().get("stop_at") for member in self.members],
            "mix": self.gate.as_json(),
            "members": len(self.members),
            **config.model_dump(include={"dropout", "tokens", "rate", "epochs", "habit", "trend"}),
        }

    def only(self, *, members: int | None = None, without: Collection[str] = ()) -> Self:
        """The first `members` transformers (None: all) and the other experts but for some, weighted evenly: for ablations. Needs a
        `fit_gate` of its own."""
        unknown = set(without) - set(VOICES[1:])
        if unknown:
            raise SettingsError(f"fusion: {', '.join(sorted(unknown))} is none of {', '.join(VOICES[1:])}")
        config = self.hyperparameters.model_copy(update=dict.fromkeys(without, False))
        others = {name: one for name, one in self.others.items() if name not in without}
        return type(self)(self.members[:members], others, self._kin_VV, self._popularity_V, None, config, self._chosen)

    @property
    def habit(self) -> bool:
        return bool(self.hyperparameters.habit)

    def voices(self) -> list[str]:
        """The experts by name, as `experts` lets them speak; popularity, if it does, is the last."""
        popular = self.hyperparameters.popularity
        there = {"transformers": bool(self.members), "habit": self.habit, "popularity": popular}
        there |= dict.fromkeys(self.others, True)
        return [name for name in VOICES if there.get(name)]

    def evenly(self) -> Gate:
        """The same to transformers, rules and habits, none to the others, or the same to all where none of those three is there."""
        voices = self.voices()
        weights_K = np.array([name in FIRST for name in voices], dtype=np.float32)
        if not weights_K.any():
            weights_K += 1
        facts = 2 + len(voices) - voices.count("popularity")
        return Gate.even(weights_K / weights_K.sum(), facts=facts, repeats=self.habit)

    def chosen(self) -> dict[str, Any]:
        return dict(self._chosen)

    def experts(self, sequences: Sequences) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What each expert says of every item, log-probabilities but for a factor: float32 [K, U, V + 1]; and facts about each user,
        float32 [U, X]."""
        logs_KUV = np.stack(list(self._opinions(sequences)))
        logs_KUV[:, :, 0] = np.log(FLOOR)
        voices = self.voices()
        for voice, log_UV in zip(voices, logs_KUV, strict=True):
            if voice != "content" and len(self._cold):
                log_UV[:, self._cold] = (self._kin_cV @ log_UV.T).T
        last_popularity_U = np.log(self._popularity_V[sequences.last_U()] + FLOOR)
        own = len(voices) - voices.count("popularity")
        sureness = [log_UV[:, 1:].max(axis=1) for log_UV in logs_KUV[:own]]
        facts_UX = np.stack([np.log1p(sequences.lengths_U), last_popularity_U, *sureness], axis=1)
        return logs_KUV, facts_UX.astype(np.float32)

    def _opinions(self, sequences: Sequences) -> Iterator[NDArray[np.float32]]:
        """What each of `voices` says: [U, V + 1]."""
        logs = (torch.from_numpy(member.score(sequences)).log_softmax(dim=1) for member in self.members)
        shape = (sequences.num_users, sequences.items.num + 1)
        for voice in self.voices():
            if voice == "transformers":
                mean_UV = sum(logs, torch.zeros(shape)) / len(self.members)
                yield np.maximum(mean_UV.numpy(), np.float32(np.log(FLOOR)))
            elif voice == "habit":
                yield self._spread(habits(sequences))
            elif voice == "content":
                likeness_UV = torch.from_numpy(LIKENESS * self.others[voice].score(sequences))
                yield likeness_UV.log_softmax(dim=1).numpy()
            elif voice == "popularity":
                yield np.broadcast_to(np.log(self._popularity_V + FLOOR), shape).astype(np.float32)
            else:
                yield self._spread(np.maximum(self.others[voice].score(sequences), 0.0))

    def _spread(self, scores_UV: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores, none below 0, as log-probabilities, some of it the popular items'."""
        total_U1 = np.maximum(scores_UV.sum(axis=1, keepdims=True), FLOOR)
        scores_UV *= (1 - SPREAD) / total_U1
        scores_UV += SPREAD * self._popularity_V
        return np.asarray(np.log(scores_UV + FLOOR))

    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        scores_UV = self.gate(*self.experts(sequences), sequences)
        scores_UV[sequences.lengths_U == 0] = np.log(self._popularity_V + FLOOR)
        scores_UV[:, 0] = NEVER
        return scores_UV

    def item_vectors(self) -> NDArray[np.float32] | None:
        """The members' vectors side by side: their inner product with `user_vectors` is the sum of the members' log-odds."""
        return np.concatenate([member.item_vectors() for member in self.members], axis=1) if self.members else None

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32] | None:
        if not self.members:
            return None
        return np.concatenate([member.user_vectors(sequences) for member in self.members], axis=1)

    def tensors(self) -> dict[str, NDArray[Any]]:
        parts = {f"member.{n}": one.tensors() for n, one in enumerate(self.members)}
        parts |= {name: one.tensors() for name, one in self.others.items()}
        named = {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}
        return {**named, **packed("kin", self._kin_VV), "popularity_V": self._popularity_V}

    def config(self) -> dict[str, Any]:
        return {
            "hyper": self._stored_hyperparameters(),
            "chosen": self._chosen,
            "gate": self.gate.as_json(),
            "members": [one.config() for one in self.members],
            **{name: one.config() for name, one in self.others.items()},
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        def own(part: str) -> dict[str, NDArray[Any]]:
            prefix = f"{part}."
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        return cls(
            [SASRec.restore(own(f"member.{n}"), one) for n, one in enumerate(config["members"])],
            {name: kind.restore(own(name), config[name]) for name, kind in KINDS.items() if name in config},
            unpacked("kin", tensors),
            np.asarray(tensors["popularity_V"]),
            Gate.from_json(config["gate"]),
            cls._restored_hyperparameters(config["hyper"]),
            config["chosen"],
        )


def _warn_of_less(sequences: Sequences, wanted: FusionConfig, config: FusionConfig) -> None:
    """Warn where the transformers that the resolved `config` has are fewer or hardly trained."""
    if wanted.members and not config.members:
        warnings.warn("fusion: no user has two events to learn from; it does without transformers", stacklevel=3)
    epochs, afforded = wanted.epochs or EPOCHS, config.epochs or 0
    if afforded < min(FEW_EPOCHS, epochs):
        size = f"{len(sequences.items_T):,} events and {sequences.items.num:,} items"
        message = f"fusion: budget_tflop={config.budget_tflop:g} pays for {afforded} of {epochs} epochs of {size}"
        warnings.warn(f"{message}; more of it takes longer and ranks better", stacklevel=3)


def _fit_members(
    sequences: Sequences, held_out_U: NDArray[np.int32] | None, config: FusionConfig, context: FitContext
) -> list[SASRec]:
    members = []
    for number in range(config.members):
        own = FitContext(
            seed=seed_of(context.seed, "member", number) % 2**31,
            device=context.device,
            checkpoints=context.checkpoints and context.checkpoints / f"member-{number}",
            checkpoint_every_s=context.checkpoint_every_s,
            progress=context.progress,
        )
        try:
            members.append(SASRec.fit(sequences, held_out_U=held_out_U, config=config.member(number), context=own))
        except TrainingError as error:
            raise TrainingError(f"fusion, transformer {number + 1}: {error}") from error
    return members


def _fit_others(sequences: Sequences, config: FusionConfig, context: FitContext) -> dict[str, Expert]:
    """The experts beside the transformers that are fitted."""
    others: dict[str, Expert] = {}
    if config.rules:
        others["rules"] = Rules.fit(sequences, held_out_U=None, config=RULES, context=context)
    if config.broad:
        others["broad"] = Rules.fit(sequences, held_out_U=None, config=RulesConfig(), context=context)
    if config.latent:
        others["latent"] = ALS.fit(sequences, held_out_U=None, config=ALSConfig(), context=context)
    if config.trend:
        others["trend"] = Trend.fit(sequences, spread=SPREAD, seed=seed_of(context.seed, "trend", 0))
    if config.content and sequences.items.num_attributes:
        alone = ContentConfig(popularity=0.0)
        others["content"] = Content.fit(sequences, held_out_U=None, config=alone, context=context)
    return others


def by_size(sequences: Sequences, config: FusionConfig) -> FusionConfig:
    """Fill in what is None from the number of events and items, and keep the work within `budget_tflop`.

    dropout falls from 0.5 (20 events an item, or fewer) to 0.2 (300 and more). A batch is a 64th of an epoch, 1,024 to 4,096
    targets, and the rate grows with its root. Epochs are `EPOCHS`, of few events more, so that there are `STEPS`. There is at
    least one transformer and one epoch, but no transformer where no user has two events or none is asked for.
    """
    num_items, events = sequences.items.num, len(sequences.items_T)
    dropout, tokens, rate, epochs = config.dropout, config.tokens, config.rate, config.epochs
    if dropout is None:
        share = np.clip(np.log(max(events, 1) / max(num_items, 1) / 20) / np.log(300 / 20), 0, 1)
        dropout = round(float(0.5 - 0.3 * share), 3)
    if tokens is None:
        tokens = int(np.clip(events / 64, 1024, 4096))
    if rate is None:
        rate = round(0.001 * float(np.sqrt(tokens / 1024)), 6)
    if epochs is None:
        epochs = max(EPOCHS, math.ceil(STEPS / max(events / tokens, 1)))
    judge_every = max(2, math.ceil(epochs / 15)) if config.judge_every is None else config.judge_every
    members, epochs = _within_budget(sequences, config, epochs)
    return config.model_copy(
        update={
            "dropout": dropout,
            "tokens": tokens,
            "rate": rate,
            "epochs": epochs,
            "judge_every": judge_every,
            "members": members,
            "habit": has_habits(sequences) if config.habit is None else config.habit,
            "timed": config.timed and sequences.has_clock,
            "trend": config.trend and sequences.has_clock,
        }
    )


def _within_budget(sequences: Sequences, config: FusionConfig, epochs: int) -> tuple[int, int]:
    """Transformers and epochs that the budget pays for."""
    if sequences.lengths_U.max(initial=0) < 2 or not config.members:
        return 0, epochs
    if config.stop_at is not None:  # chosen by an earlier fit, whose gate knows so many members
        return len(config.stop_at), epochs
    width, blocks = config.width, config.blocks
    per_target = 6 * width * sequences.items.num + 6 * blocks * width * (8 + 2 * config.wide) * width
    affordable = config.budget_tflop * 1e12 / max(per_target * len(sequences.items_T), 1)
    members = int(np.clip(affordable // epochs, 1, config.members))
    return members, int(np.clip(affordable // members, 1, epochs))
