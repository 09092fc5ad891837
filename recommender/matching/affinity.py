"""Cross features of user and campaign, computed by one function for the training set and for every request.

A user's row holds, for each axis of the taxonomy, a sparse vector of what the user bought there. A campaign holds the
sparse vector of its items over the same axes. Their join is the user's affinity to this campaign. It needs neither a
table of pairs nor a trained model, so it works for a campaign that was created a minute ago.

All sums run over whole numbers (lines, cents, weights in 1/4096) held in float64. They are exact in any order, so one
request and the batch of a training set give the same bits.

Shapes: A axes · n values of an axis that the user bought · C campaigns · M measures · K cross features.
"""

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import FeatureStoreError
from recommender.matching.open_campaigns import OpenCampaigns

AXES = ("product", "product_type", "category", "department", "brand", "manufacturer")
"""Axes of the taxonomy. Product is the item itself. The others are columns of the canonical table `items`."""
MEASURES = ("lines", "discounted", "coupon", "lines_90", "lines_30", "coupon_90")
"""Counts of the user's purchase lines: all, with the shop's discount, with a coupon, in the last 90 and 30 days, and
with a coupon in the last 90 days."""
WEIGHT_UNIT = 4096
"""Weights are whole multiples of 1/4096. A power of two keeps the division exact, and 12 bits fit into 16."""
PRIOR_PAIRS, PRIOR_RATE = 4.0, 0.1
"""A user's rate in a campaign type is shrunk to `PRIOR_RATE` by `PRIOR_PAIRS` pairs. Chosen by hand: 0.1 is near
Complete Journey's 0.12."""
PRIOR_LINES = 10.0
"""Lines without a coupon added to the coupon rate, so that a single line with a coupon is no rate of 1. Chosen by
hand."""

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
"""Names of what `join` returns, in order. The product axis has no weights, since each of its values is one item."""

_MAGIC, _MAGIC_WIDE = b"AFF3", b"AFF4"
"""Money in 32 bits, or in 64 where a user's does not fit: 43 million units of a currency with cents."""
_BEFORE = {b"AFF1": _MAGIC, b"AFF2": _MAGIC_WIDE}
"""The same of values from before users had open campaigns, which are still read."""
_NARROW = np.iinfo(np.uint32)
_HEADER = struct.Struct("<4s8sfI6I")
"""Magic number, taxonomy version, months, number of campaign types, number of values on each axis."""


