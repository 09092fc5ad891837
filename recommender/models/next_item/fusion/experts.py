"""The flagship's experts: each gives every item a log-probability of being the user's next one.

- transformers: the mean of some causal transformers (`sasrec` with all its options);
- rules: which item follows the very last items;
- broad: the ranker `rules` with its own defaults, for items that occur near any of the last items;
- latent: latent factors (`als`);
- trend: current popularity, if events have real timestamps;
- habit: the user's earlier items, if users return to items;
- content: similarity of attributes (`content`), if items have attributes;
- popularity: popularity over all time.

An item without an event gets the scores of the warm items with the most similar content.

Shapes: U users · V items, rows 1 … V · K experts · X facts about a user · c cold items.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.loop import seed_of
from recommender.errors import SettingsError, TrainingError
from recommender.models.next_item.als import ALS, ALSConfig
from recommender.models.next_item.content import Content, ContentConfig
from recommender.models.next_item.content_rules import ContentRulesConfig, nearest_warm_items
from recommender.models.next_item.fusion.config import FusionConfig
from recommender.models.next_item.fusion.habit import habits
from recommender.models.next_item.fusion.trend import Trend
from recommender.models.next_item.linear import packed, popularity, unpacked
from recommender.models.next_item.rules import Rules, RulesConfig
from recommender.models.next_item.sasrec import SASRec
from recommender.sequences import Sequences

NAMES = ("transformers", "rules", "broad", "latent", "trend", "habit", "content", "popularity")
"""All experts, in the order of their weights."""
RULES = RulesConfig(decay=1.5, read_decay=2.5, backward=0.0, popularity_power=0.0)
"""Chosen by hand. Steeper than the defaults of `rules` (see `broad`), for items that follow the very last ones."""
SPREAD = 0.03
"""Share of the probability of rules, factors, trend and habits that goes to popularity, so that no item is impossible.
Chosen by hand."""
FLOOR = 1e-9
"""Least probability that an expert gives an item, for a finite logarithm."""
LIKENESS = 10.0
"""Log-odds between an item with all attributes of the user's items and one with none of them. Chosen by hand."""
HALF_AN_EVENT = 0.5
"""Added to every item's events, so that an item without any is not far below one with a single one."""

Expert = Rules | ALS | Trend | Content
KINDS: Mapping[str, type[Expert]] = {
    "rules": Rules,
    "broad": Rules,
    "latent": ALS,
    "trend": Trend,
    "content": Content,
}
"""Experts that are fitted, besides the transformers."""


