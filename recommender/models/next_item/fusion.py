"""The flagship: causal transformers and sequential rules, fused by weights that depend on the user.

Each expert says how probable every item is: some transformers (`causal`: attention biased by distance, gated, items with their
attributes), rules of three kinds (`rules`: broad, near, last item), and popularity. The score is the sum of their log-probabilities, a
product of experts (Hinton, 2002), weighted by a function of what is known of the user: how many items, how common the last one,
how sure each expert is. The weights are fitted on the held-out items by the listwise cross entropy of the best candidates; nothing of
the experts themselves is learned from those.

Shapes: U users · V items, rows 1 … V · K experts · X facts about a user · C candidates.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recommender.models.next_item.gate import Gate, fit_gate
from recommender.models.next_item.ranker import NEVER, ItemRanker
from recommender.models.next_item.rules import Rules
from recommender.models.next_item.sasrec import SASRec
from recommender.models.ranker import FitContext
from recommender.sequences import Sequences
from recommender.training.loop import seed_of

DEFAULTS: dict[str, Any] = {
    "members": 3,
    "width": 64,
    "blocks": 2,
    "heads": 2,
    "length": 200,
    "relative": True,
    "gated": True,
    "attributes": True,
    "wide": 1,
    "dropout": None,
    "epochs": 30,
    "tokens": None,
    "rate": None,
    "weight_decay": 0.0,
    "smoothing": 0.0,
    "patience": 5,
    "judge_every": 2,
    "judged_users": 4000,
    "budget_tflop": 75.0,
    "rules": True,
    "mix": None,
    "stop_at": None,
}
"""members: transformers, fewer where `budget_tflop` (matrix work of all members and epochs; 75 is about an hour of one core) does not suffice; then epochs fall too ·
dropout, tokens, rate: None takes them from the number of events (see `by_size`) · rules: whether rules are experts ·
mix, stop_at: what an earlier fit chose. The rest: as in `sasrec` and `causal`."""
RULES: tuple[dict[str, Any], ...] = (
    {"decay": 0.5, "read_decay": 1.2, "backward": 0.3, "popularity_power": 0.2},
    {"decay": 1.0, "read_decay": 0.5, "backward": 0.3, "popularity_power": 0.5, "window": 50, "read": 50},
    {"decay": 1.5, "read_decay": 2.5, "backward": 0.0, "popularity_power": 0.0},
)
SPREAD = 0.03
"""Share of a rule's probability that goes to popularity: no item is impossible."""
FLOOR = 1e-9