@dataclass(frozen=True, eq=False)
class UserAffinity:
    """The purchases of one user on every axis, as known at one moment."""

    months: float
    """Length of the user's known history in units of 30 days, 0 without one."""
    values: tuple[NDArray[np.int32], ...]
    """For each axis [n]: indices into the catalogue's `axis_values`, ascending, never 0."""
    counts: tuple[NDArray[np.uint16], ...]
    """For each axis [M, n]: counts of purchase lines."""
    cents: tuple[NDArray[np.integer[Any]], ...]
    """For each axis [n]: money paid, in hundredths of the currency unit, of up to 64 bits."""
    types: NDArray[np.uint32]
    """Codes of the campaign types that the user was targeted with, see `type_code`."""
    targeted: NDArray[np.uint16]
    """Number of campaigns of each type."""
    redeemed: NDArray[np.uint16]
    """Number of these campaigns that the user took up."""
    open: OpenCampaigns = field(default_factory=OpenCampaigns.none)

    def past_of_type(self, type_code: int, campaign_code: int) -> tuple[int, int]:
        """Count the other campaigns of a campaign's type: those that the user was targeted with, and took up."""
        same = self.types == type_code
        targeted, redeemed = int(self.targeted[same].sum()), int(self.redeemed[same].sum())
        place = self.open.place(campaign_code)
        if place is not None and self.open.counted_O[place]:
            return targeted - 1, redeemed - int(self.open.redeemed_O[place])
        return targeted, redeemed

    def taken_up(self, campaign_codes_C: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Mark the campaigns that the user has taken up and whose window was open then, bool [C]."""
        return np.isin(campaign_codes_C, self.open.codes_O[self.open.redeemed_O > 0])


def type_code(campaign_type: str) -> int:
    """Return the CRC-32 that stands for a campaign type in a user's vector.

    It needs no vocabulary, so a new type invalidates no stored vector.
    """
    return zlib.crc32(campaign_type.encode())


def pack_user(user: UserAffinity, taxonomy_version: str) -> bytes:
    """Pack the `affinity` value of a user's row. `taxonomy_version` names the taxonomy that the indices belong to."""
    sizes = [len(values) for values in user.values]
    wide = any(((cents < _NARROW.min) | (cents > _NARROW.max)).any() for cents in user.cents)
    magic, money = (_MAGIC_WIDE, "<i8") if wide else (_MAGIC, "<u4")
    parts = [_HEADER.pack(magic, bytes.fromhex(taxonomy_version), user.months, len(user.types), *sizes)]
    for values, cents, counts in zip(user.values, user.cents, user.counts, strict=True):
        parts += [values.astype("<i4").tobytes(), cents.astype(money).tobytes(), counts.astype("<u2").tobytes()]
    parts += [
        user.types.astype("<u4").tobytes(),
        user.targeted.astype("<u2").tobytes(),
        user.redeemed.astype("<u2").tobytes(),
        user.open.pack(),
    ]
    return b"".join(parts)


def unpack_user(packed: bytes, taxonomy_version: str) -> UserAffinity:
    """Unpack what `pack_user` packed, without copying.

    Raises:
        FeatureStoreError: the value is not a packed affinity, is truncated, or belongs to another taxonomy.
    """
    magic = _BEFORE.get(packed[:4], packed[:4])
    if len(packed) < _HEADER.size or magic not in (_MAGIC, _MAGIC_WIDE):
        raise FeatureStoreError(
            f"affinity: a value must start with {_MAGIC!r} (got {packed[:4]!r}); "
            "build and materialise the features again"
        )
    _, version, months, num_types, *sizes = _HEADER.unpack_from(packed)
    if version.hex() != taxonomy_version:
        raise FeatureStoreError(
            f"affinity: the value belongs to taxonomy {version.hex()}, the catalogue to {taxonomy_version}; "
            "materialise both from the same features"
        )
    # Each bought value takes an int32 index, 4 or 8 bytes of cents and a uint16 for each measure; each type a code and
    # two uint16.
    money = "<i8" if magic == _MAGIC_WIDE else "<u4"
    expected = _HEADER.size + sum(sizes) * (4 + np.dtype(money).itemsize + 2 * len(MEASURES)) + 8 * num_types
    has_open, start = packed[:4] not in _BEFORE, expected
    expected += OpenCampaigns.packed_size(packed, start) if has_open else 0
    if len(packed) != expected:
        raise FeatureStoreError(
            f"affinity: the value must have {expected} bytes by its header (got {len(packed)}); "
            "build and materialise the features again"
        )
    offset = _HEADER.size
    values, cents, counts = [], [], []

    def take(dtype: str, count: int) -> NDArray[Any]:
        nonlocal offset
        array = np.frombuffer(packed, dtype, count, offset)
        offset += array.nbytes
        return array

    for size in sizes:
        values.append(take("<i4", size))
        cents.append(take(money, size))
        counts.append(take("<u2", size * len(MEASURES)).reshape(len(MEASURES), size))
    return UserAffinity(
        months=months,
        values=tuple(values),
        counts=tuple(counts),
        cents=tuple(cents),
        types=take("<u4", num_types),
        targeted=take("<u2", num_types),
        redeemed=take("<u2", num_types),
        open=OpenCampaigns.unpack(packed, start) if has_open else OpenCampaigns.none(),
    )


@dataclass(frozen=True, eq=False)
class Incidence:
    """Item vectors of some campaigns over every axis, prepared once to be joined with many users."""

    present: tuple[NDArray[np.uint8], ...]
    """For each axis [values of the axis, C]: 1 where the campaign has an item with this value."""
    weights: tuple[NDArray[np.uint16], ...]
    """For each axis but the product, like `present`: share of the value's items that the campaign has, in 1/4096."""
    num_values: NDArray[np.float64]
    """[A, C]: how many values of the axis the campaign has."""
    types: NDArray[np.uint32]
    """[C]: codes of the campaigns' types."""
    codes: NDArray[np.uint32]
    """[C]: codes of the campaigns' identifiers."""


def join(user: UserAffinity, campaigns: Incidence) -> NDArray[np.float32]:
    """Compute a user's affinity to campaigns: float32 [C, K], columns `CROSS_NAMES`, money in currency units."""
    num_campaigns = len(campaigns.types)
    width = len(_AXIS_NAMES)
    out = np.zeros((len(CROSS_NAMES), num_campaigns))
    # Amounts become amounts a month: of the known history, or of the last three months or month where a measure covers
    # these. Cents become currency units. A history under a month counts as one, so that it is not extrapolated.
    months = max(user.months, 1.0)
    divisor = np.array([months, months, months, min(months, 3.0), 1.0, min(months, 3.0), months * 100.0])[:, None]
    totals = user.counts[0].sum(axis=1, dtype=np.float64)
    next_weighted = width * len(AXES)
    for axis in range(len(AXES)):
        values = user.values[axis]
        measured = np.empty((len(_SUMMED) + 1, len(values)))
        measured[:-2] = user.counts[axis]
        measured[-2] = user.cents[axis]
        measured[-1] = 1.0
        sums = measured @ campaigns.present[axis][values].astype(np.float64)
        block = out[axis * width : (axis + 1) * width]
        block[: len(_SUMMED)] = sums[:-1] / divisor
        block[-5] = sums[0] / max(totals[0], 1.0)  # lines_share
        block[-4] = sums[2] / max(totals[2], 1.0)  # coupon_share
        block[-3] = sums[-1] / np.maximum(campaigns.num_values[axis], 1.0)  # campaign_coverage
        block[-2] = sums[-1] / max(len(values), 1)  # user_coverage
        block[-1] = sums[2] / (sums[0] + PRIOR_LINES)  # coupon_rate
        if axis:
            weights = campaigns.weights[axis - 1][values].astype(np.float64)
            weighted = (measured[[0, 2, 3]] @ weights) / WEIGHT_UNIT
            out[next_weighted : next_weighted + len(_WEIGHTED_NAMES)] = weighted / divisor[[0, 2, 3]]
            next_weighted += len(_WEIGHTED_NAMES)
    _fill_same_type(user, campaigns, out[-3:])
    return np.ascontiguousarray(out.T, dtype=np.float32)


def _fill_same_type(user: UserAffinity, campaigns: Incidence, out: NDArray[np.float64]) -> None:
    """Fill [3, C]: the user's past with other campaigns of the same type, as targeted, redeemed and the shrunk rate."""
    same = (user.types[:, None] == campaigns.types).astype(np.float64)
    out[0] = user.targeted.astype(np.float64) @ same
    out[1] = user.redeemed.astype(np.float64) @ same
    if len(user.open.codes_O):
        own = (user.open.codes_O[:, None] == campaigns.codes).astype(np.float64)
        own *= user.open.counted_O[:, None]
        out[0] -= own.sum(axis=0)
        out[1] -= user.open.redeemed_O.astype(np.float64) @ own
    out[2] = (out[1] + PRIOR_PAIRS * PRIOR_RATE) / (out[0] + PRIOR_PAIRS)
