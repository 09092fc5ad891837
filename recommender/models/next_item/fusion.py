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
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.engine.loop import reproducible, seed_of
from recommender.errors import SettingsError, TrainingError
from recommender.models.next_item import content_rules, neural
from recommender.models.next_item.als import ALS
from recommender.models.next_item.content import Content
from recommender.models.next_item.content_rules import kin
from recommender.models.next_item.gate import Gate, fit_gate
from recommender.models.next_item.habit import habits, has_habits
from recommender.models.next_item.linear import packed, popularity, unpacked
from recommender.models.next_item.ranker import NEVER, ItemRanker
from recommender.models.next_item.rules import Rules
from recommender.models.next_item.sasrec import SASRec
from recommender.models.next_item.trend import Trend
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {
    "members": 3,
    "width": 128,
    "blocks": 2,
    "heads": 2,
    "length": 200,
    "relative": True,
    "timed": True,
    "gated": True,
    "attributes": True,
    "wide": 1,
    "dropout": None,
    "epochs": None,
    "tokens": None,
    "rate": None,
    "weight_decay": 0.0,
    "smoothing": 0.0,
    "patience": 5,
    "judge_every": None,
    "judged_users": 4000,
    "accumulate": 1,
    "precision": "auto",
    "torch_compile": False,
    "budget_tflop": 110.0,
    "rules": True,
    "broad": True,
    "latent": True,
    "content": True,
    "habit": None,
    "trend": True,
    "popularity": True,
    "text": True,
    "text_cache": "",
}
"""members: transformers, fewer where `budget_tflop` (matrix work of all members and epochs; 110 is at most 80 minutes of one core)
does not suffice; then epochs fall too · timed: attention sees the time between events, where a clock wrote times · dropout, epochs, tokens,
rate, judge_every: None takes them from the number of events (see `by_size`) · rules, broad, latent, trend, content, habit, popularity: whether these are experts,
broad: `rules` with its own defaults, trend only where a clock wrote times; habit: None takes it from how often users come back (`has_habits`) · text, text_cache: as in
`content_rules`, for items that nobody took. The rest: as in `neural.TRAINING`, `sasrec` and `causal`. A config may say `mix` and
`stop_at`, what an earlier fit chose."""
SEARCHED: Space = {
    **neural.SEARCHED,
    "width": (64, 128, 256),
    "blocks": Range(1, 3),
    "tokens": Range(512, 8192, log=True),
}
RULES: dict[str, Any] = {"decay": 1.5, "read_decay": 2.5, "backward": 0.0, "popularity_power": 0.0}
"""Steeper than the dials of `rules` alone: what follows the very last items."""
SPREAD = 0.03
"""Share of the rules' and the factors' probability that goes to popularity: no item is impossible."""
EPOCHS, STEPS = 30, neural.MIN_STEPS
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


