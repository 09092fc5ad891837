"""A next-item ranker around a network: trained in epochs, popular items for users that the network cannot score.

Shapes: U users · V items, rows 1 … V (row 0 is padding) · M rows of a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.loop import Sum, reproducible, seed_of
from recommender.errors import BundleError
from recommender.models.next_item.epochs import fit_epochs
from recommender.models.next_item.network import N, Network, Size
from recommender.models.next_item.ranker import NEVER, ItemRanker, require_items
from recommender.sequences import Sequences
from recommender.sequences.ranks import USERS_A_BATCH

MIN_STEPS = 1900
"""Fewest steps of a fit whose epochs are not given.

It lies just below 30 x 64 = 1,920: the steps of the flagship's 30 epochs where its batch is a 64th of an epoch. So a
small set is trained on for about as many steps as a large one."""
PREFIX = "model."
"""Prefix of the network's tensors in a bundle."""

LossOfBatch = Callable[[Any, Sequences, NDArray[np.int64], np.random.Generator], Sum]
"""A network, the sequences, a batch and its random numbers -> the loss, as `Network.loss`."""


class NeuralRanker(ItemRanker[N]):
    """A network and its scores."""

    scores_are_log_odds: ClassVar[bool] = True
    trains_on_gpu: ClassVar[bool] = True
    network: ClassVar[type[Network[Any]]]

    def __init__(
        self,
        model: Network[N],
        size: Size,
        popularity_V: NDArray[np.float32],
        hyperparameters: N,
        chosen: Mapping[str, Any],
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.popularity_V = popularity_V
        self.hyperparameters = hyperparameters
        self._size, self._chosen = size, dict(chosen)

    @classmethod
    def resolved(cls, config: N, sequences: Sequences) -> N:
        """`config` with `min_steps`: 0 where epochs were given, else `MIN_STEPS`."""
        if config.min_steps is not None:
            return config
        given = "epochs" in config.model_fields_set
        return config.model_copy(update={"min_steps": 0 if given else MIN_STEPS})

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: N,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`."""
        return cls._train(sequences, held_out_U, cls.resolved(config, sequences), context, cls.network.loss)

    @classmethod
    def _train(
        cls,
        sequences: Sequences,
        held_out_U: NDArray[np.int32] | None,
        config: N,
        context: FitContext,
        loss: LossOfBatch,
    ) -> Self:
        """A ranker whose network is trained with this loss. `config` must be resolved."""
        size = Size.of(sequences)
        with reproducible(context) as device:
            torch.manual_seed(seed_of(context.seed, "weights", 0))
            model = cls.network(size, config)
            model.observe(sequences)
            model = model.to(device)
            with model.compiled():
                chosen = fit_epochs(
                    model,
                    sequences,
                    held_out_U,
                    loss_of_batch=lambda batch, rng: loss(model, sequences, batch, rng),
                    config=config,
                    context=context,
                    phase=cls.name,
                )
        seen_V = np.bincount(sequences.items_T, minlength=size.items + 1).astype(np.float32)
        return cls(model.cpu(), size, seen_V, config, chosen)

    def chosen(self) -> dict[str, Any]:
        """As `ItemRanker.chosen`."""
        return dict(self._chosen)

    @torch.inference_mode()
    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        """As `ItemRanker.score`.

        Raises:
            BundleError: the sequences have other items or users than those that the ranker was fitted on.
        """
        self.require_known(sequences)
        scores_UV = np.empty((sequences.num_users, self._size.items + 1), dtype=np.float32)
        scored_U = self.model.can_score(sequences)
        scores_UV[~scored_U] = np.log1p(self.popularity_V)
        users = np.flatnonzero(scored_U)
        for first in range(0, len(users), USERS_A_BATCH):
            batch = users[first : first + USERS_A_BATCH]
            scores_UV[batch] = self.model.scores(sequences.take(batch)).float().numpy()
        scores_UV[:, 0] = NEVER
        return scores_UV

    def require_known(self, sequences: Sequences) -> None:
        """Check that sequences have the items and users that the ranker was fitted on.

        Raises:
            BundleError: the vocabulary is another one, or a user row is out of range.
        """
        require_items(sequences, self._size.items, self.name)
        users_U = sequences.users_U
        if users_U is not None and len(users_U) and int(users_U.max()) >= self._size.users:
            raise BundleError(
                f"{self.name}: user row {int(users_U.max())} is none of the {self._size.users} users of the fit. "
                "Give a new user row -1."
            )

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As `ItemRanker.tensors`."""
        state = {f"{PREFIX}{name}": value.numpy() for name, value in self.model.state_dict().items()}
        return {**state, "popularity_V": self.popularity_V}

    def config(self) -> dict[str, Any]:
        """As `ItemRanker.config`."""
        return {"hyper": self._stored_hyperparameters(), "chosen": self._chosen, "size": asdict(self._size)}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """As `ItemRanker.restore`."""
        size, hyperparameters = Size(**config["size"]), cls._restored_hyperparameters(config["hyper"])
        with torch.random.fork_rng(devices=[]):
            model = cls.network(size, hyperparameters)
        state = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
        model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        return cls(model, size, np.asarray(tensors["popularity_V"]), hyperparameters, config["chosen"])
