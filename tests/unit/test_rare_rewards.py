"""Off-policy intervals hold where a few decisions in a hundred earn a reward, or fail to, and never have no width."""

import numpy as np
import pytest
from scipy.stats import beta

from benchmarks.decision.rare_rewards import World, tally
from recommender.policies.off_policy import Judging, doubly_robust, ips, snips
from recommender.policies.policy_value import Answer, PolicyValue, TooFewRewards
from recommender.policies.rare_rewards import RewardEvidence, distances

LOGS = 400
MOST_MISSED = 18
"""Of 400. A tail of 7 % passes once in 40 times, one of 2.5 % fails once in 200 times (binomial)."""
KNOWN = Judging(reward_range=(0.0, 1.0), resamples=199)
FROM_LOG = Judging(resamples=199)


def all_estimates(
    rewards_N: np.ndarray, judging: Judging, *, users_N: np.ndarray | None = None, expected: float = 0.0
) -> dict[str, Answer]:
    """Estimates of a policy that always shows the second of two actions, which half of the decisions show."""
    shown_N = np.arange(len(rewards_N)) % 2
    propensities_N = np.full(len(rewards_N), 0.5)
    columns = (rewards_N, shown_N.astype(float), propensities_N)
    target_NA = np.tile([0.0, 1.0], (len(rewards_N), 1))
    predicted_NA = np.full(target_NA.shape, expected)
    return {
        "ips": ips(*columns, users_N=users_N, judging=judging),
        "snips": snips(*columns, users_N=users_N, judging=judging),
        "doubly robust": doubly_robust(
            rewards_N, shown_N, target_NA, propensities_N, predicted_NA, users_N=users_N, judging=judging
        ),
    }


@pytest.mark.parametrize(
    ("world", "judging"),
    [
        (World(rate=0.01), KNOWN),
        (World(rate=0.02), KNOWN),
        (World(rate=0.05, users=100), KNOWN),
        (World(rate=0.02, users=150), FROM_LOG),
        (World(rate=0.98, users=200), KNOWN),
        (World(rate=0.02, users=100, decisions=4, alike=2.0), KNOWN),
    ],
    ids=["1 %", "2 %", "5 % of 50", "2 % of 75, range of the log", "98 % of 100", "2 %, unlike users"],
)
def test_both_ends_hold_where_few_rewards_of_one_kind_were_seen(world: World, judging: Judging) -> None:
    for name, found in tally(world, logs=LOGS, judging=judging).items():
        assert found.answers > LOGS / 2, name
        assert found.above <= MOST_MISSED, (name, found.tails)
        assert found.below <= MOST_MISSED, (name, found.tails)


@pytest.mark.parametrize("seen", [0, 1, 3, 40, 199, 200])
def test_with_equal_weights_the_ends_are_those_of_clopper_and_pearson(seen: int) -> None:
    share = seen / 200
    evidence = RewardEvidence(value=share, variance=share * (1 - share) / 199, effective_users=200)
    below, above = distances(evidence, (0.0, 1.0), 0.95)
    low = beta.ppf(0.025, seen, 201 - seen) if seen else 0.0
    high = beta.ppf(0.975, seen + 1, 200 - seen) if seen < 200 else 1.0
    assert share - below == pytest.approx(low, abs=1e-3)
    assert share + above == pytest.approx(high, abs=1e-3)
    # In another unit, the same.
    money = RewardEvidence(value=5 + 3 * share, variance=9 * evidence.variance, effective_users=200)
    assert distances(money, (5.0, 8.0), 0.95) == pytest.approx((3 * below, 3 * above), abs=1e-9)


@pytest.mark.parametrize("expected", [0.0, 0.03])
def test_no_reward_in_200_effective_rows_leaves_values_up_to_two_in_a_hundred(expected: float) -> None:
    for name, found in all_estimates(np.zeros(400), KNOWN, expected=expected).items():
        assert isinstance(found, PolicyValue), name
        assert found.value == pytest.approx(0)
        assert found.low <= 0
        assert 0.017 < found.high < 0.025, (name, found)


def test_rewards_in_every_row_leave_values_down_to_two_in_a_hundred_less() -> None:
    for judging in (KNOWN, FROM_LOG):
        for name, found in all_estimates(np.ones(400), judging, expected=1.0).items():
            assert isinstance(found, PolicyValue), name
            assert found.value == pytest.approx(1)
            assert found.low < 0.985, (name, found)


def test_no_reward_of_users_with_many_decisions_says_less_than_of_as_many_users() -> None:
    users_N = np.arange(400) // 8
    alone, together = (all_estimates(np.zeros(400), KNOWN, users_N=users)["snips"] for users in (None, users_N))
    assert isinstance(alone, PolicyValue)
    assert isinstance(together, PolicyValue)
    # 50 users of equal weight: Clopper and Pearson's end for none of 50.
    assert together.high == pytest.approx(1 - 0.025 ** (1 / 50), rel=0.05)
    assert together.high > 3 * alone.high


def test_without_any_reward_and_without_a_known_range_there_is_no_number() -> None:
    for name, found in all_estimates(np.zeros(400), FROM_LOG).items():
        assert isinstance(found, TooFewRewards), name
        assert not hasattr(found, "value")
        assert (found.num_rows, found.num_clusters) == (400, 400)
        assert "400 rows of 400 users" in str(found)
        assert "reward_range" in str(found)


def test_many_rewards_widen_nothing_but_what_the_bootstrap_already_says() -> None:
    random = np.random.default_rng(4)
    rewards_N = (random.random(4_000) < 0.2).astype(float)
    found = all_estimates(rewards_N, KNOWN)["snips"]
    assert isinstance(found, PolicyValue)
    half = 1.96 * np.sqrt(0.2 * 0.8 / 2_000)
    assert found.high - found.low < 1.15 * 2 * half
