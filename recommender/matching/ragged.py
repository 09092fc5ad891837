"""Ragged arrays: rows of different lengths, one after the other, with the offsets at which each begins."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Offsets [rows + 1] of rows with these lengths."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    lengths.cumsum(out=offsets[1:])
    return offsets


def places_of(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return offsets[r] to offsets[r + 1] (excluded) of each row r, one range after the other."""
    lengths = np.diff(offsets)[rows]
    starts = offsets[rows] - offsets_of(lengths)[:-1]
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts, lengths), dtype=np.int64)
