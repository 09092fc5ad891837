"""How much a ranker's scores hang on each feature of a pair: by drawing the feature anew.

For each feature a sample of users is scored with two random draws of its values from the distribution that the ranker
was trained on. The importance is the mean difference of the log-odds, as a share of all features' differences. It is
the importance by permutation (Breiman, Random Forests, 2001) without outcomes, so it is known for every ranker at any
moment. It says what a feature moves, not what it is good for. The drift itself does not change it.

Shapes: U users · N pairs · F features.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.features.shoppers import shoppers_of
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Examples, build
from recommender.models.campaign.horizon_ranker import HorizonRanker
from recommender.monitoring.distributions import Distribution
from recommender.monitoring.findings import Over

NUM_USERS = 128
"""Users that are scored again for each feature. By hand: with a hundred features some ten seconds of a transformer."""
NUM_CAMPAIGNS = 4
"""Campaigns that each is scored for. By hand: the live ones, or the last that started."""
SEED = 17
LOWEST = 1e-6
"""Probabilities are kept so far from 0 and 1, so that one certain score does not make a log-odds infinite."""


def importances(
    ranker: HorizonRanker, users: pa.Table, catalogue: Catalogue, features: Mapping[str, tuple[Over, Distribution]]
) -> dict[str, float]:
    """Importance of each of `features`, as shares that add up to 1. All 0 for a ranker that reads none of them.

    Args:
        ranker: the one that serves.
        users: a feature set's users at one moment.
        catalogue: of the same feature set.
        features: names, what each has one value for, and how it was distributed in training. A value of a user is
            drawn once for the user. All others are drawn for each pair, because a few campaigns would say little.
    """
    examples = _sample(users, catalogue)
    random = np.random.default_rng(SEED)
    num_users = int(examples.users_N.max()) + 1
    changes = {}
    for name, (over, before) in features.items():
        place = examples.feature_names.index(name)
        drawn_2N = (
            before.drawn(random, (2, num_users))[:, examples.users_N]
            if over == "users"
            else before.drawn(random, (2, len(examples.users_N)))
        )
        one, other = (_with(examples, place, drawn_N) for drawn_N in drawn_2N)
        changes[name] = float(np.abs(_log_odds(ranker, one) - _log_odds(ranker, other)).mean())
    total = sum(changes.values())
    return {name: change / total if total > 0 else 0.0 for name, change in changes.items()}


def _sample(users: pa.Table, catalogue: Catalogue) -> Examples:
    """Pairs of some users and the campaigns that are live at their moment, or the last ones."""
    num_users = min(NUM_USERS, users.num_rows)
    rows = np.sort(np.random.default_rng(SEED).choice(users.num_rows, num_users, replace=False))
    shoppers = shoppers_of(users.take(rows))
    moment_us = shoppers[0].feature_time_us
    live = catalogue.live(moment_us)
    last = np.argsort(-catalogue.campaign_starts_C, kind="stable").astype(np.int32)
    campaigns = (live if len(live) else last)[:NUM_CAMPAIGNS]
    users_N = np.repeat(np.arange(num_users, dtype=np.int32), len(campaigns))
    moments_N = np.full(len(users_N), moment_us, dtype=np.int64)
    return build(shoppers, users_N, np.tile(campaigns, num_users), catalogue, moments_N)


def _with(examples: Examples, place: int, values_N: NDArray[np.float32]) -> Examples:
    features_NF = examples.features_NF.copy()
    features_NF[:, place] = values_N
    return replace(examples, features_NF=features_NF)


def _log_odds(ranker: HorizonRanker, examples: Examples) -> NDArray[np.float64]:
    # The ranker inside: over the horizon of a campaign that has ended every probability would be 0.
    p_N = np.clip(ranker.inside.score(examples).redeem_N.astype(np.float64), LOWEST, 1 - LOWEST)
    return np.asarray(np.log(p_N / (1 - p_N)))
