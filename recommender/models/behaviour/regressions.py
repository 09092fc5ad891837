"""Forecasts of behaviour from the portrait: logistic regression, and gradient-boosted trees.

Shapes: N users · F features.
"""

import numpy as np

from recommender.matching.users_at import Floats, Learnt, UsersAt
from recommender.models.behaviour.rates import clipped
from recommender.models.campaign.logistic import fit_logistic
from recommender.models.campaign.preprocessing import Preprocessing

STRENGTH, CLIP = 0.003, 4.0
"""Inverse of the weight of the L2 penalty, and standard deviations at which an input is clipped: those of campaigns. Of
0.0003 to 0.1, 0.003 had the lowest log loss but for thousandths at cutoffs from May to August on Complete Journey."""
ROUNDS = 120
"""Trees, of 60 and 120 the better one at the same cutoffs. The other hyperparameters are those of campaigns."""


def logistic(learnt: Learnt, at: UsersAt, outcome: str, seed: int) -> Floats:
    """L2-penalised logistic regression on the portrait, prepared as for campaigns."""
    del outcome, seed
    preprocessing = Preprocessing.fit(learnt.features_NF, clip=CLIP)
    weights_E, bias = fit_logistic(
        preprocessing(learnt.features_NF), learnt.happened_N.astype(np.float32), strength=STRENGTH
    )
    log_odds_N = preprocessing(at.features_NF).astype(np.float64) @ weights_E + bias
    return clipped(1 / (1 + np.exp(-log_odds_N)))


def lightgbm(learnt: Learnt, at: UsersAt, outcome: str, seed: int) -> Floats:
    """Trees as those of the campaign ranker `lightgbm`, but fewer."""
    from recommender.models.campaign.lightgbm import LightGBMConfig, grow

    del outcome
    trees = grow(learnt.features_NF, learnt.happened_N, LightGBMConfig(rounds=ROUNDS), seed=seed)
    return clipped(np.asarray(trees.predict(at.features_NF.astype(np.float64), num_threads=1)))
