"""What a user looked at without buying it: sparse vectors over the axes of the taxonomy, packed behind the affinity.

What a look is, and what it counts, is said in `look_rules`. Weights are whole multiples of 1/4096, so that sums do not
depend on their order. A row that is written for serving also holds the looks one by one (`single_looks`).

Shapes: A axes · n values of an axis that the user looked at · C campaigns.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recommender.errors import FeatureStoreError
from recommender.matching import single_looks
from recommender.matching.look_rules import LOOK_UNIT

LOOKED = "interest__looked"
"""Portrait feature: the sum of a user's weights. A portrait that has it comes with cross features of looks."""
_MAGIC = b"LOK1"
_INDEX, _WEIGHT = np.dtype("<i4"), np.dtype("<u4")


@dataclass(frozen=True, eq=False)
class Looks:
    """The looks of one user on every axis, as known at one moment."""

    values: tuple[NDArray[np.int32], ...]
    """For each axis [n]: indices into the catalogue's `axis_values`, ascending, never 0. No axis at all: no looks."""
    weights: tuple[NDArray[np.uint32], ...]
    """For each axis [n]: in units of 1/4096 of a look."""
    single: NDArray[np.void] | None = None
    """The looks one by one, of the structure `single_looks.SINGLE`. None: there are none, or they are not known."""

    @property
    def is_whole(self) -> bool:
        """Whether all looks are known one by one."""
        return self.single is not None or not any(len(values) for values in self.values)

    @classmethod
    @cache
    def none(cls) -> Self:
        """The looks of a user who looked at nothing, or of a source that does not know."""
        return cls((), ())

    def pack(self) -> bytes:
        """Pack the looks. No looks are no bytes, so that a value of a source without them stays as it is."""
        single = single_looks.pack(self.single)
        if not any(len(values) for values in self.values):
            return single
        sizes = [len(values) for values in self.values]
        parts = [_MAGIC, struct.pack(f"<I{len(sizes)}I", len(sizes), *sizes)]
        for values, weights in zip(self.values, self.weights, strict=True):
            parts += [values.astype(_INDEX).tobytes(), weights.astype(_WEIGHT).tobytes()]
        return b"".join([*parts, single])

    @classmethod
    def packed_size(cls, packed: bytes, start: int) -> int:
        """Bytes that packed looks take from `start` on. 0 where there are none.

        Raises:
            FeatureStoreError: the value ends inside their head.
        """
        size = _size_of_sums(packed, start)
        return size + single_looks.packed_size(packed, start + size)

    @classmethod
    def unpack(cls, packed: bytes, start: int, num_values: Sequence[int] | None = None) -> Self:
        """Unpack what `pack` packed, without copying, and without indices from `num_values` of each axis on."""
        single = single_looks.unpack(packed, start + _size_of_sums(packed, start))
        if packed[start : start + len(_MAGIC)] != _MAGIC:
            return cls.none() if single is None else cls((), (), single)
        sizes = _sizes(packed, start)
        at = start + len(_MAGIC) + 4 + 4 * len(sizes)
        values, weights = [], []
        for axis, size in enumerate(sizes):
            indices = np.frombuffer(packed, _INDEX, size, at)
            at += _INDEX.itemsize * size
            end = size if num_values is None else int(np.searchsorted(indices, num_values[axis]))
            values.append(indices[:end])
            weights.append(np.frombuffer(packed, _WEIGHT, size, at)[:end])
            at += _WEIGHT.itemsize * size
        return cls(tuple(values), tuple(weights), single)


def looked(looks: Looks, present: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Looks at campaigns' values, and their share of all looks: float32 [C, 2 A], both for each axis in turn.

    Args:
        looks: of one user.
        present: for each axis [values, C]: 1 where the campaign has an item with this value.
    """
    num_campaigns = present[0].shape[1]
    out = np.zeros((2 * len(present), num_campaigns))
    for axis, (values, weights) in enumerate(zip(looks.values, looks.weights, strict=True)):
        own = weights.astype(np.float64)
        sums_C = own @ present[axis][values].astype(np.float64)
        out[2 * axis] = sums_C / LOOK_UNIT
        out[2 * axis + 1] = sums_C / max(float(own.sum()), 1.0)
    return np.ascontiguousarray(out.T, dtype=np.float32)


def _size_of_sums(packed: bytes, start: int) -> int:
    if packed[start : start + len(_MAGIC)] != _MAGIC:
        return 0
    sizes = _sizes(packed, start)
    return len(_MAGIC) + 4 + 4 * len(sizes) + sum(sizes) * (_INDEX.itemsize + _WEIGHT.itemsize)


def _sizes(packed: bytes, start: int) -> tuple[int, ...]:
    at = start + len(_MAGIC)
    try:
        (num_axes,) = struct.unpack_from("<I", packed, at)
        return struct.unpack_from(f"<{num_axes}I", packed, at + 4)
    except (struct.error, MemoryError):
        raise FeatureStoreError(
            "affinity: the value ends inside the looks; build and materialise the features again"
        ) from None
