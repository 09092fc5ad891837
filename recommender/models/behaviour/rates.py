"""Baselines of behaviour: everyone's rate, and each user's own rate drawn to everyone's.

Shapes: N users.
"""

import numpy as np
from scipy.optimize import minimize

from recommender.matching.users_at import Counts, Floats, Learnt, UsersAt

LEAST = 1e-6
"""Probabilities stay this far from 0 and 1, so that one surprise does not make the log loss infinite."""


def base_rate(learnt: Learnt, at: UsersAt, outcome: str, seed: int) -> Floats:
    """The share of earlier users who did it, for everyone."""
    del outcome, seed
    return clipped(np.full(len(at.user_ids), learnt.happened_N.mean()))


def own_rate(learnt: Learnt, at: UsersAt, outcome: str, seed: int) -> Floats:
    """Gamma-Poisson (negative binomial): a user's own number of days in the time known, drawn to everyone's.

    Rates vary between users as a gamma distribution with shape r and rate alpha. Given n days in T, the probability of
    at least one more within d days is 1 - ((alpha + T) / (alpha + T + d)) ** (r + n). r and alpha have the largest
    likelihood on the windows after earlier cutoffs.
    """
    del seed

    def loss(log_parameters: Floats) -> float:
        p_N = clipped(_at_least_one(np.exp(log_parameters), learnt.counts, learnt.days))
        happened_N = learnt.happened_N
        return -float(np.mean(happened_N * np.log(p_N) + (1 - happened_N) * np.log1p(-p_N)))

    found = minimize(loss, np.log([1.0, 30.0]), method="L-BFGS-B", bounds=[(-10, 10)] * 2)
    return clipped(_at_least_one(np.exp(found.x), at.counts[outcome], learnt.days))


def _at_least_one(shape_and_rate: Floats, counts: Counts, days: int) -> Floats:
    shape, rate = shape_and_rate
    known_N = rate + counts.known_N
    return np.asarray(-np.expm1((shape + counts.num_N) * -np.log1p(days / known_N)))


def clipped(p_N: Floats) -> Floats:
    """Keep probabilities inside (0, 1)."""
    return np.clip(p_N, LEAST, 1 - LEAST)
