"""The gate's gain has the campaign as its unit: known figures, few campaigns, shared users, and its error rates."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import t

from benchmarks.decision.gate import CAMPAIGNS, GATES, ONE_LARGE, before, now, promoted, promoted_among
from recommender.evaluation.campaign_gains import CampaignGains, paule_mandel, pool
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.metrics import METRICS, ScoredPairs


def gains(values_C: list[float], error: float = 0.01, pairs: float = 100) -> CampaignGains:
    count = len(values_C)
    return CampaignGains(np.array(values_C), np.eye(count) * error**2, np.full(count, pairs))


def pairs_of(campaigns: int, users: int, seed: int = 0) -> tuple[ScoredPairs, ScoredPairs, np.ndarray]:
    """Every user in every campaign: the challenger's scores are the truth, the champion's a noisy copy."""
    random = np.random.default_rng(seed)
    log_odds_N = random.normal(-1, 1, campaigns * users)
    redeemed_N = (random.random(len(log_odds_N)) < 1 / (1 + np.exp(-log_odds_N))).astype(float)
    noisy_N = log_odds_N + random.normal(0, 1, len(log_odds_N))
    users_N = np.tile(np.arange(users), campaigns)
    made = [ScoredPairs(redeemed_N, 1 / (1 + np.exp(-scores_N)), users_N) for scores_N in (log_odds_N, noisy_N)]
    return made[0], made[1], np.repeat(np.arange(campaigns), users)


def test_equal_campaigns_that_vary_give_the_t_interval_of_their_mean() -> None:
    values = [0.01, 0.05, -0.03, 0.09, 0.02, 0.04]
    pooled = gains(values).pooled()
    assert pooled.value == pytest.approx(np.mean(values))
    assert pooled.standard_error == pytest.approx(np.std(values, ddof=1) / np.sqrt(6))
    assert pooled.weight_C == pytest.approx(np.full(6, 1 / 6))
    assert pooled.spread**2 == pytest.approx(np.var(values, ddof=1) - 0.01**2)


def test_campaigns_that_agree_by_chance_do_not_make_the_interval_narrower_than_their_users_do() -> None:
    pooled = gains([0.02] * 6).pooled()
    assert pooled.spread == 0
    assert pooled.standard_error == pytest.approx(0.01 / np.sqrt(6))


def test_no_campaign_weighs_more_than_two_fifths() -> None:
    few = CampaignGains(np.zeros(6), np.diag([1e-6, *[1e-2] * 5]), np.array([5000, *[30] * 5], dtype=float))
    weight_C = few.pooled().weight_C
    assert weight_C.max() == pytest.approx(0.4)
    assert weight_C.sum() == pytest.approx(1)


def test_users_in_several_campaigns_widen_the_interval() -> None:
    alone = gains([0.02, 0.03, 0.01])
    shared = CampaignGains(alone.gain_C, alone.covariance_CC + 5e-5 * (1 - np.eye(3)), alone.pairs_C)
    assert shared.pooled().standard_error ** 2 == pytest.approx(alone.pooled().standard_error ** 2 + 5e-5 * 6 / 9)


def test_the_spread_between_campaigns_is_what_their_errors_do_not_explain() -> None:
    random = np.random.default_rng(0)
    within_C = random.uniform(1e-4, 4e-4, 4000)
    gain_C = random.normal(0.01, np.sqrt(within_C + 0.03**2))
    assert np.sqrt(paule_mandel(gain_C, within_C)) == pytest.approx(0.03, rel=0.05)
    assert paule_mandel(np.array([1.0]), np.array([1.0])) == 0


def test_log_loss_is_pooled_over_campaigns_with_their_facts_and_any_level_of_interval() -> None:
    ours, theirs, campaigns_N = pairs_of(6, 200)
    found = pool(ours, theirs, campaigns_N, dict(enumerate("abcdef")), "log_loss", Bootstrap(samples=100))
    assert found is not None
    assert [one.campaign for one in found.campaigns] == list("abcdef")
    assert {one.num_pairs for one in found.campaigns} == {200}
    assert sum(one.num_positives for one in found.campaigns) == ours.redeemed_N.sum()
    whole = METRICS["log_loss"].compute(theirs, theirs.ones) - METRICS["log_loss"].compute(ours, ours.ones)
    assert found.value == pytest.approx(whole[0], rel=0.2)
    interval = found.interval(0.9)
    assert interval is not None
    assert found.standard_error is not None
    assert interval[1] - interval[0] == pytest.approx(2 * t.ppf(0.95, 5) * found.standard_error)


def test_a_campaign_of_one_outcome_has_no_auc_and_does_not_decide_by_it() -> None:
    ours, theirs, campaigns_N = pairs_of(4, 150)
    redeemed_N = np.where(campaigns_N == 2, 0.0, ours.redeemed_N)
    scored = [ScoredPairs(redeemed_N, pairs.score_N, pairs.users_N) for pairs in (ours, theirs)]
    found = pool(*scored, campaigns_N, dict(enumerate("abcd")), "auc", Bootstrap(samples=100))
    assert found is not None
    assert [one.campaign for one in found.campaigns] == ["a", "b", "d"]
    assert found.degrees_of_freedom == 2
    assert found.value > 0


def test_one_campaign_has_a_gain_but_no_interval() -> None:
    ours, theirs, campaigns_N = pairs_of(1, 150)
    found = pool(ours, theirs, campaigns_N, {0: "a"}, "log_loss", Bootstrap(samples=100))
    assert found is not None
    assert found.interval(0.95) is None


@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_equal_rankers_are_promoted_within_the_rate_that_the_gate_states(noise: float) -> None:
    worlds = 400
    share, _ = promoted(CAMPAIGNS, noise, now, worlds=worlds)
    assert share <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / worlds)
    assert promoted(GATES["3 campaigns"], noise, now, worlds=50)[0] == 0
    assert promoted(ONE_LARGE, noise, partial(now, fewest=2), worlds=worlds)[0] <= 0.05


def test_users_as_the_only_unit_promote_equal_rankers_far_too_often() -> None:
    assert promoted(CAMPAIGNS, 0.2, before, worlds=200)[0] > 0.15


def test_a_true_gain_is_promoted_more_often_than_not() -> None:
    power, gain = promoted(CAMPAIGNS, 0.1, now, worlds=400, further=0.6)
    assert 0.01 < gain < 0.02
    assert power > 0.5


def test_thirty_tries_promote_an_equal_challenger_in_at_most_one_world_of_twenty() -> None:
    worlds = 60
    assert promoted_among(0.1, now, spend=True, worlds=worlds) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / worlds)
    assert promoted_among(0.1, now, spend=False, worlds=worlds) > 0.12
