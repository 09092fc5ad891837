"""The one interface of every next-item ranker: fit on sequences, score all items for users, give vectors, save and load.

Shapes: U users · T events · V items, rows 1 … V (row 0 is no item) · D width of a vector.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.errors import BundleError
from recommender.sequences import Sequences

NEVER = np.float32(-np.inf)
"""The score of row 0, and of items that a ranker cannot say anything about."""


class ItemRanker(ABC):
    """A trained ranker of items for users. Construction is by `fit` or `restore`, never by hand."""

    name: ClassVar[str]
    scores_are_log_odds: ClassVar[bool] = False
    """True: softmax of a row of `score` is the probability of the next item."""
    trains_on_gpu: ClassVar[bool] = False

    @classmethod
    def dials(cls, sequences: Sequences, config: Mapping[str, Any]) -> dict[str, Any]:
        """Every dial as a fit on these sequences takes it: the module's `DEFAULTS`, and `config` above them."""
        return {**import_module(cls.__module__).DEFAULTS, **config}

    @classmethod
    @abstractmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        """Train on the users' events.

        `held_out_U`: each user's next item after `sequences` (0: none), int32 [U]; a ranker chooses by it what it would
        otherwise guess (when to stop, how to mix) and never learns parameters of items or users from it. None: what
        `chosen` of an earlier fit said comes with `config`, or the defaults hold.

        Raises:
            TrainingError: the loss stopped being finite, or memory ran out.
            DeviceError: the context's device is absent.
        """

    @classmethod
    def fits(
        cls, sequences: Sequences, *, held_out_U: NDArray[np.int32] | None, context: FitContext
    ) -> Callable[[Mapping[str, Any]], Self]:
        """`fit` for many configurations of one ranker on the same sequences: work that they share may be done once."""
        return lambda config: cls.fit(sequences, held_out_U=held_out_U, config=config, context=context)

    @abstractmethod
    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        """Scores of all items as each user's next one, float32 [U, V + 1], higher is better; row 0 is -inf.

        Items already seen are scored like all others. A user without events gets the cold path. The same input gives the
        same bits.
        """

    def chosen(self) -> dict[str, Any]:
        """What `held_out_U` decided, as a config for another fit of the same ranker."""
        return {}

    def item_vectors(self) -> NDArray[np.float32] | None:
        """float32 [V + 1, D]; None where the ranker has none."""
        return None

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32] | None:
        """float32 [U, D], in the space of `item_vectors`; None where the ranker has none."""
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
        """The ranker that `tensors()` and `config()` came from, for scoring on CPU."""


def require_items(sequences: Sequences, num_items: int, name: str) -> None:
    """Raises BundleError where `sequences` speak of other items than the `num_items` that the ranker `name` was fitted on."""
    if sequences.items.num != num_items:
        raise BundleError(
            f"{name}: the vocabulary has {sequences.items.num} items, the weights rank {num_items}. They are of different "
            "fits; train again, or bring the events to the ranker's own vocabulary."
        )
    items_T = sequences.items_T
    bad = np.flatnonzero((items_T < 1) | (items_T > num_items))
    if len(bad):
        raise BundleError(f"{name}: event {int(bad[0])} has item row {int(items_T[bad[0]])}; rows are 1 … {num_items}.")
