"""Intervals of off-policy estimates that hold with few users and heavy importance weights, both ends apart.

An interval is the union of two, because each fails where the other holds (`make bench-decision` has both alone):

- The bootstrap-t over users (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5) follows the skew
  of what was seen. Its ends are never nearer than those of the t interval.
- Empirical likelihood for logged decisions (Karampatziakis, Langford & Mineiro, NeurIPS 2020) knows that importance
  weights average 1 and how large one may be. Where the weights of a log average less, the rare rows with large weights
  are missing from it, and their rewards may be anything.

Both take sums over users, since the decisions of one user belong together.

Shapes: U users · B resamples · K corners.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import DEFAULT_SEED

Floats = NDArray[np.float64]
RESAMPLES = 999
"""With these the 2.5 % ends are order statistics of the resamples (Efron & Tibshirani, section 12.5)."""
MOST_BLOCKS = 2000
"""More users are summed in as many blocks before resampling, which would else take gigabytes. The blocks are as
independent as users, and the t of 2,000 is the normal one to three digits."""
CORNER_WEIGHT = 1e-3
"""Weight of an unseen corner relative to one user in the likelihood. Small, so that it changes no figure, and above 0,
so that Newton's method stays inside."""


@dataclass(frozen=True, eq=False)
class UserSums:
    """Sufficient statistics of N decisions of U users: float64 [U] each."""

    weights_U: Floats
    """Σ w, the importance weights."""
    worth_U: Floats
    """Σ of what each decision says about the policy's value: w·r, or the doubly robust worth."""
    rows_U: Floats
    """Number of decisions."""

    @classmethod
    def of(cls, weights_N: Floats, worth_N: Floats, users_N: NDArray[np.generic] | None) -> "UserSums":
        """Sum by user. Without users every row is its own cluster."""
        if users_N is None:
            return cls(weights_N, worth_N, np.ones(len(weights_N)))
        rows_N = np.unique(users_N, return_inverse=True)[1].ravel()
        columns = (weights_N, worth_N, np.ones(len(weights_N)))
        return cls(*(np.bincount(rows_N, weights=column).astype(np.float64) for column in columns))


@dataclass(frozen=True, kw_only=True)
class Range:
    """What an unseen decision may add: its weight up to `most_weight`, and worth = direct + weight · residual."""

    most_weight: float
    residual: tuple[float, float]
    direct: float = 0.0


def interval(
    sums: UserSums,
    value: float,
    denominator_U: Floats,
    unseen: Range,
    confidence: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = DEFAULT_SEED,
) -> tuple[float, float]:
    """Return the interval of an estimate Σ worth / Σ denominator: the union of both methods."""
    by_bootstrap = bootstrap_t(sums.worth_U, denominator_U, confidence, resamples=resamples, seed=seed)
    by_likelihood = empirical_likelihood(sums, value, unseen, confidence)
    return min(by_bootstrap[0], by_likelihood[0]), max(by_bootstrap[1], by_likelihood[1])


def bootstrap_t(
    numerator_U: Floats, denominator_U: Floats, confidence: float, *, resamples: int, seed: int
) -> tuple[float, float]:
    """Interval of a ratio of sums over users by the bootstrap-t, at least as wide on each side as the t interval."""
    from scipy.stats import t

    numerator_U, denominator_U = (_blocks(column) for column in (numerator_U, denominator_U))
    clusters = len(numerator_U)
    if clusters < 2:
        return float("-inf"), float("inf")
    value = float(numerator_U.sum() / denominator_U.sum())
    correction = np.sqrt(clusters / (clusters - 1))
    error = float(correction * np.linalg.norm(numerator_U - value * denominator_U) / denominator_U.sum())
    # Shares of one user: the multinomial is how often each user is drawn.
    drawn_BU = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    products = (numerator_U**2, numerator_U * denominator_U, denominator_U**2)
    sums_B5 = drawn_BU.astype(np.float64) @ np.stack([numerator_U, denominator_U, *products], axis=1)
    top_B, bottom_B, top2_B, cross_B, bottom2_B = sums_B5.T
    with np.errstate(divide="ignore", invalid="ignore"):
        value_B = top_B / bottom_B
        squares_B = np.maximum(top2_B - 2 * value_B * cross_B + value_B**2 * bottom2_B, 0)
        t_B = (value_B - value) * bottom_B / (correction * np.sqrt(squares_B))
    t_B = t_B[np.isfinite(t_B)]  # a resample of users without weight, or all alike, says nothing
    tail = (1 - confidence) / 2
    least = float(t.ppf(1 - tail, clusters - 1))
    low, high = np.quantile(t_B, [tail, 1 - tail]) if len(t_B) else (-least, least)
    return value - max(float(high), least) * error, value - min(float(low), -least) * error


def _blocks(sums_U: Floats) -> Floats:
    if len(sums_U) <= MOST_BLOCKS:
        return sums_U
    return np.bincount(np.arange(len(sums_U)) % MOST_BLOCKS, weights=sums_U).astype(np.float64)


