"""Sequential rules: what follows what, the weight of a pair decaying with its distance.

Kamehkhosh, Jannach & Ludewig, "A comparison of frequent pattern techniques and a deep learning method for session-based
recommendation", 2017 (rules of decayed co-occurrence); the score of an item is the sum over a user's last items, decayed the same way.

Shapes: U users · V items, rows 1 … V · T events · L last items.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.models.next_item.ranker import NEVER, ItemRanker, require_items
from recommender.sequences import Sequences

DEFAULTS: dict[str, Any] = {
    "window": 20,
    "decay": 0.7,
    "backward": 0.2,
    "read": 20,
    "read_decay": 1.3,
    "popularity_power": 0.2,
}
"""window: how far apart a pair may be · decay, read_decay: weight is distance ** -decay · backward: weight of a pair read against
the order · read: how many of the last items speak · popularity_power: counts are divided by the target's count to this power."""
SEARCHED: Space = {
    "window": Range(5, 50),
    "decay": Range(0.0, 2.0),
    "backward": Range(0.0, 1.0),
    "read": Range(5, 200, log=True),
    "read_decay": Range(0.0, 2.0),
    "popularity_power": Range(0.0, 1.0),
}


class Rules(ItemRanker):
    """Decayed co-occurrence, normalised, from the user's last items."""

    name: ClassVar[str] = "rules"

    def __init__(
        self, follows_VV: sparse.csr_matrix, popularity_V: NDArray[np.float32], hyper: Mapping[str, Any]
    ) -> None:
        self.follows_VV, self.popularity_V, self._hyper = follows_VV, popularity_V, dict(hyper)

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        hyper = {**DEFAULTS, **config}
        counts_VV = pair_counts(sequences, window=int(hyper["window"]), decay=float(hyper["decay"]))
        if hyper["backward"]:
            counts_VV = (counts_VV + float(hyper["backward"]) * counts_VV.T).tocsr()
        seen_V = np.bincount(sequences.items_T, minlength=sequences.items.num + 1).astype(np.float32)
        discount_V = np.maximum(seen_V, 1.0) ** -float(hyper["popularity_power"])
        follows_VV = (counts_VV @ sparse.diags(discount_V)).tocsr().astype(np.float32)
        return cls(follows_VV, seen_V / max(float(seen_V.sum()), 1.0), hyper)

    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        require_items(sequences, len(self.popularity_V) - 1, self.name)
        weights_UV = last_weights(sequences, read=int(self._hyper["read"]), decay=float(self._hyper["read_decay"]))
        scores_UV = np.asarray((weights_UV @ self.follows_VV).todense(), dtype=np.float32)
        scores_UV += 1e-6 * self.popularity_V
        scores_UV[:, 0] = NEVER
        return scores_UV

    def tensors(self) -> dict[str, NDArray[Any]]:
        matrix = self.follows_VV
        return {
            "indptr": matrix.indptr.astype(np.int64),
            "indices": matrix.indices.astype(np.int32),
            "data": matrix.data.astype(np.float32),
            "popularity_V": self.popularity_V.astype(np.float32),
        }

    def config(self) -> dict[str, Any]:
        return {"hyper": self._hyper}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        size = len(tensors["popularity_V"])
        matrix = sparse.csr_matrix((tensors["data"], tensors["indices"], tensors["indptr"]), shape=(size, size))
        return cls(matrix, np.asarray(tensors["popularity_V"]), config["hyper"])


def pair_counts(sequences: Sequences, *, window: int, decay: float) -> sparse.csr_matrix:
    """Sum over users of distance ** -decay for every (earlier, later) pair at most `window` apart: [V + 1, V + 1]."""
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
    """Each user's last `read` items, weighted by (1 + how many came after) ** -decay: [U, V + 1]."""
    items, num_U = sequences.last_LU(read)
    rows = np.repeat(np.arange(sequences.num_users), num_U)
    within = np.arange(int(num_U.sum())) - np.repeat(np.cumsum(num_U) - num_U, num_U)
    distance = np.repeat(num_U, num_U) - within
    weight = distance.astype(np.float32) ** -decay
    shape = (sequences.num_users, sequences.items.num + 1)
    return sparse.csr_matrix((weight, (rows, items[rows, within])), shape=shape)
