"""What a ranker sees: N pairs of user and campaign, from the training set or from one request, through one function.

Shapes: N pairs · F features · U distinct users among the pairs · B baskets in all · T basket lines in all · P portrait features.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import FeatureStoreError
from recommender.matching import affinity
from recommender.matching.catalogue import Catalogue

MAX_BASKETS = 64
"""A user's row holds at most this many baskets, the last ones."""
DAY_US = 86_400_000_000
_MAGIC = b"HIS1"
_HEADER = struct.Struct("<4s8sII")


@dataclass(frozen=True, eq=False)
class Histories:
    """U users' last baskets, ragged, each user's oldest first. Lines of one basket have no order."""

    basket_offsets: NDArray[np.int64]
    """[U + 1]: user u has the baskets basket_offsets[u] … basket_offsets[u + 1]."""
    line_offsets: NDArray[np.int64]
    """[B + 1]: basket b has the lines line_offsets[b] … line_offsets[b + 1]."""
    items_T: NDArray[np.int32]
    """Row of the item in the catalogue; 0 is an unknown item."""
    age_days_B: NDArray[np.float32]
    """Days from the basket to the decision, > 0."""
    spend_B: NDArray[np.float32]
    """Money paid for the basket, currency units."""


@dataclass(frozen=True, eq=False)
class Labels:
    """What happened to N pairs, as known at a boundary. NaN: not known (yet)."""

    redeemed_N: NDArray[np.float32]
    """1 took the campaign up, 0 did not."""
    spend_N: NDArray[np.float32]
    """Currency units spent on the campaign's items in its window."""
    excess_N: NDArray[np.float32]
    """`spend_N` minus the user's own usual spend on these items in a window of that length."""


@dataclass(frozen=True, eq=False)
class Examples:
    """N pairs, ready to be scored."""

    catalogue: Catalogue
    campaigns_N: NDArray[np.int32]
    """Row of the campaign in the catalogue."""
    users_N: NDArray[np.int32]
    """Row of the user in `histories`: pairs of one user share it."""
    features_NF: NDArray[np.float32]
    """Portrait of the user, features of the campaign, their affinity. NaN: the source does not say."""
    feature_names: tuple[str, ...]
    histories: Histories


@dataclass(frozen=True, eq=False)
class Shopper:
    """One user as the feature store holds them."""

    user_id: str
    portrait_P: NDArray[np.float32]
    portrait_names: tuple[str, ...]
    affinity: bytes
    history: bytes
    feature_time_us: int
    """The moment up to which the features know the user, µs since 1970, UTC."""


def build(
    shoppers: Sequence[Shopper],
    users_N: NDArray[np.int32],
    campaigns_N: NDArray[np.int32],
    catalogue: Catalogue,
    decided_us_N: NDArray[np.int64],
) -> Examples:
    """Pair shoppers (rows `users_N`) with campaigns (rows `campaigns_N`) at their decisions (µs since 1970, UTC).

    Raises:
        FeatureStoreError: a shopper's vectors are damaged or speak of another taxonomy than the catalogue, shoppers have
            different portraits, or one shopper has pairs at different moments.
        ValueError: `users_N`, `campaigns_N` and `decided_us_N` have different lengths.
    """
    if not len(users_N) == len(campaigns_N) == len(decided_us_N):
        # A single moment would be spread over all pairs in silence, and one moment a user only fits with one campaign.
        lengths = f"{len(users_N)} users, {len(campaigns_N)} campaigns and {len(decided_us_N)} moments"
        raise ValueError(f"a pair is one user, one campaign and one moment (got {lengths})")
    portrait_names = shoppers[0].portrait_names if shoppers else ()
    for shopper in shoppers:
        if shopper.portrait_names is not portrait_names and shopper.portrait_names != portrait_names:
            raise FeatureStoreError(f"user {shopper.user_id}: another portrait than user {shoppers[0].user_id}")
    campaigns_N, users_N = campaigns_N.astype(np.int32), users_N.astype(np.int32)
    names = (*portrait_names, *catalogue.campaign_feature_names, *affinity.CROSS_NAMES)
    num_portrait, num_campaign = len(portrait_names), len(catalogue.campaign_feature_names)
    features_NF = np.empty((len(users_N), len(names)), dtype=np.float32)
    if len(users_N):
        features_NF[:, :num_portrait] = np.stack([shopper.portrait_P for shopper in shoppers])[users_N]
    features_NF[:, num_portrait : num_portrait + num_campaign] = catalogue.campaign_features_CG[campaigns_N]
    _fill_cross(features_NF[:, num_portrait + num_campaign :], shoppers, users_N, campaigns_N, catalogue)
    decided_us_U = _decisions(shoppers, users_N, decided_us_N)
    histories = unpack_histories([shopper.history for shopper in shoppers], decided_us_U, catalogue.taxonomy_version)
    return Examples(
        catalogue=catalogue,
        campaigns_N=campaigns_N,
        users_N=users_N,
        features_NF=features_NF,
        feature_names=names,
        histories=histories,
    )


