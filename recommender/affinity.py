"""The cross of user and campaign: one function for the training set and for every request.

A user's row holds one sparse vector: for each item the user bought, what the purchases amounted to. A campaign holds the set of
its items. Seen along an axis of the taxonomy (product, product type, …), the join of the two is the user's affinity to
*this* campaign. It needs neither a pair table nor a trained model, so a campaign created a minute ago works at once.

Every measure is a whole number (money in hundredths), and sums are taken in float64, so they are exact: the training set and the
handler get the same bits, however many campaigns are joined at a time.

Shapes: n items the user bought · M measures · T campaign types · C campaigns · K cross features.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recommender.errors import CorruptFileError

if TYPE_CHECKING:
    from recommender.catalogue import Catalogue

AXES = ("product", "product_type", "category", "department", "brand", "manufacturer")
"""Levels of the taxonomy, as columns of `items` ("product" is the item itself)."""

MEASURES = (
    "lines",
    "spend",
    "discount_lines",
    "coupon_lines",
    "coupon_discount",
    "lines_30d",
    "lines_90d",
    "coupon_lines_90d",
)
"""What is summed for each item: basket lines, money in hundredths, lines with a shop's or a coupon's discount, and recent ones."""

CROSS_NAMES = (
    *(f"affinity__{axis}__{measure}_per_month" for axis in AXES for measure in MEASURES),
    *(f"affinity__{axis}__{measure}_share" for axis in AXES for measure in MEASURES),
    *(f"affinity__{axis}__matched" for axis in AXES),
    *(f"affinity__{axis}__coverage" for axis in AXES),
    "affinity__type__targeted",
    "affinity__type__participated",
    "affinity__type__participation_rate",
)

MIN_TENURE_DAYS = 15.0
"""A younger user's rates are taken over this many days, so that one basket is not a habit."""
PRIOR_RATE, PRIOR_WEIGHT = 0.1, 3.0
"""A participation rate is shrunk as if the user had seen PRIOR_WEIGHT campaigns before, PRIOR_RATE of them taken up."""

_MAGIC = b"AFF1"
_HEADER = struct.Struct("<4sI8sfII")
_DAYS_A_MONTH = 30.0


@dataclass(frozen=True, eq=False)
class Affinity:
    """What one user bought, as known at the feature time."""

    items_n: NDArray[np.int32]
    """Rows of the items in the catalogue, ascending."""
    values_nM: NDArray[np.float64]
    """Whole numbers, in the order of MEASURES."""
    tenure_days: float
    """Days from the user's first event to the feature time."""
    targeted_T: NDArray[np.float64]
    """Campaigns of each type the user was targeted by."""
    participated_T: NDArray[np.float64]
    """Campaigns of each type the user took up."""


def pack_user(affinity: Affinity, taxonomy: str) -> bytes:
    """One user's affinity as bytes; `taxonomy` is the `Catalogue.taxonomy_version` that its item rows refer to."""
    n, types = len(affinity.items_n), len(affinity.targeted_T)
    body = b"".join(
        (
            np.ascontiguousarray(affinity.items_n, "<i4").tobytes(),
            np.ascontiguousarray(affinity.values_nM, "<f4").tobytes(),
            np.ascontiguousarray(affinity.targeted_T, "<f4").tobytes(),
            np.ascontiguousarray(affinity.participated_T, "<f4").tobytes(),
        )
    )
    header = (bytes.fromhex(taxonomy[:16]), affinity.tenure_days, n, types)
    return _HEADER.pack(_MAGIC, zlib.crc32(body), *header) + body


def unpack_user(blob: bytes, taxonomy: str) -> Affinity:
    """The affinity that `pack_user` wrote.

    Raises:
        CorruptFileError: the bytes are damaged, or refer to another taxonomy than `taxonomy`.
    """
    try:
        magic, checksum, version, tenure_days, n, types = _HEADER.unpack_from(blob)
    except struct.error:
        raise CorruptFileError(f"affinity: {len(blob)} bytes are no affinity; materialise the features again") from None
    body = memoryview(blob)[_HEADER.size :]
    if magic != _MAGIC or len(body) != 4 * (n + n * len(MEASURES) + 2 * types) or zlib.crc32(body) != checksum:
        raise CorruptFileError("affinity: the bytes are damaged; materialise the features again")
    if version != bytes.fromhex(taxonomy[:16]):
        raise CorruptFileError(
            f"affinity: written for taxonomy {version.hex()}, read with {taxonomy[:16]}; materialise the features again"
        )
    items_n = np.frombuffer(body, "<i4", n)
    rest = np.frombuffer(body, "<f4", offset=4 * n).astype(np.float64)
    values, types_at = rest[: n * len(MEASURES)], n * len(MEASURES)
    return Affinity(
        items_n=items_n,
        values_nM=values.reshape(n, len(MEASURES)),
        tenure_days=tenure_days,
        targeted_T=rest[types_at : types_at + types],
        participated_T=rest[types_at + types :],
    )


def cross(affinity: Affinity, catalogue: "Catalogue", campaigns_C: NDArray[np.int32]) -> NDArray[np.float32]:
    """Join one user with C campaigns: float32 [C, K], columns named by CROSS_NAMES.

    Along each axis: the measures of the user's purchases whose value is among the campaign's, per month and as a share of all
    the user's purchases; how many of the campaign's values the user bought, and what part of the campaign that is. An axis that
    the source lacks gives zeros.
    """
    num_campaigns, num_measures = len(campaigns_C), len(MEASURES)
    months = max(affinity.tenure_days, MIN_TENURE_DAYS) / _DAYS_A_MONTH
    total_M = affinity.values_nM.sum(axis=0)
    inverse_total_M = np.divide(1.0, total_M, out=np.zeros(num_measures), where=total_M > 0)
    matched_CAM = np.zeros((num_campaigns, len(AXES), num_measures))
    counts_CA = np.zeros((num_campaigns, len(AXES)))
    coverage_CA = np.zeros((num_campaigns, len(AXES)))
    values_nA = catalogue.item_axes_VA[affinity.items_n]
    for axis in range(len(AXES)):
        member_Cv = catalogue.members[axis][campaigns_C]
        values_n = values_nA[:, axis]
        matched_CAM[:, axis] = member_Cv[:, values_n].astype(np.float64) @ affinity.values_nM
        counts_CA[:, axis] = member_Cv[:, np.unique(values_n)].sum(axis=1)
        size_C = catalogue.member_counts[axis][campaigns_C]
        coverage_CA[:, axis] = counts_CA[:, axis] / np.maximum(size_C, 1)
    type_C = catalogue.campaign_type_C[campaigns_C]
    targeted_C, participated_C = affinity.targeted_T[type_C], affinity.participated_T[type_C]
    rate_C = (participated_C + PRIOR_RATE * PRIOR_WEIGHT) / (targeted_C + PRIOR_WEIGHT)
    columns = (
        (matched_CAM / months).reshape(num_campaigns, -1),
        (matched_CAM * inverse_total_M).reshape(num_campaigns, -1),
        counts_CA,
        coverage_CA,
        np.stack((targeted_C, participated_C, rate_C), axis=1),
    )
    return np.concatenate(columns, axis=1).astype(np.float32)
