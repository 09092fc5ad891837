"""The single looks of one user, with their times, and what they amount to at any moment.

Each kind is forgotten at its own pace, so sums of one moment say nothing exact about another one. A row that is written
for serving therefore holds its last looks one by one, and a fold of later events sums all of them up anew.

Shapes: R looks · A axes · V items.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S, SECOND_US
from recommender.errors import FeatureStoreError
from recommender.matching.look_rules import FARTHEST_HALVES, KINDS, LOOK_UNIT, STRENGTH_UNIT, LookRules

ITEM = 255
"""In place of an axis: the look is at an item, and so at the item's value on every axis."""
MOST_SINGLE = 512
"""A user with more looks has none of them one by one. By hand: 7 KB beside some 18 KB of the rest of a row."""
SINGLE = np.dtype([("kind", "u1"), ("axis", "u1"), ("value", "<i4"), ("strength", "<i4"), ("time_s", "<u4")])
"""One look: its kind as a place in `KINDS`, its axis or `ITEM`, its value there, in `STRENGTH_UNIT`, since 1970."""
_MAGIC = b"LKS1"
_HEAD = struct.Struct("<4sI")

Weighed = tuple[tuple[NDArray[np.int32], ...], tuple[NDArray[np.uint32], ...]]


def none() -> NDArray[np.void]:
    """No looks at all."""
    return np.zeros(0, dtype=SINGLE)


def pack(single_R: NDArray[np.void] | None) -> bytes:
    """Pack looks. None, and no looks, are no bytes."""
    if single_R is None or not len(single_R):
        return b""
    return _HEAD.pack(_MAGIC, len(single_R)) + single_R.astype(SINGLE).tobytes()


def packed_size(packed: bytes, start: int) -> int:
    """Bytes that packed looks take from `start` on. 0 where there are none.

    Raises:
        FeatureStoreError: the value ends inside their head.
    """
    if packed[start : start + len(_MAGIC)] != _MAGIC:
        return 0
    try:
        _, count = _HEAD.unpack_from(packed, start)
    except struct.error:
        raise FeatureStoreError(
            "affinity: the value ends inside the looks; build and materialise the features again"
        ) from None
    return _HEAD.size + int(count) * SINGLE.itemsize


def unpack(packed: bytes, start: int) -> NDArray[np.void] | None:
    """Unpack what `pack` packed, without copying. None where there are none."""
    size = packed_size(packed, start)
    return np.frombuffer(packed, SINGLE, (size - _HEAD.size) // SINGLE.itemsize, start + _HEAD.size) if size else None


def weighed(
    single_R: NDArray[np.void],
    at_us: int,
    rules: LookRules,
    item_axes_VA: NDArray[np.int32],
    num_values: Sequence[int],
) -> Weighed:
    """What looks amount to at a moment, as `recommender.features.looks.looks_by_axis` computes it.

    Args:
        single_R: the looks, of the structure `SINGLE`.
        at_us: the moment, microseconds since 1970, UTC.
        rules: what each kind counts.
        item_axes_VA: index of each item's value on each axis.
        num_values: number of values on each axis. Higher indices are of later ids, and are left out.

    Returns:
        For each axis the values with a sum above zero, ascending, and the sums in `LOOK_UNIT`.
    """
    weight_K, half_life_K = (
        np.array([of.get(kind, default) for kind in KINDS], dtype=np.float64)
        for of, default in ((rules.weight, 0.0), (rules.half_life_days, 1.0))
    )
    kind_R, value_R = single_R["kind"], single_R["value"].astype(np.int64)
    halves_R = (at_us // SECOND_US - single_R["time_s"].astype(np.int64)) / DAY_S / half_life_K[kind_R]
    weight_R = weight_K[kind_R] * (single_R["strength"].astype(np.int64) / STRENGTH_UNIT)
    weight_R = weight_R * np.exp(halves_R * -float(np.log(2))) * LOOK_UNIT
    # Halves are rounded away from zero, as DuckDB rounds them.
    whole_R = np.copysign(np.floor(np.abs(weight_R) + 0.5), weight_R).astype(np.int64)
    whole_R[halves_R > FARTHEST_HALVES] = 0
    is_item_R = single_R["axis"] == ITEM
    item_R = np.where(is_item_R & (value_R < len(item_axes_VA)), value_R, 0)
    values, weights = [], []
    for axis in range(item_axes_VA.shape[1]):
        own_R = np.where(is_item_R, item_axes_VA[item_R, axis], np.where(single_R["axis"] == axis, value_R, 0))
        own_R = np.where(own_R < num_values[axis], own_R, 0)
        found, place_R = np.unique(own_R, return_inverse=True)
        sums = np.zeros(len(found), dtype=np.int64)
        np.add.at(sums, place_R, whole_R)
        kept = (found > 0) & (sums > 0)
        values.append(found[kept].astype(np.int32))
        weights.append(np.minimum(sums[kept], np.iinfo(np.uint32).max).astype(np.uint32))
    return tuple(values), tuple(weights)
