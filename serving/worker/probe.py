"""The user of a probe, which asks whether a model answers at all without reading the online store."""

import numpy as np

from recommender.matching.affinity import AXES, MEASURES, UserAffinity, pack_user
from recommender.matching.examples import Shopper
from recommender.matching.packed_history import pack_history


def user_without_features(portrait_names: tuple[str, ...], taxonomy_version: str, moment_us: int) -> Shopper:
    """A user without a portrait, a purchase or a campaign, in the layout of these names, known up to `moment_us`."""
    none, axes = np.zeros(0, dtype=np.int32), range(len(AXES))
    user = UserAffinity(
        months=0.0,
        values=tuple(none for _ in axes),
        counts=tuple(np.zeros((len(MEASURES), 0), dtype=np.uint16) for _ in axes),
        cents=tuple(none.astype(np.uint32) for _ in axes),
        types=none.astype(np.uint32),
        targeted=none.astype(np.uint16),
        redeemed=none.astype(np.uint16),
    )
    return Shopper(
        user_id="",
        portrait_P=np.full(len(portrait_names), np.nan, dtype=np.float32),
        portrait_names=portrait_names,
        affinity=pack_user(user, taxonomy_version),
        history=pack_history(none.astype(np.int64), none.astype(np.float32), none, none, taxonomy_version),
        feature_time_us=moment_us,
    )
