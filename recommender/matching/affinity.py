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
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import FeatureStoreError
from recommender.matching.looks import LOOKED, Looks, looked
from recommender.matching.numbering import NAME_BYTES, OWN_BYTES, Numbering
from recommender.matching.open_campaigns import HIDDEN, TAKEN_UP, OpenCampaigns

AXES = ("product", "product_type", "category", "department", "brand", "manufacturer")
"""Axes of the taxonomy. Product is the item itself. The others are columns of the canonical table `items`."""
MEASURES = ("lines", "discounted", "coupon", "lines_90", "lines_30", "coupon_90")
"""Counts of the user's purchase lines: all, with the shop's discount, with a coupon, in the last 90 and 30 days, and
with a coupon in the last 90 days."""
WEIGHT_UNIT = 4096
"""Weights are whole multiples of 1/4096. A power of two keeps the division exact, and 12 bits fit into 16."""
USER_PRIOR_PAIRS, USER_PRIOR_RATE = 4.0, 0.1
"""A user's rate in a campaign type is shrunk to `USER_PRIOR_RATE` by `USER_PRIOR_PAIRS` pairs. Chosen by hand: 0.1 is
near Complete Journey's 0.12."""
PRIOR_LINES = 10.0
"""Lines without a coupon added to the coupon rate, so that a single line with a coupon is no rate of 1. Chosen by
hand."""

_SUMMED = ("lines", "discounted", "coupon", "lines_90", "lines_30", "coupon_90", "spend")
_AXIS_NAMES = (
    *(f"{name}_per_month" for name in _SUMMED),
    *("lines_share", "coupon_share", "campaign_coverage", "user_coverage", "coupon_rate"),
)
_LINES, _COUPON = _SUMMED.index("lines"), _SUMMED.index("coupon")
_WEIGHTED = [_LINES, _COUPON, _SUMMED.index("lines_90")]
_WEIGHTED_NAMES = ("weighted_lines", "weighted_coupon", "weighted_lines_90")
CROSS_NAMES: tuple[str, ...] = (
    *(f"affinity__{axis}__{name}" for axis in AXES for name in _AXIS_NAMES),
    *(f"affinity__{axis}__{name}" for axis in AXES[1:] for name in _WEIGHTED_NAMES),
    *("affinity__same_type__targeted", "affinity__same_type__redeemed", "affinity__same_type__rate"),
)
"""Names of what `join` returns, in order. The product axis has no weights, since each of its values is one item."""

LOOK_NAMES: tuple[str, ...] = tuple(f"affinity__{axis}__{name}" for axis in AXES for name in ("looked", "looked_share"))
"""Names of what `look_affinities` returns: on each axis weighted looks at the campaign's values, and their share."""

