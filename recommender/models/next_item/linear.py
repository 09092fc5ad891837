"""Base of the rankers that consist of a few matrices: users' profiles, the cold-start ranking, saving and loading.

Shapes: U users · V items, rows 1 … V · T events.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recommender.errors import TrainingError
from recommender.models.next_item.ranker import NEVER, C, ItemRanker, require_items
from recommender.sequences import Sequences

TINY = 1e-12
"""Least divisor of a vector's length, so that an empty vector stays empty instead of becoming NaN."""
TIE_WEIGHT = np.float32(1e-6)
"""Weight of popularity beside latent factors, which score every item: it breaks ties only. Chosen by hand."""
UNRELATED_WEIGHT = np.float32(1e-4)
"""Weight of popularity beside similarities: too small to reorder items that have one, it ranks those without. Chosen by
hand."""


class MatrixRanker(ItemRanker[C]):
    """A ranker of named arrays and hyperparameters only. Users without events get the popular items."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], hyperparameters: C) -> None:
        self.arrays, self.hyperparameters = dict(arrays), hyperparameters

    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        """As `ItemRanker.score`."""
        require_items(sequences, len(self.arrays["popularity_V"]) - 1, self.name)
        scores_UV = np.array(self._warm(sequences), dtype=np.float32)
        scores_UV[sequences.lengths_U == 0] = self.arrays["popularity_V"]
        scores_UV[:, 0] = NEVER
        return scores_UV

    @abstractmethod
    def _warm(self, sequences: Sequences) -> NDArray[np.float32]:
        """Scores of users with events, [U, V + 1]."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As `ItemRanker.tensors`."""
        return self.arrays

    def config(self) -> dict[str, Any]:
        """As `ItemRanker.config`."""
        return {"hyper": self._stored_hyperparameters()}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        """As `ItemRanker.restore`."""
        arrays = {name: np.asarray(value) for name, value in tensors.items()}
        return cls(arrays, cls._restored_hyperparameters(config["hyper"]))


@contextmanager
def diverging(ranker: str, hyperparameter: str) -> Iterator[None]:
    """Turn a fit by `implicit` that diverged into an error that names the hyperparameter to lower.

    Raises:
        TrainingError: the factors are not finite.
    """
    from implicit.recommender_base import ModelFitError

    try:
        yield
    except ModelFitError as error:
        raise TrainingError(f"{ranker}: the fit diverged ({error}). Try a lower {hyperparameter}.") from error


def popularity(sequences: Sequences) -> NDArray[np.float32]:
    """Share of events of each item: float32 [V + 1]."""
    seen_V = np.bincount(sequences.items_T, minlength=sequences.items.num + 1).astype(np.float32)
    return np.asarray(seen_V / max(float(seen_V.sum()), 1.0), dtype=np.float32)


def profiles(sequences: Sequences, *, half_life: float = 0.0) -> sparse.csr_matrix:
    """Each user's items, [U, V + 1]: 1, or with `half_life` (in events) 2 ** -(number of later events / half_life)."""
    weight_T = np.ones(len(sequences.items_T), dtype=np.float32)
    if half_life:
        after_T = np.repeat(sequences.lengths_U, sequences.lengths_U) - 1 - sequences.places_T()
        weight_T = np.exp2(-after_T / half_life).astype(np.float32)
    shape = (sequences.num_users, sequences.items.num + 1)
    summed = sparse.csr_matrix((weight_T, (sequences.rows_T(), sequences.items_T)), shape=shape)
    summed.data = np.minimum(summed.data, 1.0)
    return summed


def rows_of_unit_length(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Each row divided by its Euclidean length. Empty rows stay empty."""
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(length, TINY)).dot(matrix).tocsr().astype(np.float32)


def largest_of_each_row(matrix: sparse.csr_matrix, most: int) -> sparse.csr_matrix:
    """At most `most` entries of each row, the largest ones."""
    matrix = matrix.tocsr()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], np.diff(matrix.indptr))
    kept = order[place < most]
    return sparse.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)


def packed(name: str, matrix: sparse.csr_matrix) -> dict[str, NDArray[Any]]:
    """A sparse matrix as named arrays, for `unpacked`."""
    matrix = matrix.tocsr()
    return {
        f"{name}.indptr": matrix.indptr.astype(np.int64),
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.data": matrix.data.astype(np.float32),
        f"{name}.columns": np.array([matrix.shape[1]], dtype=np.int64),
    }


def unpacked(name: str, arrays: Mapping[str, NDArray[Any]]) -> sparse.csr_matrix:
    """The sparse matrix that `packed` turned into arrays."""
    parts = [arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr")]
    shape = (len(parts[2]) - 1, int(arrays[f"{name}.columns"][0]))
    return sparse.csr_matrix((parts[0], parts[1], parts[2]), shape=shape)
