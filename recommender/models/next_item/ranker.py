"""The interface of every next-item ranker: fit on sequences, score all items for users, give vectors, save and load.

Shapes: U users · T events · V items, rows 1 … V (row 0 is padding) · D width of a vector.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters
from recommender.errors import BundleError
from recommender.sequences import Sequences

NEVER = np.float32(-np.inf)
"""The score of row 0, and of items that a ranker cannot rank."""

C = TypeVar("C", bound=Hyperparameters)
"""A ranker's own configuration."""


class ItemRanker(ABC, Generic[C]):
    """A trained ranker of items for users. It is built by `fit` or `restore`, never directly."""

    name: ClassVar[str]
    Config: ClassVar[type[Hyperparameters]]
    """The class of the ranker's hyperparameters, always `C`."""
    scores_are_log_odds: ClassVar[bool] = False
    """True: the softmax of a row of `score` is the probability of the next item."""
    trains_on_gpu: ClassVar[bool] = False
    encodes_order: ClassVar[bool] = False
    """True: `user_vectors` are an encoder's states of the events in their order."""
    hyperparameters: C

    @classmethod
    def resolved(cls, config: C, sequences: Sequences) -> C:
        """`config` as a fit on these sequences uses it: what is None and taken from the data has its value."""
        return config

    @classmethod
    @abstractmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: C,
        context: FitContext,
    ) -> Self:
        """Train on the users' events.

        Args:
            sequences: the users' events.
            held_out_U: each user's next item after `sequences` (0: none), int32 [U]. A ranker uses it only to choose
                (when to stop, how to weight experts) and never to learn parameters of items or users. None: `config`
                holds what `chosen` of an earlier fit returned, or the defaults apply.
            config: the hyperparameters.
            context: seed, device, checkpoints and progress.

        Raises:
            TrainingError: the loss is not finite, or memory ran out.
            DeviceError: this machine does not have the context's device.
        """

    @classmethod
    def fits(
        cls, sequences: Sequences, *, held_out_U: NDArray[np.int32] | None, context: FitContext
    ) -> Callable[[C], Self]:
        """`fit` as a function of the configuration, for many fits on the same sequences. They may share work."""
        return lambda config: cls.fit(sequences, held_out_U=held_out_U, config=config, context=context)

    @abstractmethod
    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        """Scores of all items as each user's next one, float32 [U, V + 1], higher is better.

        Row 0 is -inf. Items that a user already had are scored like all others. A user without events gets the
        cold-start ranking. The same input gives the same bits.

        Raises:
            BundleError: the sequences have other items than those that the ranker was fitted on.
        """

    def chosen(self) -> dict[str, Any]:
        """Hyperparameters that the fit chose by `held_out_U`, for another fit without held-out items."""
        return {}

    def item_vectors(self) -> NDArray[np.float32] | None:
        """Vectors of the items, float32 [V + 1, D]. None where the ranker has none."""
        return None

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32] | None:
        """Vectors of users in the space of `item_vectors`, float32 [U, D]. None where the ranker has none."""
        return None

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Everything numeric that `restore` needs."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything else that `restore` needs, as JSON values."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """The ranker that `tensors()` and `config()` came from, for scoring on a CPU."""

    def _stored_hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters as JSON values, for `config`."""
        return self.hyperparameters.model_dump(mode="json")

    @classmethod
    def _restored_hyperparameters(cls, stored: Mapping[str, Any]) -> C:
        """The hyperparameters that `_stored_hyperparameters` came from."""
        return cast(C, cls.Config.model_validate(stored))


def require_items(sequences: Sequences, num_items: int, name: str) -> None:
    """Check that sequences have the items that a ranker was fitted on.

    Raises:
        BundleError: the vocabulary is of another size, or an event's item row is out of range.
    """
    if sequences.items.num != num_items:
        raise BundleError(
            f"{name}: the vocabulary has {sequences.items.num} items, the weights rank {num_items}. They belong to "
            "different fits: train again, or map the events to the ranker's own vocabulary."
        )
    items_T = sequences.items_T
    bad = np.flatnonzero((items_T < 1) | (items_T > num_items))
    if len(bad):
        raise BundleError(
            f"{name}: event {int(bad[0])} has item row {int(items_T[bad[0]])}; rows must be 1 … {num_items}."
        )
