"""Training targets and the history before each of them, as rows of a batch.

Shapes: T events · U users · M targets · L last items.
"""

import numpy as np
from numpy.typing import NDArray

from recommender.sequences import Sequences


def targets(sequences: Sequences) -> NDArray[np.int64]:
    """Events of users with an earlier event: int64 [M]."""
    first = np.zeros(len(sequences.items_T) + 1, dtype=np.bool_)
    first[sequences.offsets[:-1]] = True
    return np.flatnonzero(~first[:-1])


def users_of(sequences: Sequences, events_M: NDArray[np.int64]) -> NDArray[np.int64]:
    """The user of each event: int64 [M]."""
    return np.searchsorted(sequences.offsets, events_M, side="right") - 1


def before(
    sequences: Sequences, ends_M: NDArray[np.int64], users_M: NDArray[np.int64], length: int
) -> NDArray[np.int64]:
    """A user's last `length` items before the event `end`, the latest one last, 0 on the left: int64 [M, L]."""
    places_ML = ends_M[:, None] - length + np.arange(length)
    real_ML = places_ML >= sequences.offsets[users_M][:, None]
    return np.where(real_ML, sequences.items_T[np.where(real_ML, places_ML, 0)], 0).astype(np.int64)


def shuffled(rows: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows in random order, in batches of nearly equal size, at most `size`."""
    if not len(rows):
        return []
    return np.array_split(rng.permutation(rows), int(np.ceil(len(rows) / size)))
