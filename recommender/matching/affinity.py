"""The cross of user and campaign: one function for the training set and for every request.

A user's row holds, for each axis of the taxonomy, a sparse vector of what the user bought there; a campaign holds the sparse
vector of its items over the same axes. Their join is the user's affinity to *this* campaign. It needs neither a pair table
nor a trained model, so a campaign created a minute ago works at once.

All sums run over whole numbers (lines, cents, weights in 1/4096) held in float64, so they are exact in any order: one request
and the batch of a training set give the same bits.

Shapes: A axes · n values of an axis that the user touched · C campaigns · M measures · K cross features.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import FeatureStoreError

AXES = ("product", "product_type", "category", "department", "brand", "manufacturer")
MEASURES = ("lines", "discounted", "coupon", "lines_90", "lines_30", "coupon_90")
"""Purchase lines of the user: all, with the shop's discount, with a coupon, and the same in the last days."""
WEIGHT_UNIT = 4096
PRIOR_PAIRS, PRIOR_RATE = 4.0, 0.1
"""A user's rate in a campaign type is shrunk to `PRIOR_RATE` by this many pairs."""

_SUMMED = ("lines", "discounted", "coupon", "lines_90", "lines_30", "coupon_90", "spend")
_AXIS_NAMES = (
    *(f"{name}_per_month" for name in _SUMMED),
    *("lines_share", "coupon_share", "campaign_coverage", "user_coverage", "coupon_rate"),
)
_WEIGHTED_NAMES = ("weighted_lines", "weighted_coupon", "weighted_lines_90")
CROSS_NAMES: tuple[str, ...] = (
    *(f"affinity__{axis}__{name}" for axis in AXES for name in _AXIS_NAMES),
    *(f"affinity__{axis}__{name}" for axis in AXES[1:] for name in _WEIGHTED_NAMES),
    *("affinity__same_type__targeted", "affinity__same_type__redeemed", "affinity__same_type__rate"),
)

_MAGIC = b"AFF1"
_HEADER = struct.Struct("<4s8sfI6I")


@dataclass(frozen=True, eq=False)
class UserAffinity:
    """What one user bought on every axis, as known at one moment."""

    months: float
    """Length of the user's known history in 30 days; 0: none."""
    values: tuple[NDArray[np.int32], ...]
    """A arrays [n]: indices into the catalogue's `axis_values`, ascending, never 0."""
    counts: tuple[NDArray[np.uint16], ...]
    """A arrays [M, n] of purchase lines."""
    cents: tuple[NDArray[np.uint32], ...]
    """A arrays [n]: money paid, in hundredths of the currency unit."""
    types: NDArray[np.uint32]
    """CRC-32 of the names of the campaign types that the user was targeted with."""
    targeted: NDArray[np.uint16]
    redeemed: NDArray[np.uint16]


def type_code(campaign_type: str) -> int:
    """What stands for a campaign type in a user's vector: it needs no vocabulary, so a new type invalidates nothing."""
    return zlib.crc32(campaign_type.encode())


def pack_user(user: UserAffinity, taxonomy_version: str) -> bytes:
    """The `affinity` value of a user's row; `taxonomy_version` says which indices it speaks of."""
    sizes = [len(values) for values in user.values]
    parts = [_HEADER.pack(_MAGIC, bytes.fromhex(taxonomy_version), user.months, len(user.types), *sizes)]
    for values, cents, counts in zip(user.values, user.cents, user.counts, strict=True):
        parts += [values.astype("<i4").tobytes(), cents.astype("<u4").tobytes(), counts.astype("<u2").tobytes()]
    parts += [
        user.types.astype("<u4").tobytes(),
        user.targeted.astype("<u2").tobytes(),
        user.redeemed.astype("<u2").tobytes(),
    ]
    return b"".join(parts)