class Fusion(ItemRanker):
    """Transformers and rules, one product."""

    name: ClassVar[str] = "fusion"
    scores_are_log_odds: ClassVar[bool] = True
    trains_on_gpu: ClassVar[bool] = True

    def __init__(
        self,
        members: list[SASRec],
        others: Mapping[str, Expert],
        kin_VV: sparse.csr_matrix,
        popularity_V: NDArray[np.float32],
        gate: Gate | None,
        hyper: Mapping[str, Any],
        chosen: Mapping[str, Any],
    ) -> None:
        self.members, self.others = members, dict(others)
        self._cold = np.flatnonzero(np.diff(kin_VV.indptr))
        self._kin_VV, self._kin_cV = kin_VV, kin_VV[self._cold]
        self._popularity_V, self._hyper, self._chosen = popularity_V, dict(hyper), dict(chosen)
        if not self.voices():
            raise SettingsError(f"fusion: no expert is left; let it have one of members, {', '.join(VOICES[1:])}")
        self.gate = gate or self.evenly()

    @classmethod
    def dials(cls, sequences: Sequences, config: Mapping[str, Any]) -> dict[str, Any]:
        return by_size(sequences, {**DEFAULTS, **config})

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        hyper = cls.dials(sequences, config)
        popularity_V = popularity(sequences)
        taken_V = popularity_V > 0
        half = 0.5 / max(len(sequences.items_T), 1)  # an event: no item is far below those that have one
        popularity_V[1:] += half
        likes = {name: hyper[name] for name in ("text", "text_cache")}
        kin_VV = kin(sequences.items, taken_V, {**content_rules.DEFAULTS, **likes})
        if not hyper["members"] and int({**DEFAULTS, **config}["members"]):
            warnings.warn("fusion: no user has two events to learn from; it does without transformers", stacklevel=2)
        wanted, afforded = int(config.get("epochs") or EPOCHS), int(hyper["epochs"])
        if afforded < min(FEW_EPOCHS, wanted):
            size = f"{len(sequences.items_T):,} events and {sequences.items.num:,} items"
            message = f"fusion: budget_tflop={hyper['budget_tflop']:g} pays for {afforded} of {wanted} epochs of {size}"
            warnings.warn(f"{message}; more of it takes longer and ranks better", stacklevel=2)
        members = []
        stops = hyper.get("stop_at") or [None] * int(hyper["members"])
        for number in range(int(hyper["members"])):
            own = FitContext(
                seed=seed_of(context.seed, "member", number) % 2**31,
                device=context.device,
                checkpoints=context.checkpoints and context.checkpoints / f"member-{number}",
                checkpoint_every_s=context.checkpoint_every_s,
                progress=context.progress,
            )
            dials = {name: hyper[name] for name in MEMBER_DIALS} | {"stop_at": stops[number]}
            try:
                members.append(SASRec.fit(sequences, held_out_U=held_out_U, config=dials, context=own))
            except TrainingError as error:
                raise TrainingError(f"fusion, transformer {number + 1}: {error}") from error
        others: dict[str, Expert] = {}
        for name, dials in {"rules": RULES, "broad": {}}.items():
            if hyper[name]:
                others[name] = Rules.fit(sequences, held_out_U=None, config=dials, context=context)
        if hyper["latent"]:
            others["latent"] = ALS.fit(sequences, held_out_U=None, config={}, context=context)
        if hyper["trend"]:
            others["trend"] = Trend.fit(sequences, spread=SPREAD, seed=seed_of(context.seed, "trend", 0))
        if hyper["content"] and sequences.items.num_attributes:
            others["content"] = Content.fit(sequences, held_out_U=None, config={"popularity": 0.0}, context=context)
        made = cls(members, others, kin_VV, popularity_V, None, hyper, {})
        if held_out_U is not None:
            with reproducible(context):
                made.gate = fit_gate(made.experts, made.gate, sequences, held_out_U, seed=context.seed)
        if (
            held_out_U is not None and sequences.lengths_U.max(initial=0) > 1
        ):  # else it says nothing of a fit of more events
            stop_at = [member.chosen().get("stop_at") for member in members]
            made._chosen = {"stop_at": stop_at, "mix": made.gate.as_json(), "members": len(members)}
            made._chosen |= {name: hyper[name] for name in ("dropout", "tokens", "rate", "epochs", "habit", "trend")}
        elif hyper.get("mix") is not None:
            made.gate = Gate.from_json(hyper["mix"])
        return made

    def only(self, *, members: int | None = None, without: Collection[str] = ()) -> Self:
        """The first `members` transformers (None: all) and the other experts but for some, weighted evenly: for ablations. Needs a
        `fit_gate` of its own."""
        unknown = set(without) - set(VOICES[1:])
        if unknown:
            raise SettingsError(f"fusion: {', '.join(sorted(unknown))} is none of {', '.join(VOICES[1:])}")
        hyper = {**self._hyper, **dict.fromkeys(without, False)}
        others = {name: one for name, one in self.others.items() if name not in without}
        return type(self)(self.members[:members], others, self._kin_VV, self._popularity_V, None, hyper, self._chosen)

    @property
    def habit(self) -> bool:
        return bool(self._hyper["habit"])

    def voices(self) -> list[str]:
        """The experts by name, as `experts` lets them speak; popularity, if it does, is the last."""
        there = {"transformers": bool(self.members), "habit": self.habit, "popularity": bool(self._hyper["popularity"])}
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
            "hyper": self._hyper,
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
            config["hyper"],
            config["chosen"],
        )


MEMBER_DIALS = (
    *("width", "blocks", "heads", "length", "relative", "timed", "gated", "attributes", "wide", "dropout", "epochs"),
    *("tokens", "rate", "weight_decay", "smoothing", "patience", "judge_every", "judged_users"),
    *("accumulate", "precision", "torch_compile"),
)


def by_size(sequences: Sequences, hyper: dict[str, Any]) -> dict[str, Any]:
    """Fill the dials that are None from the number of events and items, and keep the work within `budget_tflop`.

    dropout falls from 0.5 (20 events an item, or fewer) to 0.2 (300 and more); a batch is a 64th of an epoch, 1,024 to 4,096 targets;
    the rate grows with the root of the batch; epochs are EPOCHS, of few events more, so that there are STEPS. One transformer and one epoch are the least; none where no user has two events or none is asked for.
    """
    num_items, events = sequences.items.num, len(sequences.items_T)
    filled = dict(hyper)
    if filled["dropout"] is None:
        share = np.clip(np.log(max(events, 1) / max(num_items, 1) / 20) / np.log(300 / 20), 0, 1)
        filled["dropout"] = round(float(0.5 - 0.3 * share), 3)
    if filled["habit"] is None:
        filled["habit"] = has_habits(sequences)
    for name in ("timed", "trend"):
        filled[name] = bool(filled[name]) and sequences.has_clock
    if filled["tokens"] is None:
        filled["tokens"] = int(np.clip(events / 64, 1024, 4096))
    if filled["rate"] is None:
        filled["rate"] = round(0.001 * float(np.sqrt(filled["tokens"] / 1024)), 6)
    if filled["epochs"] is None:
        filled["epochs"] = max(EPOCHS, math.ceil(STEPS / max(events / int(filled["tokens"]), 1)))
    if filled["judge_every"] is None:
        filled["judge_every"] = max(2, math.ceil(int(filled["epochs"]) / 15))
    if sequences.lengths_U.max(initial=0) < 2 or not int(filled["members"]):
        return {**filled, "members": 0}
    if filled.get("stop_at") is not None:  # chosen by an earlier fit, whose gate knows so many members
        return {**filled, "members": len(filled["stop_at"])}
    width, blocks = int(filled["width"]), int(filled["blocks"])
    per_target = 6 * width * num_items + 6 * blocks * width * (8 + 2 * int(filled["wide"])) * width
    affordable = float(filled["budget_tflop"]) * 1e12 / max(per_target * events, 1)
    filled["members"] = int(np.clip(affordable // int(filled["epochs"]), 1, int(filled["members"])))
    filled["epochs"] = int(np.clip(affordable // filled["members"], 1, int(filled["epochs"])))
    return filled