_MAGIC, _MAGIC_WIDE = b"AFF5", b"AFF6"
"""Money in 32 bits, or in 64 where a user's does not fit: 43 million units of a currency with cents."""
_ONE_STATE = {b"AFF3": _MAGIC, b"AFF4": _MAGIC_WIDE}
"""The same of values from before ids were append-only, which name one state of them and are still read."""
_NOTHING_OPEN = {b"AFF1": _MAGIC, b"AFF2": _MAGIC_WIDE}
"""The same of values from before users had open campaigns, too."""
_NARROW = np.iinfo(np.uint32)
_INDEX, _COUNT, _CODE, _WIDE_CENTS = np.dtype("<i4"), np.dtype("<u2"), np.dtype("<u4"), np.dtype("<i8")
"""Types of the packed numbers. Made once: a request unpacks forty arrays."""
_HEADER = struct.Struct(f"<4s{NAME_BYTES}sfI6I")
"""Magic number, name of the ids (`Numbering.name`), months, number of campaign types, number of values on each axis."""
_OLD_HEADER = struct.Struct(f"<4s{OWN_BYTES}sfI6I")


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
    looks: Looks = field(default_factory=Looks.none)

    @property
    def has_taken_up(self) -> bool:
        """Whether the user has taken up, or hidden, any campaign whose window was open then."""
        return bool(self.open.redeemed_O.any())

    def taken_up(self, campaign_codes_C: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Mark the campaigns that the user has taken up and whose window was open then, bool [C]."""
        return np.isin(campaign_codes_C, self.open.codes_O[(self.open.redeemed_O & TAKEN_UP) > 0])

    def hidden(self, campaign_codes_C: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Mark the campaigns that are not to be shown to the user, bool [C]."""
        return np.isin(campaign_codes_C, self.open.codes_O[(self.open.redeemed_O & HIDDEN) > 0])


def type_code(campaign_type: str) -> int:
    """Return the CRC-32 that stands for a campaign type in a user's vector.

    It needs no vocabulary, so a new type invalidates no stored vector.
    """
    return zlib.crc32(campaign_type.encode())


def pack_user(user: UserAffinity, taxonomy_version: str) -> bytes:
    """Pack the `affinity` value of a user's row. `taxonomy_version`: `Numbering.name` of the indices' ids."""
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
        user.looks.pack(),
    ]
    return b"".join(parts)


def unpack_user(packed: bytes, numbering: Numbering) -> UserAffinity:
    """Unpack what `pack_user` packed, without copying, and without indices that `numbering` does not know yet.

    Raises:
        FeatureStoreError: the value is not a packed affinity, is truncated, or was packed with other ids.
    """
    given = packed[:4]
    magic = _ONE_STATE.get(given) or _NOTHING_OPEN.get(given) or given
    header = _HEADER if magic == given else _OLD_HEADER
    if len(packed) < header.size or magic not in (_MAGIC, _MAGIC_WIDE):
        raise FeatureStoreError(
            f"affinity: a value must start with {_MAGIC!r} (got {packed[:4]!r}); "
            "build and materialise the features again"
        )
    _, name, months, num_types, *sizes = header.unpack_from(packed)
    lacks_some = numbering.lacks_some(name, "affinity")
    # Each bought value takes an int32 index, 4 or 8 bytes of cents and a uint16 for each measure; each type a code and
    # two uint16.
    money = _WIDE_CENTS if magic == _MAGIC_WIDE else _CODE
    expected = header.size + sum(sizes) * (4 + money.itemsize + 2 * len(MEASURES)) + 8 * num_types
    has_open, start = given not in _NOTHING_OPEN, expected
    expected += OpenCampaigns.packed_size(packed, start) if has_open else 0
    looks_at = expected
    expected += Looks.packed_size(packed, looks_at)
    if len(packed) != expected:
        raise FeatureStoreError(
            f"affinity: the value must have {expected} bytes by its header (got {len(packed)}); "
            "build and materialise the features again"
        )
    at, cent_bytes, num_measures = header.size, money.itemsize, len(MEASURES)
    values: list[NDArray[np.int32]] = []
    cents: list[NDArray[np.integer[Any]]] = []
    counts: list[NDArray[np.uint16]] = []
    for axis, size in enumerate(sizes):
        indices = np.frombuffer(packed, _INDEX, size, at)
        at += 4 * size
        # They ascend, so those that the catalogue lacks are the last ones.
        end = int(np.searchsorted(indices, numbering.num_values[axis])) if lacks_some else size
        values.append(indices[:end])
        paid: NDArray[np.integer[Any]] = np.frombuffer(packed, money, size, at)
        cents.append(paid[:end])
        at += cent_bytes * size
        counts.append(np.frombuffer(packed, _COUNT, size * num_measures, at).reshape(num_measures, size)[:, :end])
        at += 2 * num_measures * size
    return UserAffinity(
        months=months,
        values=tuple(values),
        counts=tuple(counts),
        cents=tuple(cents),
        types=np.frombuffer(packed, _CODE, num_types, at),
        targeted=np.frombuffer(packed, _COUNT, num_types, at + 4 * num_types),
        redeemed=np.frombuffer(packed, _COUNT, num_types, at + 6 * num_types),
        open=OpenCampaigns.unpack(packed, start) if has_open else OpenCampaigns.none(),
        looks=Looks.unpack(packed, looks_at, numbering.num_values if lacks_some else None),
    )