def unpack_user(packed: bytes, taxonomy_version: str) -> UserAffinity:
    """The user that `pack_user` packed, without copying.

    Raises:
        FeatureStoreError: it is no packed affinity, is truncated, or speaks of another taxonomy.
    """
    if len(packed) < _HEADER.size or packed[:4] != _MAGIC:
        raise FeatureStoreError("affinity: not a packed user; build and materialise the features again")
    _, version, months, num_types, *sizes = _HEADER.unpack_from(packed)
    if version.hex() != taxonomy_version:
        raise FeatureStoreError(
            f"affinity: speaks of taxonomy {version.hex()}, the catalogue has {taxonomy_version}; materialise them together"
        )
    if len(packed) != _HEADER.size + sum(sizes) * (8 + 2 * len(MEASURES)) + 8 * num_types:
        raise FeatureStoreError("affinity: contradicts its own lengths; build and materialise the features again")
    place = _HEADER.size
    values, cents, counts = [], [], []

    def take(dtype: str, count: int) -> NDArray[Any]:
        nonlocal place
        array = np.frombuffer(packed, dtype, count, place)
        place += array.nbytes
        return array

    for size in sizes:
        values.append(take("<i4", size))
        cents.append(take("<u4", size))
        counts.append(take("<u2", size * len(MEASURES)).reshape(len(MEASURES), size))
    return UserAffinity(
        months=months,
        values=tuple(values),
        counts=tuple(counts),
        cents=tuple(cents),
        types=take("<u4", num_types),
        targeted=take("<u2", num_types),
        redeemed=take("<u2", num_types),
    )


@dataclass(frozen=True, eq=False)
class Incidence:
    """The item vectors of some campaigns over every axis, laid out for the join: made once, joined with many users."""

    present: tuple[NDArray[np.uint8], ...]
    """A arrays [values of the axis, C]: 1 where the campaign has an item with this value."""
    weights: tuple[NDArray[np.uint16], ...]
    """A - 1 arrays like `present`, without the product axis: share of the value's items that the campaign has, in 1/4096."""
    num_values: NDArray[np.float64]
    """[A, C]: how many values of the axis the campaign has."""
    types: NDArray[np.uint32]
    """[C] codes of the campaigns' types."""


def join(user: UserAffinity, campaigns: Incidence) -> NDArray[np.float32]:
    """The user's affinity to campaigns that are laid out: float32 [C, K], columns `CROSS_NAMES`, money in currency units."""
    num_campaigns = len(campaigns.types)
    width = len(_AXIS_NAMES)
    out = np.zeros((len(CROSS_NAMES), num_campaigns))
    months = max(user.months, 1.0)
    per = np.array([months, months, months, min(months, 3.0), 1.0, min(months, 3.0), months * 100.0])[:, None]
    totals = user.counts[0].sum(axis=1, dtype=np.float64)
    place = width * len(AXES)
    for axis in range(len(AXES)):
        values = user.values[axis]
        measured = np.empty((len(_SUMMED) + 1, len(values)))
        measured[:-2] = user.counts[axis]
        measured[-2] = user.cents[axis]
        measured[-1] = 1.0
        sums = measured @ campaigns.present[axis][values].astype(np.float64)
        block = out[axis * width : (axis + 1) * width]
        block[: len(_SUMMED)] = sums[:-1] / per
        block[-5] = sums[0] / max(totals[0], 1.0)
        block[-4] = sums[2] / max(totals[2], 1.0)
        block[-3] = sums[-1] / np.maximum(campaigns.num_values[axis], 1.0)
        block[-2] = sums[-1] / max(len(values), 1)
        block[-1] = sums[2] / (sums[0] + 10.0)
        if axis:
            weights = campaigns.weights[axis - 1][values].astype(np.float64)
            weighted = (measured[[0, 2, 3]] @ weights) / WEIGHT_UNIT
            out[place : place + len(_WEIGHTED_NAMES)] = weighted / per[[0, 2, 3]]
            place += len(_WEIGHTED_NAMES)
    _same_type(user, campaigns, out[-3:])
    return np.ascontiguousarray(out.T, dtype=np.float32)


def _same_type(user: UserAffinity, campaigns: Incidence, out: NDArray[np.float64]) -> None:
    """The user's past with campaigns of the same type: targeted, redeemed, and the shrunk rate."""
    same = (user.types[:, None] == campaigns.types).astype(np.float64)
    out[0] = user.targeted.astype(np.float64) @ same
    out[1] = user.redeemed.astype(np.float64) @ same
    out[2] = (out[1] + PRIOR_PAIRS * PRIOR_RATE) / (out[0] + PRIOR_PAIRS)
