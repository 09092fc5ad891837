"""Sequential rules: which item follows which, the weight of a pair decaying with its distance.

Kamehkhosh, Jannach & Ludewig, "A comparison of frequent pattern techniques and a deep learning method for session-based
recommendation", 2017 (rules of decayed co-occurrence). An item's score is the sum over a user's last items, decayed the
same way.

Shapes: U users · V items, rows 1 … V · T events · L last items.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters, Range
from recommender.models.next_item.ranker import NEVER, ItemRanker, require_items
from recommender.sequences import Sequences

POPULARITY_WEIGHT = 1e-6
"""Weight of popularity beside the rules. It is too small to reorder items with rules and ranks those without."""


class RulesConfig(Hyperparameters):
    """Hyperparameters of the rules.

    The defaults were chosen by validation items of Amazon Beauty and ML-1M at once. Search ranges are chosen by hand.
    """

    window: Annotated[int, Range(5, 50)] = Field(
        20, ge=1, description="Largest distance between the two events of a pair."
    )
    decay: Annotated[float, Range(0.0, 2.0)] = Field(
        0.7, ge=0, description="A pair counts distance ** -decay in the fit."
    )
    backward: Annotated[float, Range(0.0, 1.0)] = Field(
        0.2, ge=0, description="Weight of a pair in reverse order, relative to one in order."
    )
    read: Annotated[int, Range(5, 200, log=True)] = Field(
        20, ge=1, description="Last items of a user whose rules are added up."
    )
    read_decay: Annotated[float, Range(0.0, 2.0)] = Field(
        1.3, ge=0, description="The n-th item from the end counts n ** -read_decay in a score."
    )
    popularity_power: Annotated[float, Range(0.0, 1.0)] = Field(
        0.2, ge=0, description="Counts are divided by the number of the target's events to this power."
    )


R = TypeVar("R", bound=RulesConfig)


class FollowingItems(ItemRanker[R]):
    """A ranker by a matrix of rules: how strongly each item suggests each other one as the next."""

    def __init__(self, follows_VV: sparse.csr_matrix, popularity_V: NDArray[np.float32], hyperparameters: R) -> None:
        self.follows_VV, self.popularity_V, self.hyperparameters = follows_VV, popularity_V, hyperparameters

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: R,
        context: FitContext,
    ) -> Self:
        """As `ItemRanker.fit`."""
        counts_VV = pair_counts(sequences, window=config.window, decay=config.decay)
        if config.backward:
            counts_VV = (counts_VV + config.backward * counts_VV.T).tocsr()
        seen_V = np.bincount(sequences.items_T, minlength=sequences.items.num + 1).astype(np.float32)
        discount_V = np.maximum(seen_V, 1.0) ** -config.popularity_power
        follows_VV = (counts_VV @ sparse.diags(discount_V)).tocsr().astype(np.float32)
        return cls(follows_VV, seen_V / max(float(seen_V.sum()), 1.0), config)

    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        """As `ItemRanker.score`."""
        require_items(sequences, len(self.popularity_V) - 1, self.name)
        config = self.hyperparameters
        weights_UV = last_weights(sequences, read=config.read, decay=config.read_decay)
        scores_UV = np.asarray((weights_UV @ self.follows_VV).todense(), dtype=np.float32)
        scores_UV += POPULARITY_WEIGHT * self.popularity_V
        scores_UV[:, 0] = NEVER
        return scores_UV

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As `ItemRanker.tensors`."""
        matrix = self.follows_VV
        return {
            "indptr": matrix.indptr.astype(np.int64),
            "indices": matrix.indices.astype(np.int32),
            "data": matrix.data.astype(np.float32),
            "popularity_V": self.popularity_V.astype(np.float32),
        }

    def config(self) -> dict[str, Any]:
        """As `ItemRanker.config`."""
        return {"hyper": self._stored_hyperparameters()}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """As `ItemRanker.restore`."""
        size = len(tensors["popularity_V"])
        matrix = sparse.csr_matrix((tensors["data"], tensors["indices"], tensors["indptr"]), shape=(size, size))
        return cls(matrix, np.asarray(tensors["popularity_V"]), cls._restored_hyperparameters(config["hyper"]))


class Rules(FollowingItems[RulesConfig]):
    """Decayed co-occurrence, read from the user's last items."""

    name: ClassVar[str] = "rules"
    Config: ClassVar[type[RulesConfig]] = RulesConfig


def pair_counts(sequences: Sequences, *, window: int, decay: float) -> sparse.csr_matrix:
    """Sum of distance ** -decay over all (earlier, later) pairs at most `window` events apart: [V + 1, V + 1]."""
    size = sequences.items.num + 1
    rows_T, items_T = sequences.rows_T(), sequences.items_T
    total = sparse.csr_matrix((size, size), dtype=np.float32)
    for distance in range(1, window + 1):
        together = rows_T[distance:] == rows_T[:-distance]
        if not together.any():
            break
        earlier, later = items_T[:-distance][together], items_T[distance:][together]
        weight = np.full(len(earlier), distance**-decay, dtype=np.float32)
        total = total + sparse.csr_matrix((weight, (earlier, later)), shape=(size, size))
    total.setdiag(0)
    total.eliminate_zeros()
    return total.tocsr()


def last_weights(sequences: Sequences, *, read: int, decay: float) -> sparse.csr_matrix:
    """Each user's last `read` items, the n-th from the end weighted by n ** -decay: [U, V + 1]."""
    items, num_U = sequences.last_LU(read)
    rows = np.repeat(np.arange(sequences.num_users), num_U)
    within = np.arange(int(num_U.sum())) - np.repeat(np.cumsum(num_U) - num_U, num_U)
    distance = np.repeat(num_U, num_U) - within
    weight = distance.astype(np.float32) ** -decay
    shape = (sequences.num_users, sequences.items.num + 1)
    return sparse.csr_matrix((weight, (rows, items[rows, within])), shape=shape)
