"""What a ranker sees: N pairs of user and campaign. The training set and every request come through `build`.

Shapes: N pairs · U users · P portrait features · G campaign features · K cross features · F = P + G + K.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.affinity import CROSS_NAMES, cross, unpack_user
from recommender.catalogue import Catalogue
from recommender.histories import Histories, stack, unpack_history

__all__ = ["Examples", "Histories", "Shopper", "build", "feature_names"]


@dataclass(frozen=True, eq=False)
class Shopper:
    """One user's features at one moment, as the offline store and the online store hold them."""

    user_id: str
    portrait_P: NDArray[np.float32]
    """NaN: the source does not say."""
    portrait_names: tuple[str, ...]
    affinity: bytes
    history: bytes
    feature_time_us: int
    """What happened at or after this moment (µs since 1970, UTC) is not in the features."""


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


def feature_names(portrait_names: Sequence[str], catalogue: Catalogue) -> tuple[str, ...]:
    """Names of the F features, in their order: portrait, campaign, affinity."""
    return (*portrait_names, *catalogue.campaign_feature_names, *CROSS_NAMES)


def build(
    shoppers: Sequence[Shopper],
    users_N: NDArray[np.int32],
    campaigns_N: NDArray[np.int32],
    catalogue: Catalogue,
    decided_us_U: NDArray[np.int64],
) -> Examples:
    """Join U users with the campaigns of N pairs.

    Args:
        shoppers: U users, all with the same portrait names.
        users_N: for each pair the row of its user in `shoppers`.
        campaigns_N: for each pair the row of its campaign in `catalogue`.
        decided_us_U: moment of each user's decision, µs since 1970, UTC; ages of baskets are counted from it.

    Raises:
        CorruptFileError: a user's bytes are damaged or refer to another taxonomy than the catalogue's.
        ValueError: no user at all, or users with different portraits.
    """
    if not shoppers or any(shopper.portrait_names != shoppers[0].portrait_names for shopper in shoppers):
        raise ValueError("build needs at least one user, and the same portrait names for all")
    portrait_UP = np.stack([shopper.portrait_P for shopper in shoppers])
    cross_NK = np.empty((len(users_N), len(CROSS_NAMES)), dtype=np.float32)
    order = np.argsort(users_N, kind="stable")
    bounds = np.searchsorted(users_N[order], np.arange(len(shoppers) + 1))
    for user, shopper in enumerate(shoppers):
        pairs = order[bounds[user] : bounds[user + 1]]
        if len(pairs):
            affinity = unpack_user(shopper.affinity, catalogue.taxonomy_version)
            cross_NK[pairs] = cross(affinity, catalogue, campaigns_N[pairs])
    features = (portrait_UP[users_N], catalogue.campaign_features_CG[campaigns_N], cross_NK)
    baskets = [unpack_history(shopper.history, catalogue.taxonomy_version) for shopper in shoppers]
    return Examples(
        catalogue=catalogue,
        campaigns_N=campaigns_N,
        users_N=users_N,
        features_NF=np.concatenate(features, axis=1, dtype=np.float32),
        feature_names=feature_names(shoppers[0].portrait_names, catalogue),
        histories=stack(baskets, decided_us_U),
    )
