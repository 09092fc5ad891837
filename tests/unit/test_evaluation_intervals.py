"""Intervals hold what they promise: the coverage, the pairing, and the speed."""

import time

import numpy as np
import pytest

from recommender.evaluation.intervals import Bootstrap, resample
from recommender.evaluation.metrics import ScoredPairs


def world(seed: int, users: int = 150, pairs_a_user: int = 4) -> tuple[ScoredPairs, ScoredPairs, float]:
    """Scores of a good and a poor ranker for users whose pairs share a strong effect, and the true mean rate."""
    random = np.random.default_rng(seed)
    users_N = np.repeat(np.arange(users), pairs_a_user)
    effect_N = random.normal(-1.0, 1.5, users)[users_N]
    truth_N = 1 / (1 + np.exp(-effect_N))
    redeemed_N = (random.random(len(users_N)) < truth_N).astype(float)
    poor_N = 1 / (1 + np.exp(-(0.3 * effect_N + random.normal(-0.7, 1.0, len(users_N)))))
    return ScoredPairs(redeemed_N, truth_N, users_N), ScoredPairs(redeemed_N, poor_N, users_N), float(truth_N.mean())


def test_the_interval_of_a_clustered_metric_covers_its_truth_as_often_as_it_says() -> None:
    """Log loss of the true probabilities, over worlds: resampling pairs instead of users would cover too seldom."""
    expected = np.mean(
        [resample({"t": world(s)[0]}, Bootstrap(100), ["log_loss"]).point["t"]["log_loss"] for s in range(400)]
    )
    covered = []
    for seed in range(1000, 1200):
        estimate = resample({"t": world(seed)[0]}, Bootstrap(300, seed=seed), ["log_loss"]).estimate("t", "log_loss")
        covered.append(estimate.low <= expected <= estimate.high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_no_calibration_error_is_said_to_be_below_zero() -> None:
    rng, found = np.random.default_rng(3), []
    for _ in range(20):
        calibrated = ScoredPairs((rng.random(40) < 0.3).astype(float), np.full(40, 0.3), np.arange(40))
        found.append(resample({"t": calibrated}, Bootstrap(200, seed=1), ["ece"]))
    estimates = [one.estimate("t", "ece") for one in found]
    assert min(one.low for one in estimates) == 0
    assert all(one.low <= one.value <= one.high for one in estimates)


def test_a_difference_excludes_zero_when_one_ranker_is_better() -> None:
    good, poor, _ = world(5)
    drawn = resample({"good": good, "poor": poor}, Bootstrap(500))
    for metric in ("auc", "ap", "log_loss"):
        assert drawn.gain("good", "poor", metric).low > 0
        assert drawn.gain("poor", "good", metric).high < 0


def test_a_difference_of_equally_good_rankers_includes_zero_about_as_often_as_it_says() -> None:
    included = []
    for seed in range(120):
        _, poor, _ = world(seed)
        other = ScoredPairs(poor.redeemed_N, world_of_equal_quality(seed), poor.users_N)
        gain = resample({"a": poor, "b": other}, Bootstrap(300, seed=seed), ["log_loss"]).gain("a", "b", "log_loss")
        included.append(gain.low <= 0 <= gain.high)
    assert 0.88 <= np.mean(included) <= 1.0


def world_of_equal_quality(seed: int) -> np.ndarray:
    """Another draw of the poor ranker's noise in the same world."""
    random = np.random.default_rng(seed)
    users_N = np.repeat(np.arange(150), 4)
    effect_N = random.normal(-1.0, 1.5, 150)[users_N]
    again = np.random.default_rng(seed + 10_000)
    return 1 / (1 + np.exp(-(0.3 * effect_N + again.normal(-0.7, 1.0, len(users_N)))))


def test_pairing_makes_the_difference_of_similar_rankers_far_surer_than_either() -> None:
    good, _, _ = world(9)
    similar = ScoredPairs(good.redeemed_N, np.clip(good.score_N + 0.01, 0, 0.999), good.users_N)
    drawn = resample({"a": good, "b": similar}, Bootstrap(300), ["log_loss"])
    alone, paired = drawn.estimate("a", "log_loss"), drawn.gain("a", "b", "log_loss")
    assert paired.high - paired.low < 0.2 * (alone.high - alone.low)


def test_the_same_ranker_gains_exactly_nothing() -> None:
    good, _, _ = world(1)
    gain = resample({"a": good, "b": good}, Bootstrap(200)).gain("a", "b", "auc")
    assert (gain.value, gain.low, gain.high) == (0.0, 0.0, 0.0)


def test_the_same_seed_gives_the_same_interval_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    good, _, _ = world(2)
    whole = resample({"a": good}, Bootstrap(200), ["auc"]).estimate("a", "auc")
    monkeypatch.setattr("recommender.evaluation.intervals.CELLS_AT_ONCE", 5_000)
    assert resample({"a": good}, Bootstrap(200), ["auc"]).estimate("a", "auc") == whole


def test_users_are_drawn_with_all_their_pairs() -> None:
    good, _, _ = world(3)
    for weights_rN in Bootstrap(50).weights(good.users_N):
        by_user = weights_rN.reshape(len(weights_rN), 150, 4)
        assert (by_user == by_user[:, :, :1]).all()
        assert (by_user[:, :, 0].sum(axis=1) == 150).all()


def test_a_thousand_resamples_of_the_real_final_tests_size_for_six_rankers_take_seconds() -> None:
    random = np.random.default_rng(0)
    redeemed_N = (random.random(2421) < 0.123).astype(float)
    users_N = random.integers(0, 1239, 2421)
    rankers = {str(k): ScoredPairs(redeemed_N, random.random(2421), users_N) for k in range(6)}
    start = time.process_time()
    resample(rankers, Bootstrap(1000))
    assert time.process_time() - start < 10
