"""Off-policy intervals hold with few users and heavy weights, on both sides, or the answer is refused."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from benchmarks.decision.off_policy import tally
from recommender.policies.off_policy import Judging, doubly_robust, ips, snips
from recommender.policies.policy_value import PolicyValue, TooLittleOverlap
from recommender.policies.value_intervals import Range, UserSums, bootstrap_t, empirical_likelihood, interval

LOGS = 120


def a_log(num_users: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rewards, targets, propensities and users of decisions between two actions, the second one seldom shown."""
    random = np.random.default_rng(seed)
    users_N = np.repeat(np.arange(num_users), 4)
    shown_N = (random.random(len(users_N)) < 0.2).astype(int)
    propensities_N = np.where(shown_N == 1, 0.2, 0.8)
    rewards_N = (random.random(len(users_N)) < np.where(shown_N == 1, 0.4, 0.1)).astype(float)
    return rewards_N, np.where(shown_N == 1, 0.5, 0.5), propensities_N, users_N


def test_the_likelihoods_ends_are_those_that_a_general_solver_finds() -> None:
    rewards_N, target_N, propensities_N, users_N = a_log(30)
    weights_N = target_N / propensities_N
    sums = UserSums.of(weights_N, weights_N * rewards_N, users_N)
    low, high = empirical_likelihood(sums, 0.2, Range(most_weight=2.5, residual=(0.0, 1.0)), 0.95)

    excess_U, worth_U = sums.weights_U / 4 - 1, sums.worth_U / 4
    from scipy.stats import t

    least = -(t.ppf(0.975, 29) ** 2) / 2

    def solved(sign: int) -> float:
        """The end by the primal: probabilities of the users alone, since here no weight is missing."""
        found = minimize(
            lambda p_U: -sign * p_U @ worth_U,
            np.full(30, 1 / 30),
            bounds=[(1e-9, 1)] * 30,
            constraints=[
                {"type": "eq", "fun": lambda p_U: p_U.sum() - 1},
                {"type": "eq", "fun": lambda p_U: p_U @ excess_U},
                {"type": "ineq", "fun": lambda p_U: np.log(30 * p_U).sum() - least},
            ],
            options={"maxiter": 500, "ftol": 1e-10},
        )
        return float(found.x @ worth_U)

    # The unseen corners may only widen the interval, and here by little.
    assert low == pytest.approx(solved(-1), abs=0.01)
    assert high == pytest.approx(solved(1), abs=0.01)
    assert low <= solved(-1) + 1e-3
    assert high >= solved(1) - 1e-3


def test_weights_that_are_missing_from_the_log_widen_the_interval_towards_the_largest_reward() -> None:
    random = np.random.default_rng(1)
    rewards_U = (random.random(200) < 0.1).astype(float)
    # The policy shows in half of its decisions what this log, by chance, never showed.
    sums = UserSums(np.full(200, 0.5), 0.5 * rewards_U, np.ones(200))
    unseen = Range(most_weight=1000.0, residual=(0.0, 1.0))
    _, seen_high = bootstrap_t(sums.worth_U, sums.weights_U, 0.95, resamples=500, seed=1)
    _, high = empirical_likelihood(sums, 0.1, unseen, 0.95)
    assert seen_high < 0.2
    assert high > 0.5
    assert interval(sums, 0.1, sums.weights_U, unseen, 0.95)[1] == high


def test_the_interval_is_never_nearer_than_the_t_interval_and_holds_the_value() -> None:
    rewards_N, target_N, propensities_N, users_N = a_log()
    from scipy.stats import t

    for estimate in (ips, snips):
        found = estimate(rewards_N, target_N, propensities_N, users_N=users_N)
        assert isinstance(found, PolicyValue)
        weights_N = target_N / propensities_N
        below_N = np.ones(len(rewards_N)) if estimate is ips else weights_N
        sums_U = np.bincount(users_N, weights=weights_N * rewards_N - found.value * below_N)
        half = t.ppf(0.975, 59) * math.sqrt(60 / 59 * (sums_U**2).sum()) / below_N.sum()
        assert found.low <= found.value - half + 1e-12
        assert found.high >= found.value + half - 1e-12


def test_the_answer_to_too_little_overlap_is_no_number_and_says_how_much_is_needed() -> None:
    rewards_N, _, propensities_N, users_N = a_log()
    target_N = np.where(np.arange(len(rewards_N)) < 5, 1.0, 1e-4)
    for found in (
        ips(rewards_N, target_N, propensities_N, users_N=users_N),
        snips(rewards_N, target_N, propensities_N, users_N=users_N),
        doubly_robust(
            rewards_N,
            np.zeros(len(rewards_N)),
            np.stack([target_N, 1 - target_N], axis=1),
            propensities_N,
            np.zeros((len(rewards_N), 2)),
            users_N=users_N,
        ),
    ):
        assert isinstance(found, TooLittleOverlap)
        assert not hasattr(found, "value")
        assert found.effective_sample_size < found.needed == 20
        assert "240 rows of 60 users" in str(found)


def test_many_rows_of_few_users_are_few_observations() -> None:
    rewards_N, target_N, propensities_N, _ = a_log(200)
    found = ips(rewards_N, target_N, propensities_N, users_N=np.arange(800) % 8)
    assert isinstance(found, TooLittleOverlap)
    assert found.effective_sample_size <= 8
    assert isinstance(ips(rewards_N, target_N, propensities_N, judging=Judging(min_effective=5)), PolicyValue)


def test_more_users_than_blocks_are_judged_within_seconds_and_almost_alike() -> None:
    rewards_N, target_N, propensities_N, users_N = a_log(5_000)
    found = snips(rewards_N, target_N, propensities_N, users_N=users_N, judging=Judging(resamples=199))
    assert isinstance(found, PolicyValue)
    weights_N = target_N / propensities_N
    error = np.sqrt((np.bincount(users_N, weights=weights_N * (rewards_N - found.value)) ** 2).sum()) / weights_N.sum()
    assert 1.9 * 2 * error < found.high - found.low < 2.8 * 2 * error


@pytest.mark.parametrize("floor", [0.01, 0.001])
def test_both_ends_hold_in_small_logs_with_heavy_weights(floor: float) -> None:
    for name, found in tally(floor, 200, 1.0, logs=LOGS, resamples=199).items():
        above, below = found.tails
        assert found.answers > LOGS / 2, name
        assert max(above, below) <= 0.04 + 2 * math.sqrt(0.04 * 0.96 / found.answers), (name, found.tails)
        assert found.refusals_from_200 == 0