@dataclass(frozen=True, eq=False)
class Incidence:
    """Item vectors of some campaigns over every axis, prepared once to be joined with many users."""

    present_VC: NDArray[np.uint8]
    """[values of all axes, C]: 1 where the campaign has an item with this value. One axis after the other."""
    weights_VC: NDArray[np.uint16]
    """[values of all axes but the product, C]: share of the value's items that the campaign has, in 1/4096."""
    starts: NDArray[np.int32]
    """[A + 1]: axis a has the rows starts[a] to starts[a + 1], excluded, of `present_VC`."""
    num_values: NDArray[np.float64]
    """[A, C]: how many values of the axis the campaign has."""
    types: NDArray[np.uint32]
    """[C]: codes of the campaigns' types."""
    codes: NDArray[np.uint32]
    """[C]: codes of the campaigns' identifiers."""

    @cached_property
    def present(self) -> tuple[NDArray[np.uint8], ...]:
        """For each axis its rows of `present_VC`."""
        return tuple(np.split(self.present_VC, self.starts[1:-1]))

    @cached_property
    def sizes(self) -> list[int]:
        """Number of values of each axis."""
        return [int(size) for size in np.diff(self.starts)]


@dataclass(frozen=True, eq=False)
class Matched:
    """What one user bought of some campaigns' items, as exact sums."""

    user: UserAffinity
    campaigns: Incidence
    sums_ASC: NDArray[np.float64]
    """[A, S, C]: on each axis, what the user bought of the campaign's values: the measures, cents, number of values."""
    weighted_AWC: NDArray[np.float64]
    """[A - 1, W, C]: on each axis but the product, weighted lines, lines with a coupon and lines of 90 days."""
    past_2C: NDArray[np.float64]
    """[2, C]: other campaigns of the same type that the user was targeted with, and those that the user took up."""


def match(user: UserAffinity, campaigns: Incidence) -> Matched:
    """Sum what a user bought of campaigns' items.

    Raises:
        IndexError: the user has a value that the catalogue does not know.
    """
    # All axes at once: a user has some hundred values, so the number of calls is what costs.
    num_campaigns, sizes = len(campaigns.types), [len(values) for values in user.values]
    for axis, values in enumerate(user.values):
        if len(values) and values[-1] >= campaigns.sizes[axis]:
            raise IndexError(f"affinity: value {values[-1]} of axis {AXES[axis]}, which has {campaigns.sizes[axis]}")
    measured_SV = np.empty((len(_SUMMED) + 1, sum(sizes)))
    np.concatenate(user.counts, axis=1, out=measured_SV[: len(MEASURES)])
    np.concatenate(user.cents, out=measured_SV[-2])
    measured_SV[-1] = 1.0
    rows_V = np.concatenate(user.values) + np.repeat(campaigns.starts[:-1], sizes)
    present_VC = campaigns.present_VC[rows_V].astype(np.float64)
    first = sizes[0]
    weights_VC = campaigns.weights_VC[rows_V[first:] - campaigns.starts[1]].astype(np.float64)
    weighted_WV = measured_SV[_WEIGHTED, first:]
    sums_ASC = np.empty((len(AXES), len(measured_SV), num_campaigns))
    weighted_AWC = np.empty((len(AXES) - 1, len(_WEIGHTED), num_campaigns))
    start = 0
    for axis, size in enumerate(sizes):
        end = start + size
        np.matmul(measured_SV[:, start:end], present_VC[start:end], out=sums_ASC[axis])
        if axis:
            own = slice(start - first, end - first)
            np.matmul(weighted_WV[:, own], weights_VC[own], out=weighted_AWC[axis - 1])
        start = end
    return Matched(user, campaigns, sums_ASC, weighted_AWC, _past_of_type(user, campaigns))