def _fill_cross(
    out_NK: NDArray[np.float32],
    shoppers: Sequence[Shopper],
    users_N: NDArray[np.int32],
    campaigns_N: NDArray[np.int32],
    catalogue: Catalogue,
) -> None:
    if not len(users_N):
        return
    rows, columns_N = np.unique(campaigns_N, return_inverse=True)
    incidence = catalogue.incidence(rows)
    order = np.argsort(users_N, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(users_N[order]), 1)) + 1
    start = 0
    for end in ends.tolist():
        pairs = order[start:end]
        user = affinity.unpack_user(shoppers[users_N[pairs[0]]].affinity, catalogue.taxonomy_version)
        out_NK[pairs] = affinity.join(user, incidence)[columns_N[pairs]]
        start = end


def _decisions(
    shoppers: Sequence[Shopper], users_N: NDArray[np.int32], decided_us_N: NDArray[Any]
) -> NDArray[np.int64]:
    """The moment of each shopper's pairs; a shopper without a pair is seen at the features' own time."""
    decided_us_U = np.array([shopper.feature_time_us for shopper in shoppers], dtype=np.int64)
    decided_us_U[users_N] = decided_us_N
    if (decided_us_U[users_N] != decided_us_N).any():
        worst = shoppers[int(users_N[np.flatnonzero(decided_us_U[users_N] != decided_us_N)[0]])]
        raise FeatureStoreError(f"user {worst.user_id}: pairs at different moments need one shopper each")
    return decided_us_U


def pack_history(
    times_us_B: NDArray[np.int64],
    spend_B: NDArray[np.float32],
    lines_B: NDArray[np.int32],
    items_T: NDArray[np.int32],
    taxonomy_version: str,
) -> bytes:
    """The `history` value of a user's row: the last `MAX_BASKETS` baskets, oldest first, `lines_B` lines each."""
    if len(times_us_B) > MAX_BASKETS:
        items_T = items_T[int(lines_B[:-MAX_BASKETS].sum()) :]
        times_us_B, spend_B, lines_B = times_us_B[-MAX_BASKETS:], spend_B[-MAX_BASKETS:], lines_B[-MAX_BASKETS:]
    header = _HEADER.pack(_MAGIC, bytes.fromhex(taxonomy_version), len(times_us_B), len(items_T))
    arrays = ((times_us_B, "<i8"), (spend_B, "<f4"), (lines_B, "<i4"), (items_T, "<i4"))
    return header + b"".join(np.asarray(array).astype(dtype).tobytes() for array, dtype in arrays)


def unpack_histories(packed_U: Sequence[bytes], decided_us_U: NDArray[np.int64], taxonomy_version: str) -> Histories:
    """The baskets of U users, with their ages at the users' decisions (µs since 1970, UTC).

    Raises:
        FeatureStoreError: a value is damaged or speaks of another taxonomy.
    """
    taxonomy = bytes.fromhex(taxonomy_version)
    num_baskets, times, spend, lines, items = [], [], [], [], []
    for packed in packed_U:
        if len(packed) < _HEADER.size or packed[:4] != _MAGIC:
            raise FeatureStoreError("history: not a packed history; build and materialise the features again")
        _, version, baskets, num_lines = _HEADER.unpack_from(packed)
        if version != taxonomy:
            raise FeatureStoreError(
                f"history: speaks of taxonomy {version.hex()}, the catalogue has {taxonomy_version}; materialise them together"
            )
        if len(packed) != _HEADER.size + 16 * baskets + 4 * num_lines:
            raise FeatureStoreError("history: contradicts its own lengths; build and materialise the features again")
        num_baskets.append(baskets)
        place = _HEADER.size
        times.append(np.frombuffer(packed, "<i8", baskets, place))
        spend.append(np.frombuffer(packed, "<f4", baskets, place + 8 * baskets))
        lines.append(np.frombuffer(packed, "<i4", baskets, place + 12 * baskets))
        items.append(np.frombuffer(packed, "<i4", num_lines, place + 16 * baskets))
    baskets_U = np.array(num_baskets, dtype=np.int64)
    age_us_B = np.repeat(decided_us_U, baskets_U) - _joined(times, np.int64)
    return Histories(
        basket_offsets=np.concatenate([[0], np.cumsum(baskets_U)]).astype(np.int64),
        line_offsets=np.concatenate([[0], np.cumsum(_joined(lines, np.int64))]).astype(np.int64),
        items_T=_joined(items, np.int32),
        age_days_B=(age_us_B / DAY_US).astype(np.float32),
        spend_B=_joined(spend, np.float32),
    )


def _joined(arrays: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
