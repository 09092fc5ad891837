"""BG/NBD, the usual model of repeat purchases from recency and frequency.

Fader, Hardie & Lee, "Counting your customers the easy way" (Marketing Science, 2005). While a user is active, events
come as a Poisson process whose rate is gamma distributed between users (shape r, rate alpha). After each event the user
leaves for good with a probability that is beta distributed between users (a, b).

Given x repeated events, the last at t, in the time T, the user is still active with probability
1 / (1 + [x > 0] a / (b + x - 1) ((alpha + T) / (alpha + t)) ** (r + x)), and an active one has at least one event in
the next d days with probability 1 - ((alpha + T) / (alpha + T + d)) ** (r + x).

Shapes: N users.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, gammaln

from recommender.matching.users_at import Counts, Floats, Learnt, UsersAt
from recommender.models.behaviour.rates import clipped

PENALTY = 1e-3
"""Weight of the squared logarithms of the parameters, so that a flat likelihood has a maximum. `lifetimes` users know
the same as `penalizer_coef`. Chosen by hand."""


def forecast(learnt: Learnt, at: UsersAt, outcome: str, seed: int) -> Floats:
    """Fit the four parameters to the counts that are known at the cutoff, and forecast each user."""
    del seed
    counts = at.counts[outcome]
    r, alpha, a, b = fit(counts)
    power_N = r + counts.num_N
    repeated_N = counts.num_N > 0
    odds_N = a / (b + np.maximum(counts.num_N, 1) - 1)
    odds_N = odds_N * np.exp(power_N * np.log((alpha + counts.known_N) / (alpha + counts.last_N)))
    active_N = np.where(repeated_N, 1 / (1 + odds_N), 1.0)
    again_N = -np.expm1(-power_N * np.log1p(learnt.days / (alpha + counts.known_N)))
    return clipped(active_N * again_N)


def fit(counts: Counts) -> tuple[float, float, float, float]:
    """r, alpha (days), a and b with the largest likelihood."""

    def loss(log_parameters: Floats) -> float:
        r, alpha, a, b = (float(value) for value in np.exp(log_parameters))
        value = -float(np.mean(log_likelihood(r, alpha, a, b, counts)))
        return value + PENALTY * float(np.sum(log_parameters**2))

    found = minimize(loss, np.log([1.0, 30.0, 1.0, 3.0]), method="L-BFGS-B", bounds=[(-10, 10)] * 4)
    r, alpha, a, b = (float(value) for value in np.exp(found.x))
    return r, alpha, a, b


def log_likelihood(r: float, alpha: float, a: float, b: float, counts: Counts) -> Floats:
    """Log-likelihood of each user's counts (equation 6 of the paper), float64 [N]."""
    x_N, t_N, known_N = counts.num_N, counts.last_N, counts.known_N
    shared_N = gammaln(r + x_N) - gammaln(r) + r * np.log(alpha)
    active_N = betaln(a, b + x_N) - betaln(a, b) - (r + x_N) * np.log(alpha + known_N)
    left_N = betaln(a + 1, b + np.maximum(x_N, 1) - 1) - betaln(a, b) - (r + x_N) * np.log(alpha + t_N)
    return np.asarray(shared_N + np.where(x_N > 0, np.logaddexp(active_N, left_N), active_N))
