"""Inputs of a ranker: pairs of user and campaign, built by one function for the training set and for a request.

Shapes: N pairs · F features · U distinct users among the pairs · P portrait features ·
K cross features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommender.errors import FeatureStoreError
from recommender.matching import affinity
from recommender.matching.affinity import Matched
from recommender.matching.catalogue import Catalogue
from recommender.matching.horizon import Horizon
from recommender.matching.open_campaigns import OpenCampaigns
from recommender.matching.packed_history import Histories, unpack_histories


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
    packed_U = [shopper.history for shopper in shoppers]
    histories = unpack_histories(packed_U, decided_us_U, catalogue.numbering, catalogue.look_rules)
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
