"""Inputs of a ranker: pairs of user and campaign, built by one function for the training set and for a request.

Shapes: N pairs · F features · U distinct users among the pairs · B baskets in all · T basket lines in all · P portrait
features · K cross features.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_US
from recommender.errors import FeatureStoreError
from recommender.matching import affinity
from recommender.matching.affinity import Matched
from recommender.matching.catalogue import Catalogue
from recommender.matching.horizon import Horizon
from recommender.matching.numbering import NAME_BYTES, OWN_BYTES, Numbering
from recommender.matching.open_campaigns import OpenCampaigns
from recommender.matching.rings import Rings

MAX_BASKETS = 64
"""A user's row holds at most this many baskets, the last ones. Chosen by hand: over a year of a weekly shopper."""
_MAGIC = b"HIS2"
_HEADER = struct.Struct(f"<4s{NAME_BYTES}sII")
"""Magic number, name of the ids (`Numbering.name`), number of baskets, number of lines."""
_OLD_MAGIC = b"HIS1"
"""Of values from before ids were append-only, which name one state of them and are still read."""
_OLD_HEADER = struct.Struct(f"<4s{OWN_BYTES}sII")


@dataclass(frozen=True, eq=False)
class Histories:
    """The last baskets of users as ragged arrays, each user's oldest first. Lines of one basket have no order."""

    basket_offsets: NDArray[np.int64]
    """[U + 1]: user u has the baskets basket_offsets[u] to basket_offsets[u + 1], excluded."""
    line_offsets: NDArray[np.int64]
    """[B + 1]: basket b has the lines line_offsets[b] to line_offsets[b + 1], excluded."""
    items_T: NDArray[np.int32]
    """Row of the item in the catalogue, 0 for an unknown item."""
    age_days_B: NDArray[np.float32]
    """Days from the basket to the decision, > 0."""
    spend_B: NDArray[np.float32]
    """Money paid for the basket, currency units."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Outcomes of pairs as known at a boundary. NaN means not known (yet)."""

    redeemed_N: NDArray[np.float32]
    """1 if the user took the campaign up, else 0. In a fit, the probability of it for a pair whose window is open."""
    spend_N: NDArray[np.float32]
    """Currency units spent on the campaign's items in its window."""
    excess_N: NDArray[np.float32]
    """`spend_N` minus the user's own usual spend on these items in a window of the same length."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Pairs of user and campaign, ready to be scored."""

    catalogue: Catalogue
    campaigns_N: NDArray[np.int32]
    """Row of the campaign in the catalogue."""
    users_N: NDArray[np.int32]
    """Row of the user in `histories`. Pairs of one user share it."""
    features_NF: NDArray[np.float32]
    """Portrait of the user, features of the campaign, their affinity. NaN means unknown."""
    feature_names: tuple[str, ...]
    histories: Histories
    horizon: Horizon | None = None
    """From when to when a participation counts. None: the whole window lies ahead, and all of it counts."""

    def read_at(self, reading_us: int) -> "Examples":
        """The same pairs, where only participations before a time (microseconds since 1970, UTC) count."""
        return self if self.horizon is None else replace(self, horizon=self.horizon.read_at(reading_us))

    def take(self, pairs: NDArray[np.int64]) -> "Examples":
        """The pairs at these places, in this order."""
        return Examples(
            catalogue=self.catalogue,
            campaigns_N=self.campaigns_N[pairs],
            users_N=self.users_N[pairs],
            features_NF=self.features_NF[pairs],
            feature_names=self.feature_names,
            histories=self.histories,
            horizon=None if self.horizon is None else self.horizon.take(pairs),
        )


@dataclass(frozen=True, eq=False)
class Shopper:
    """One user as the feature store holds them."""

    user_id: str
    portrait_P: NDArray[np.float32]
    portrait_names: tuple[str, ...]
    affinity: bytes
    history: bytes
    feature_time_us: int
    """Time up to which the features know the user, microseconds since 1970, UTC."""


class Joined(NamedTuple):
    """What one shopper bought of the campaigns of the shopper's pairs, where that is known already."""

    matched: Matched
    columns_N: NDArray[np.int64]
    """For each of the shopper's pairs the column of its campaign in `matched`."""