def empirical_likelihood(sums: UserSums, value: float, unseen: Range, confidence: float) -> tuple[float, float]:
    """Interval of the mean worth: the values that some distribution on seen and unseen decisions gives, likely enough.

    The distribution must give weights a mean of 1. `value` is any value near the estimate, about which the mean is
    taken. Users with more decisions count more. Where the weights average so much more than 1 that no distribution is
    likely enough, nothing is missing from the log, and both ends are `value`.
    """
    from scipy.stats import t

    clusters = len(sums.rows_U)
    if clusters < 2:
        return float("-inf"), float("inf")
    size_U = sums.rows_U / sums.rows_U.mean()
    excess_U = sums.weights_U / sums.rows_U.mean() - size_U
    worth_U = sums.worth_U / sums.rows_U.mean() - value * size_U
    corners = [(-1.0, unseen.direct - value)]
    corners += [(unseen.most_weight - 1, unseen.direct + unseen.most_weight * most - value) for most in unseen.residual]
    corners_K2 = float(size_U.max()) * np.array(corners)
    # Half the chi-square of one degree of freedom, with a t for few users as is usual (Owen, 1988).
    loss = float(t.ppf(0.5 + confidence / 2, clusters - 1)) ** 2 / 2 / clusters
    high = _largest_mean(excess_U, worth_U, corners_K2, loss)
    low = _largest_mean(excess_U, -worth_U, corners_K2 * np.array([1.0, -1.0]), loss)
    return (value - low, value + high) if low + high >= 0 else (value, value)


def _largest_mean(excess_U: Floats, worth_U: Floats, corners_K2: Floats, loss: float) -> float:
    """Largest mean worth of a distribution whose mean excess is 0 and whose mean log-likelihood is at least -`loss`.

    By the dual: the least a - e^-loss · exp(mean log(a + b·excess - worth)) over all a and b for which no seen or
    unseen point is negative. It is convex, and solved by damped Newton steps. -inf where no distribution is likely
    enough: the dual is unbounded there.
    """
    # Scales near 1 keep the two unknowns comparable.
    excess_scale = float(np.sqrt(np.mean(excess_U**2))) or 1.0
    worth_scale = float(worth_U.std()) or float(np.abs(corners_K2[:, 1]).max()) or 1.0
    x = np.concatenate([excess_U, corners_K2[:, 0]]) / excess_scale
    y = np.concatenate([worth_U, corners_K2[:, 1]]) / worth_scale
    share = np.concatenate([np.ones(len(excess_U)), np.full(len(corners_K2), CORNER_WEIGHT)])
    share /= share.sum()
    factor = float(np.exp(-loss))
    a, b = _start(x, y, len(excess_U), loss)
    slack = a + b * x - y
    least = a - factor * float(np.exp(share @ np.log(slack)))
    for _ in range(300):  # thirty are usual
        mean = factor * float(np.exp(share @ np.log(slack)))
        r = share / slack
        r1, r2 = float(r.sum()), float(r @ x)
        gradient_a, gradient_b = 1 - mean * r1, -mean * r2
        q = r / slack
        h_aa, h_ab, h_bb = (
            mean * (float(q.sum()) - r1 * r1),
            mean * (float(q @ x) - r1 * r2),
            mean * (float(q @ (x * x)) - r2 * r2),
        )
        h_aa, h_bb = h_aa * (1 + 1e-9), h_bb * (1 + 1e-9)  # keeps the determinant above 0 against rounding
        determinant = h_aa * h_bb - h_ab * h_ab
        if determinant <= 0:
            break
        step_a = (h_bb * gradient_a - h_ab * gradient_b) / determinant
        step_b = (h_aa * gradient_b - h_ab * gradient_a) / determinant
        decrease = gradient_a * step_a + gradient_b * step_b
        if not np.isfinite(decrease) or decrease < 1e-10:
            break
        moved = _damped(a, b, step_a, step_b, x, y, slack, share, factor, least, decrease)
        if moved is None:
            break
        a, b, slack, least = moved
        if least < y.min() - 1:
            return float("-inf")
    return least * worth_scale


def _start(x: Floats, y: Floats, count: int, loss: float) -> tuple[float, float]:
    """A feasible start: the solution for normal data, moved until no corner is negative."""
    seen_x, seen_y = x[:count], y[:count]
    squares = float(seen_x @ seen_x)
    slope = float(seen_x @ seen_y) / squares if squares > 0 else 0.0
    residual = float(np.var(seen_y - slope * seen_x))
    a = float(np.sqrt(max(residual, 1e-6) / (2 * loss)))
    heavy = x[count:] > 0
    b = max(slope, float((y[count:][heavy] / x[count:][heavy]).max())) + 0.05 * abs(slope)
    missing = 1e-6 - float((a + b * x - y).min())
    return (a + 1.1 * missing + 0.1 * a + 1e-3, b) if missing > 0 else (a, b)


def _damped(
    a: float,
    b: float,
    step_a: float,
    step_b: float,
    x: Floats,
    y: Floats,
    slack: Floats,
    share: Floats,
    factor: float,
    least: float,
    decrease: float,
) -> tuple[float, float, Floats, float] | None:
    """Go along a Newton step as far as it stays inside and lowers the value enough. None if no length does."""
    change = step_a + step_b * x
    shrinks = change > 0
    length = min(1.0, 0.95 * float((slack[shrinks] / change[shrinks]).min())) if shrinks.any() else 1.0
    while length > 1e-14:
        new_a, new_b = a - length * step_a, b - length * step_b
        new_slack = new_a + new_b * x - y
        if new_slack.min() > 0:
            value = new_a - factor * float(np.exp(share @ np.log(new_slack)))
            if value <= least - 1e-4 * length * decrease:
                return new_a, new_b, new_slack, value
        length /= 2
    return None
