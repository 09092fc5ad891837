"""The flagship ranker: a product of experts (Hinton, 2002), weighted by facts about the user.

Facts are how long the history is, how popular its last item is, and how certain each expert is. The weights (`gate`)
are fitted on the held-out items; nothing of the experts themselves is learned from those.

Shapes: U users · V items, rows 1 … V · K experts · D width of a vector.
"""

import warnings
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.loop import reproducible
from recommender.models.next_item.fusion.config import EPOCHS, FusionConfig
from recommender.models.next_item.fusion.experts import Experts
from recommender.models.next_item.fusion.gate import Gate, GateState
from recommender.models.next_item.fusion.gate_fit import fit_gate
from recommender.models.next_item.ranker import NEVER, ItemRanker, require_items
from recommender.sequences import Sequences

FEW_EPOCHS = 10
"""With fewer epochs, due to the budget, a transformer is hardly trained, and a warning is logged. Chosen by hand."""
FIRST = ("transformers", "rules", "habit")
"""Experts that share all weight before a gate is fitted: those that read the order of the user's own events."""


class Fusion(ItemRanker[FusionConfig]):
    """Experts and the gate that weights them."""

    name: ClassVar[str] = "fusion"
    Config: ClassVar[type[FusionConfig]] = FusionConfig
    scores_are_log_odds: ClassVar[bool] = True
    trains_on_gpu: ClassVar[bool] = True
    encodes_order: ClassVar[bool] = True

    def __init__(
        self, experts: Experts, gate: Gate | None, hyperparameters: FusionConfig, chosen: Mapping[str, Any]
    ) -> None:
        self.experts, self.hyperparameters, self._chosen = experts, hyperparameters, dict(chosen)
        self.gate = gate or even_gate(experts)

    @classmethod
    def resolved(cls, config: FusionConfig, sequences: Sequences) -> FusionConfig:
        """As `FusionConfig.resolved`."""
        return config.resolved(sequences)

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: FusionConfig,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`. Warns where no user has two events, or where the budget pays for few epochs."""
        whole = config.resolved(sequences)
        _warn_of_less(sequences, config, whole)
        experts = Experts.fit(sequences, held_out_U=held_out_U, config=whole, context=context)
        made = cls(experts, None, whole, {})
        if held_out_U is not None:
            names = tuple(experts.names())
            with reproducible(context):
                made.gate = fit_gate(experts, made.gate, sequences, held_out_U, seed=context.seed, names=names)
        # A gate that was fitted on histories of one event does not suit a fit of more events, so it is not handed on.
        if held_out_U is not None and sequences.lengths_U.max(initial=0) > 1:
            made._chosen = made._choices()
        elif whole.mix is not None:
            made.gate = Gate.restore(whole.mix)
        return made

    def _choices(self) -> dict[str, Any]:
        """The values that `chosen` returns after a fit with held-out items."""
        return {
            "stop_at": [member.chosen().get("stop_at") for member in self.experts.transformers],
            "mix": self.gate.state().model_dump(),
            "members": len(self.experts.transformers),
            **self.hyperparameters.model_dump(include={"dropout", "tokens", "rate", "epochs", "habit", "trend"}),
        }

    def only(self, *, transformers: int | None = None, without: Collection[str] = ()) -> Self:
        """The first `transformers` transformers (None: all) and the other experts but some, for ablations.

        Its gate is the even one, not a fitted one.

        Raises:
            SettingsError: as `Experts.only`.
        """
        experts = self.experts.only(transformers=transformers, without=without)
        config = self.hyperparameters.model_copy(update=dict.fromkeys(without, False))
        return type(self)(experts, None, config, self._chosen)

    def chosen(self) -> dict[str, Any]:
        """As `ItemRanker.chosen`."""
        return dict(self._chosen)

    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        """As `ItemRanker.score`."""
        require_items(sequences, len(self.experts.popularity_V) - 1, self.name)
        scores_UV = self.gate(*self.experts(sequences), sequences)
        scores_UV[sequences.lengths_U == 0] = self.experts.log_popularity()
        scores_UV[:, 0] = NEVER
        return scores_UV

    def item_vectors(self) -> NDArray[np.float32] | None:
        """The transformers' vectors side by side, float32 [V + 1, D].

        Their products with `user_vectors` are sums of the transformers' log-odds.
        """
        vectors = [member.item_vectors() for member in self.experts.transformers]
        return np.concatenate(vectors, axis=1) if vectors else None

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32] | None:
        """The transformers' vectors side by side, float32 [U, D]."""
        vectors = [member.user_vectors(sequences) for member in self.experts.transformers]
        return np.concatenate(vectors, axis=1) if vectors else None

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As `ItemRanker.tensors`."""
        return self.experts.tensors()

    def config(self) -> dict[str, Any]:
        """As `ItemRanker.config`."""
        own = {"hyper": self._stored_hyperparameters(), "chosen": self._chosen, "gate": self.gate.state().model_dump()}
        return {**own, **self.experts.config()}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """As `ItemRanker.restore`."""
        hyperparameters = cls._restored_hyperparameters(config["hyper"])
        experts = Experts.restore(
            tensors, config, habit=bool(hyperparameters.habit), popularity=hyperparameters.popularity
        )
        gate = Gate.restore(GateState.model_validate(config["gate"]))
        return cls(experts, gate, hyperparameters, config["chosen"])


def even_gate(experts: Experts) -> Gate:
    """A gate that gives the experts of `FIRST` the same weight and the others none.

    Where none of those is there, all have the same.
    """
    names = experts.names()
    weights_K = np.array([name in FIRST for name in names], dtype=np.float32)
    if not weights_K.any():
        weights_K += 1
    return Gate.even(weights_K / weights_K.sum(), facts=experts.num_facts(), repeats=experts.habit)


def _warn_of_less(sequences: Sequences, wanted: FusionConfig, whole: FusionConfig) -> None:
    """Warn where the resolved configuration `whole` has no transformers, or hardly trained ones."""
    if wanted.members and not whole.members:
        warnings.warn("fusion: no user has two events to learn from, so it has no transformers", stacklevel=3)
    epochs, afforded = wanted.epochs or EPOCHS, whole.epochs or 0
    if afforded < min(FEW_EPOCHS, epochs):
        size = f"{len(sequences.items_T):,} events and {sequences.items.num:,} items"
        message = f"fusion: budget_tflop={whole.budget_tflop:g} pays for {afforded} of {epochs} epochs of {size}."
        warnings.warn(f"{message} A larger budget takes longer and ranks better.", stacklevel=3)