def build(
    shoppers: Sequence[Shopper],
    users_N: NDArray[np.int32],
    campaigns_N: NDArray[np.int32],
    catalogue: Catalogue,
    decided_us_N: NDArray[np.int64],
    *,
    joined: Sequence[Joined] | None = None,
) -> Examples:
    """Build examples from pairs of shoppers and campaigns.

    Args:
        shoppers: the users.
        users_N: row in `shoppers` of each pair.
        campaigns_N: row in the catalogue of each pair.
        catalogue: items and campaigns.
        decided_us_N: time of each pair's decision, microseconds since 1970, UTC. Pairs of one shopper share it.
        joined: what each shopper bought of the campaigns, by which no vector is unpacked. The pairs are then sorted by
            shopper, and each shopper has some.

    Raises:
        FeatureStoreError: a shopper's vectors are damaged or have other ids than the catalogue, shoppers
            have different portraits, or one shopper has pairs at different times.
        ValueError: `users_N`, `campaigns_N` and `decided_us_N` have different lengths.
    """
    if not len(users_N) == len(campaigns_N) == len(decided_us_N):
        # A single moment would be spread over all pairs in silence, and one moment a user only fits with one campaign.
        lengths = f"{len(users_N)} users, {len(campaigns_N)} campaigns and {len(decided_us_N)} moments"
        raise ValueError(f"a pair is one user, one campaign and one moment (got {lengths})")
    portrait_names = shoppers[0].portrait_names if shoppers else ()
    for shopper in shoppers:
        if shopper.portrait_names is not portrait_names and shopper.portrait_names != portrait_names:
            difference = sorted(set(shopper.portrait_names) ^ set(portrait_names))
            raise FeatureStoreError(
                f"user {shopper.user_id}: portrait differs from that of user {shoppers[0].user_id} "
                f"({', '.join(difference[:3]) or 'order of the features'}); materialise all users together"
            )
    campaigns_N, users_N = campaigns_N.astype(np.int32), users_N.astype(np.int32)
    names = (*portrait_names, *catalogue.campaign_feature_names, *affinity.cross_names(portrait_names))
    num_portrait, num_campaign = len(portrait_names), len(catalogue.campaign_feature_names)
    features_NF = np.empty((len(users_N), len(names)), dtype=np.float32)
    if len(users_N):
        features_NF[:, :num_portrait] = np.stack([shopper.portrait_P for shopper in shoppers])[users_N]
    features_NF[:, num_portrait : num_portrait + num_campaign] = catalogue.campaign_features_CG[campaigns_N]
    targeted_us_N = catalogue.campaign_starts_C[campaigns_N]
    cross_NK = features_NF[:, num_portrait + num_campaign :]
    parts = _joined(shoppers, users_N, campaigns_N, catalogue) if joined is None else _in_order(joined)
    codes_N = catalogue.campaign_codes_C[campaigns_N]
    for pairs, (matched, columns_N) in parts:
        cross_NK[pairs, : len(affinity.CROSS_NAMES)] = affinity.affinities(matched)[columns_N]
        if cross_NK.shape[1] > len(affinity.CROSS_NAMES):
            cross_NK[pairs, len(affinity.CROSS_NAMES) :] = affinity.look_affinities(matched)[columns_N]
        if len(matched.user.open.codes_O):
            _leave_out_own(features_NF, matched.user.open, pairs, codes_N, targeted_us_N)
    decided_us_U = _decision_times(shoppers, users_N, decided_us_N)
    histories = unpack_histories([shopper.history for shopper in shoppers], decided_us_U, catalogue.numbering)
    return Examples(
        catalogue=catalogue,
        campaigns_N=campaigns_N,
        users_N=users_N,
        features_NF=features_NF,
        feature_names=names,
        histories=histories,
        horizon=Horizon.whole(targeted_us_N, decided_us_N, catalogue.campaign_ends_C[campaigns_N]),
    )


def _joined(
    shoppers: Sequence[Shopper], users_N: NDArray[np.int32], campaigns_N: NDArray[np.int32], catalogue: Catalogue
) -> Iterator[tuple[NDArray[np.int64], Joined]]:
    """Unpack each shopper once: the places of the shopper's pairs, and what the shopper bought of the campaigns."""
    if not len(users_N):
        return
    rows, columns_N = np.unique(campaigns_N, return_inverse=True)
    incidence = catalogue.incidence(rows)
    order = np.argsort(users_N, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(users_N[order]), 1)) + 1
    start = 0
    for end in ends.tolist():
        pairs = order[start:end]
        user = affinity.unpack_user(shoppers[users_N[pairs[0]]].affinity, catalogue.numbering)
        yield pairs, Joined(affinity.match(user, incidence), columns_N[pairs])
        start = end


def _in_order(joined: Sequence[Joined]) -> Iterator[tuple[NDArray[np.int64], Joined]]:
    start = 0
    for one in joined:
        end = start + len(one.columns_N)
        yield np.arange(start, end), one
        start = end


def _leave_out_own(
    features_NF: NDArray[np.float32],
    own: OpenCampaigns,
    pairs: NDArray[np.int64],
    codes_N: NDArray[np.uint32],
    targeted_us_N: NDArray[np.int64],
) -> None:
    """Take what a campaign itself left in its user's portrait out of the pair's features.

    The time of targeting becomes the user's own.
    """
    for pair in pairs[np.isin(codes_N[pairs], own.codes_O)].tolist():
        place = own.place(int(codes_N[pair]))
        if place is not None:
            features_NF[pair, own.columns_H] = own.habits_OH[place]
            targeted_us_N[pair] = own.targeted_us_O[place]