@dataclass(eq=False)
class Experts:
    """The fitted experts, called with histories."""

    transformers: list[SASRec]
    others: dict[str, Expert]
    """Name (of `KINDS`) -> the expert."""
    nearest_VV: sparse.csr_matrix
    """For each cold item the weights of its most similar warm items. Other rows are empty."""
    popularity_V: NDArray[np.float32]
    habit: bool
    popularity: bool

    def __post_init__(self) -> None:
        self._cold = np.flatnonzero(np.diff(self.nearest_VV.indptr))
        self._nearest_cV = self.nearest_VV[self._cold]
        if not self.names():
            raise SettingsError(f"fusion: no expert is left. Keep at least one of members, {', '.join(NAMES[1:])}.")

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: FusionConfig,
        context: FitContext,
    ) -> Self:
        """Fit the experts that a resolved configuration asks for.

        Raises:
            SettingsError: no expert is left, or a text encoder is missing.
            TrainingError: a transformer's loss is not finite; names it.
        """
        popularity_V = popularity(sequences)
        warm_V = popularity_V > 0
        popularity_V[1:] += HALF_AN_EVENT / max(len(sequences.items_T), 1)
        by_content = ContentRulesConfig(text=config.text, text_cache=config.text_cache)
        nearest_VV = nearest_warm_items(sequences.items, warm_V, by_content)
        transformers = _fit_transformers(sequences, held_out_U, config, context)
        others = _fit_others(sequences, config, context)
        return cls(transformers, others, nearest_VV, popularity_V, bool(config.habit), config.popularity)

    def only(self, *, transformers: int | None = None, without: Collection[str] = ()) -> Self:
        """The first `transformers` transformers (None: all) and the other experts but those of `without`.

        Raises:
            SettingsError: `without` names an unknown expert, or no expert is left.
        """
        unknown = set(without) - set(NAMES[1:])
        if unknown:
            raise SettingsError(
                f"fusion: unknown expert {', '.join(sorted(unknown))}; there are {', '.join(NAMES[1:])}"
            )
        return replace(
            self,
            transformers=self.transformers[:transformers],
            others={name: expert for name, expert in self.others.items() if name not in without},
            habit=self.habit and "habit" not in without,
            popularity=self.popularity and "popularity" not in without,
        )

    def names(self) -> list[str]:
        """Names of the fitted experts, in the order of their log-probabilities. Popularity is the last one."""
        there = {"transformers": bool(self.transformers), "habit": self.habit, "popularity": self.popularity}
        there |= dict.fromkeys(self.others, True)
        return [name for name in NAMES if there.get(name)]

    def num_facts(self) -> int:
        """Number X of facts about a user: length, popularity of the last item, each other expert's certainty."""
        names = self.names()
        return 2 + len(names) - names.count("popularity")

    def __call__(self, sequences: Sequences) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-probabilities of all items up to a constant, [K, U, V + 1], and facts of users, [U, X] (both float32)."""
        logs_KUV = np.stack(list(self._logs(sequences)))
        logs_KUV[:, :, 0] = np.log(FLOOR)
        names = self.names()
        for name, log_UV in zip(names, logs_KUV, strict=True):
            if name != "content" and len(self._cold):
                log_UV[:, self._cold] = (self._nearest_cV @ log_UV.T).T
        last_popularity_U = np.log(self.popularity_V[sequences.last_U()] + FLOOR)
        own = len(names) - names.count("popularity")
        certainties = [log_UV[:, 1:].max(axis=1) for log_UV in logs_KUV[:own]]
        facts_UX = np.stack([np.log1p(sequences.lengths_U), last_popularity_U, *certainties], axis=1)
        return logs_KUV, facts_UX.astype(np.float32)

    def _logs(self, sequences: Sequences) -> Iterator[NDArray[np.float32]]:
        """Log-probabilities by each of `names`: [U, V + 1]."""
        shape = (sequences.num_users, sequences.items.num + 1)
        for name in self.names():
            if name == "transformers":
                logs = (torch.from_numpy(member.score(sequences)).log_softmax(dim=1) for member in self.transformers)
                mean_UV = sum(logs, torch.zeros(shape)) / len(self.transformers)
                yield np.maximum(mean_UV.numpy(), np.float32(np.log(FLOOR)))
            elif name == "habit":
                yield self._spread(habits(sequences))
            elif name == "content":
                likeness_UV = torch.from_numpy(LIKENESS * self.others[name].score(sequences))
                yield likeness_UV.log_softmax(dim=1).numpy()
            elif name == "popularity":
                yield np.broadcast_to(self.log_popularity(), shape).astype(np.float32)
            else:
                yield self._spread(np.maximum(self.others[name].score(sequences), 0.0))

    def log_popularity(self) -> NDArray[np.float32]:
        """Log-probabilities of all items for an unknown user: [V + 1]."""
        return np.asarray(np.log(self.popularity_V + FLOOR))

    def _spread(self, scores_UV: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of 0 and more as log-probabilities, a share of `SPREAD` going to popularity."""
        total_U1 = np.maximum(scores_UV.sum(axis=1, keepdims=True), FLOOR)
        scores_UV *= (1 - SPREAD) / total_U1
        scores_UV += SPREAD * self.popularity_V
        return np.asarray(np.log(scores_UV + FLOOR))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As `ItemRanker.tensors`."""
        parts = {f"member.{number}": member.tensors() for number, member in enumerate(self.transformers)}
        parts |= {name: expert.tensors() for name, expert in self.others.items()}
        named = {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}
        return {**named, **packed("kin", self.nearest_VV), "popularity_V": self.popularity_V}

    def config(self) -> dict[str, Any]:
        """As `ItemRanker.config`."""
        return {
            "members": [member.config() for member in self.transformers],
            **{name: expert.config() for name, expert in self.others.items()},
        }

    @classmethod
    def restore(
        cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any], *, habit: bool, popularity: bool
    ) -> Self:
        """The experts that `tensors` and `config` came from."""

        def own(part: str) -> dict[str, NDArray[Any]]:
            prefix = f"{part}."
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        return cls(
            [SASRec.restore(own(f"member.{number}"), stored) for number, stored in enumerate(config["members"])],
            {name: kind.restore(own(name), config[name]) for name, kind in KINDS.items() if name in config},
            unpacked("kin", tensors),
            np.asarray(tensors["popularity_V"]),
            habit,
            popularity,
        )


def _fit_transformers(
    sequences: Sequences, held_out_U: NDArray[np.int32] | None, config: FusionConfig, context: FitContext
) -> list[SASRec]:
    transformers = []
    for number in range(config.members):
        own = replace(
            context,
            seed=seed_of(context.seed, "member", number) % 2**31,  # a non-negative int32, which every library takes
            checkpoints=context.checkpoints and context.checkpoints / f"member-{number}",
        )
        try:
            member = SASRec.fit(sequences, held_out_U=held_out_U, config=config.member(number), context=own)
        except TrainingError as error:
            raise TrainingError(f"fusion, transformer {number + 1}: {error}") from error
        transformers.append(member)
    return transformers


def _fit_others(sequences: Sequences, config: FusionConfig, context: FitContext) -> dict[str, Expert]:
    """The experts of `KINDS` that are asked for and can be fitted."""
    fits: dict[str, tuple[bool, Callable[[], Expert]]] = {
        "rules": (config.rules, lambda: Rules.fit(sequences, held_out_U=None, config=RULES, context=context)),
        "broad": (config.broad, lambda: Rules.fit(sequences, held_out_U=None, config=RulesConfig(), context=context)),
        "latent": (config.latent, lambda: ALS.fit(sequences, held_out_U=None, config=ALSConfig(), context=context)),
        "trend": (config.trend, lambda: Trend.fit(sequences, spread=SPREAD, seed=seed_of(context.seed, "trend", 0))),
        "content": (
            config.content and sequences.items.num_attributes > 0,
            lambda: Content.fit(sequences, held_out_U=None, config=ContentConfig(popularity=0.0), context=context),
        ),
    }
    return {name: fit() for name, (wanted, fit) in fits.items() if wanted}