class Fusion(ItemRanker):
    """Transformers and rules, one product."""

    name: ClassVar[str] = "fusion"
    scores_are_log_odds: ClassVar[bool] = True

    def __init__(
        self,
        members: list[SASRec],
        rules: list[Rules],
        popularity_V: NDArray[np.float32],
        gate: Gate,
        hyper: Mapping[str, Any],
        chosen: Mapping[str, Any],
    ) -> None:
        self.members, self.rules, self.gate = members, rules, gate
        self._popularity_V, self._hyper, self._chosen = popularity_V, dict(hyper), dict(chosen)

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        hyper = by_size(sequences, {**DEFAULTS, **config})
        members = []
        stops = hyper["stop_at"] or [None] * int(hyper["members"])
        for number in range(int(hyper["members"])):
            own = FitContext(
                seed=seed_of(context.seed, "member", number) % 2**31,
                device=context.device,
                threads=context.threads,
                checkpoints=context.checkpoints and context.checkpoints / f"member-{number}",
                checkpoint_every_s=context.checkpoint_every_s,
                progress=context.progress,
            )
            dials = {name: hyper[name] for name in MEMBER_DIALS} | {"stop_at": stops[number]}
            members.append(SASRec.fit(sequences, held_out_U=held_out_U, config=dials, context=own))
        kinds = RULES if hyper["rules"] else ()
        rules = [Rules.fit(sequences, held_out_U=None, config=kind, context=context) for kind in kinds]
        seen_V = np.bincount(sequences.items_T, minlength=sequences.items.num + 1).astype(np.float32)
        popularity_V = seen_V / max(float(seen_V.sum()), 1.0)
        made = cls(members, rules, popularity_V, Gate.even(len(members), len(rules)), hyper, {})
        if held_out_U is not None:
            made.gate = fit_gate(made.experts, made.gate, sequences, held_out_U, seed=context.seed)
            stop_at = [member.chosen().get("stop_at") for member in members]
            made._chosen = {"stop_at": stop_at, "mix": made.gate.as_json(), "members": len(members)}
            made._chosen |= {name: hyper[name] for name in ("dropout", "tokens", "rate", "epochs")}
        elif hyper["mix"] is not None:
            made.gate = Gate.from_json(hyper["mix"])
        return made

    def chosen(self) -> dict[str, Any]:
        return dict(self._chosen)

    def experts(self, sequences: Sequences) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-probabilities by each expert, float32 [K, U, V + 1], and facts about each user, float32 [U, X]."""
        logs = []
        for member in self.members:
            scores = torch.from_numpy(member.score(sequences))
            logs.append(scores.log_softmax(dim=1).numpy())
        for rule in self.rules:
            scores_UV = np.maximum(rule.score(sequences), 0.0)
            total_U1 = np.maximum(scores_UV.sum(axis=1, keepdims=True), FLOOR)
            scores_UV *= (1 - SPREAD) / total_U1
            scores_UV += SPREAD * self._popularity_V
            logs.append(np.log(scores_UV + FLOOR))
        logs.append(np.broadcast_to(np.log(self._popularity_V + 1e-6), logs[0].shape))
        logs_KUV = np.maximum(np.stack(logs), np.float32(np.log(FLOOR)))
        last_popularity_U = np.log(self._popularity_V[sequences.last_U()] + 1e-6)
        sureness = [log_UV.max(axis=1) for log_UV in logs_KUV[:-1]]
        facts_UX = np.stack([np.log1p(sequences.lengths_U), last_popularity_U, *sureness], axis=1)
        return logs_KUV, facts_UX.astype(np.float32)

    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        scores_UV = self.gate(*self.experts(sequences))
        cold_U = sequences.lengths_U == 0
        scores_UV[cold_U] = np.log(self._popularity_V + FLOOR)
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
        parts |= {f"rules.{n}": one.tensors() for n, one in enumerate(self.rules)}
        named = {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}
        return {**named, "popularity_V": self._popularity_V}

    def config(self) -> dict[str, Any]:
        return {
            "hyper": self._hyper,
            "chosen": self._chosen,
            "gate": self.gate.as_json(),
            "members": [one.config() for one in self.members],
            "rules": [one.config() for one in self.rules],
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        def own(part: str) -> dict[str, NDArray[Any]]:
            prefix = f"{part}."
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        return cls(
            [SASRec.restore(own(f"member.{n}"), one) for n, one in enumerate(config["members"])],
            [Rules.restore(own(f"rules.{n}"), one) for n, one in enumerate(config["rules"])],
            np.asarray(tensors["popularity_V"]),
            Gate.from_json(config["gate"]),
            config["hyper"],
            config["chosen"],
        )


MEMBER_DIALS = (
    *("width", "blocks", "heads", "length", "relative", "gated", "attributes", "wide", "dropout", "epochs", "tokens"),
    *("rate", "weight_decay", "smoothing", "patience", "judge_every", "judged_users"),
)


def by_size(sequences: Sequences, hyper: dict[str, Any]) -> dict[str, Any]:
    """Fill the dials that are None from the number of events and items, and keep the work within `budget_tflop`.

    dropout falls from 0.5 (20 events an item, or fewer) to 0.2 (300 and more); a batch is a 64th of an epoch, 1,024 to 4,096 targets;
    the rate grows with the root of the batch.
    """
    num_items, events = sequences.items.num, len(sequences.items_T)
    filled = dict(hyper)
    if filled["dropout"] is None:
        share = np.clip(np.log(events / max(num_items, 1) / 20) / np.log(300 / 20), 0, 1)
        filled["dropout"] = round(float(0.5 - 0.3 * share), 3)
    if filled["tokens"] is None:
        filled["tokens"] = int(np.clip(events / 64, 1024, 4096))
    if filled["rate"] is None:
        filled["rate"] = round(0.001 * float(np.sqrt(filled["tokens"] / 1024)), 6)
    width, blocks = int(filled["width"]), int(filled["blocks"])
    per_target = 6 * width * num_items + 6 * blocks * width * (8 + 2 * int(filled["wide"])) * width
    affordable = float(filled["budget_tflop"]) * 1e12 / max(per_target * events, 1)
    filled["members"] = int(np.clip(affordable // int(filled["epochs"]), 1, int(filled["members"])))
    filled["epochs"] = int(np.clip(affordable // filled["members"], 2, int(filled["epochs"])))
    return filled