def _decision_times(
    shoppers: Sequence[Shopper], users_N: NDArray[np.int32], decided_us_N: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the decision time of each shopper's pairs, int64 [U], or the features' own time for one without a pair."""
    decided_us_U = np.array([shopper.feature_time_us for shopper in shoppers], dtype=np.int64)
    decided_us_U[users_N] = decided_us_N
    conflicts = np.flatnonzero(decided_us_U[users_N] != decided_us_N)
    if len(conflicts):
        user_id = shoppers[int(users_N[conflicts[0]])].user_id
        raise FeatureStoreError(f"user {user_id}: pairs decided at different times need a shopper for each time")
    return decided_us_U


def pack_history(
    times_us_B: NDArray[np.int64],
    spend_B: NDArray[np.float32],
    lines_B: NDArray[np.int32],
    items_T: NDArray[np.int32],
    taxonomy_version: str,
) -> bytes:
    """Pack the `history` value of a user: the last `MAX_BASKETS` baskets, oldest first, with `lines_B` lines each.

    `taxonomy_version`: `Numbering.name` of the ids of `items_T`.
    """
    if len(times_us_B) > MAX_BASKETS:
        items_T = items_T[int(lines_B[:-MAX_BASKETS].sum()) :]
        times_us_B, spend_B, lines_B = times_us_B[-MAX_BASKETS:], spend_B[-MAX_BASKETS:], lines_B[-MAX_BASKETS:]
    header = _HEADER.pack(_MAGIC, bytes.fromhex(taxonomy_version), len(times_us_B), len(items_T))
    arrays = ((times_us_B, "<i8"), (spend_B, "<f4"), (lines_B, "<i4"), (items_T, "<i4"))
    return header + b"".join(np.asarray(array).astype(dtype).tobytes() for array, dtype in arrays)


class PackedBaskets(NamedTuple):
    """What `pack_history` packs, of one user."""

    times_us_B: NDArray[np.int64]
    spend_B: NDArray[np.float32]
    lines_B: NDArray[np.int32]
    items_T: NDArray[np.int32]


def unpack_history(packed: bytes, numbering: Numbering) -> PackedBaskets:
    """Unpack what `pack_history` packed, without copying. An item that `numbering` does not know yet is 0.

    Raises:
        FeatureStoreError: the value is damaged or was packed with other ids.
    """
    header = _OLD_HEADER if packed[:4] == _OLD_MAGIC else _HEADER
    if len(packed) < header.size or packed[:4] not in (_MAGIC, _OLD_MAGIC):
        raise FeatureStoreError(
            f"history: a value must start with {_MAGIC!r} (got {packed[:4]!r}); "
            "build and materialise the features again"
        )
    _, name, baskets, num_lines = header.unpack_from(packed)
    lacks_some = numbering.lacks_some(name, "history")
    # Each basket takes an int64 time, float32 spend and int32 number of lines; each line an int32 item.
    expected = header.size + 16 * baskets + 4 * num_lines
    if len(packed) != expected + Rings.packed_size(packed, expected):
        raise FeatureStoreError(
            f"history: the value must have {expected} bytes by its header (got {len(packed)}); "
            "build and materialise the features again"
        )
    offset = header.size
    rows = np.frombuffer(packed, "<i4", num_lines, offset + 16 * baskets)
    return PackedBaskets(
        np.frombuffer(packed, "<i8", baskets, offset),
        np.frombuffer(packed, "<f4", baskets, offset + 8 * baskets),
        np.frombuffer(packed, "<i4", baskets, offset + 12 * baskets),
        np.where(rows < numbering.num_items, rows, 0) if lacks_some else rows,
    )


def unpack_rings(packed: bytes, history: PackedBaskets) -> Rings | None:
    """The rings behind a packed history, which is unpacked already. None: a row from before there were rings.

    Raises:
        FeatureStoreError: they are damaged.
    """
    header = _OLD_HEADER if packed[:4] == _OLD_MAGIC else _HEADER
    num_baskets = len(history.times_us_B)
    return Rings.unpack(packed, header.size + 16 * num_baskets + 4 * len(history.items_T), num_baskets)


def unpack_histories(packed_U: Sequence[bytes], decided_us_U: NDArray[np.int64], numbering: Numbering) -> Histories:
    """Unpack the baskets of users, with ages at the users' decisions (microseconds since 1970, UTC).

    An item that `numbering` does not know yet is the unknown one.

    Raises:
        FeatureStoreError: a value is damaged or was packed with other ids.
    """
    num_baskets, times, spend, lines, items = [], [], [], [], []
    for packed in packed_U:
        times_us_B, spend_B, lines_B, items_T = unpack_history(packed, numbering)
        num_baskets.append(len(times_us_B))
        times.append(times_us_B)
        spend.append(spend_B)
        lines.append(lines_B)
        items.append(items_T)
    baskets_U = np.array(num_baskets, dtype=np.int64)
    age_us_B = np.repeat(decided_us_U, baskets_U) - _concatenate(times, np.int64)
    return Histories(
        basket_offsets=_offsets(baskets_U),
        line_offsets=_offsets(_concatenate(lines, np.int64)),
        items_T=_concatenate(items, np.int32),
        age_days_B=(age_us_B / DAY_US).astype(np.float32),
        spend_B=_concatenate(spend, np.float32),
    )


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
    sizes.cumsum(out=offsets[1:])
    return offsets


def _concatenate(arrays: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    if len(arrays) == 1:
        return arrays[0].astype(dtype, copy=False)
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)