def affinities(matched: Matched) -> NDArray[np.float32]:
    """A user's affinity to campaigns: float32 [C, K], columns `CROSS_NAMES`, money in currency units."""
    user, sums_ASC = matched.user, matched.sums_ASC
    num_axes, num_campaigns = len(AXES), sums_ASC.shape[2]
    out = np.empty((len(CROSS_NAMES), num_campaigns))
    # Amounts become amounts a month: of the known history, or of the last three months or month where a measure covers
    # these. Cents become currency units. A history under a month counts as one, so that it is not extrapolated.
    months = max(user.months, 1.0)
    divisor = np.array([months, months, months, min(months, 3.0), 1.0, min(months, 3.0), months * 100.0])[:, None]
    lines, coupon = user.counts[0][[_LINES, _COUPON]].sum(axis=1, dtype=np.float64).tolist()
    num_bought = np.array([max(len(values), 1) for values in user.values], dtype=np.float64)[:, None]
    block = out[: num_axes * len(_AXIS_NAMES)].reshape(num_axes, len(_AXIS_NAMES), num_campaigns)
    np.divide(sums_ASC[:, :-1], divisor, out=block[:, : len(_SUMMED)])
    block[:, -5] = sums_ASC[:, _LINES] / max(lines, 1.0)  # lines_share
    block[:, -4] = sums_ASC[:, _COUPON] / max(coupon, 1.0)  # coupon_share
    block[:, -3] = sums_ASC[:, -1] / np.maximum(matched.campaigns.num_values, 1.0)  # campaign_coverage
    block[:, -2] = sums_ASC[:, -1] / num_bought  # user_coverage
    block[:, -1] = sums_ASC[:, _COUPON] / (sums_ASC[:, _LINES] + PRIOR_LINES)  # coupon_rate
    weighted = out[num_axes * len(_AXIS_NAMES) : -3].reshape(matched.weighted_AWC.shape)
    np.divide(matched.weighted_AWC / WEIGHT_UNIT, divisor[_WEIGHTED], out=weighted)
    targeted_C, redeemed_C = out[-3:-1] = matched.past_2C
    out[-1] = (redeemed_C + USER_PRIOR_PAIRS * USER_PRIOR_RATE) / (targeted_C + USER_PRIOR_PAIRS)
    return np.ascontiguousarray(out.T, dtype=np.float32)


def cross_names(portrait_names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the cross features that come with a portrait: those of looks only where the source knows of looks."""
    return (*CROSS_NAMES, *LOOK_NAMES) if LOOKED in portrait_names else CROSS_NAMES


def look_affinities(matched: Matched) -> NDArray[np.float32]:
    """What a user looked at of campaigns' values: float32 [C, L], columns `LOOK_NAMES`."""
    return looked(matched.user.looks, matched.campaigns.present)


def _past_of_type(user: UserAffinity, campaigns: Incidence) -> NDArray[np.float64]:
    """The user's past with other campaigns of each one's type, as targeted and redeemed, float64 [2, C]."""
    same = (user.types[:, None] == campaigns.types).astype(np.float64)
    out = np.empty((2, len(campaigns.types)))
    out[0] = user.targeted.astype(np.float64) @ same
    out[1] = user.redeemed.astype(np.float64) @ same
    if len(user.open.codes_O):
        own = (user.open.codes_O[:, None] == campaigns.codes).astype(np.float64)
        own *= user.open.counted_O[:, None]
        out[0] -= own.sum(axis=0)
        out[1] -= (user.open.redeemed_O & TAKEN_UP).astype(np.float64) @ own
    return out
