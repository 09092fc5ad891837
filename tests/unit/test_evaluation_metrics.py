"""The metrics are what their definitions say: equal to scikit-learn's, ties and weights included."""

import numpy as np
import pytest
from sklearn import metrics as reference

from recommender.evaluation.curves import calibration_bins, precision_recall_points, roc_points
from recommender.evaluation.heads import head_quality
from recommender.evaluation.metrics import METRICS, ScoredPairs, ece_floor, equal_mass_bins


def pairs(seed: int = 3, count: int = 400, decimals: int = 1) -> ScoredPairs:
    """Pairs with heavily tied scores. With 10 decimals there is no tie."""
    random = np.random.default_rng(seed)
    score_N = np.clip(np.round(random.beta(1.2, 6, count), decimals), 0.001, 0.999)
    redeemed_N = (random.random(count) < score_N).astype(float)
    return ScoredPairs(redeemed_N, score_N, random.integers(0, 90, count))


def value(name: str, judged: ScoredPairs) -> float:
    return float(METRICS[name].compute(judged, judged.ones)[0])


@pytest.mark.parametrize("decimals", [1, 2, 10])
def test_auc_precision_log_loss_and_brier_equal_scikit_learns(decimals: int) -> None:
    judged = pairs(decimals=decimals)
    said = judged.redeemed_N, judged.score_N
    assert value("auc", judged) == pytest.approx(reference.roc_auc_score(*said), abs=1e-12)
    assert value("ap", judged) == pytest.approx(reference.average_precision_score(*said), abs=1e-12)
    assert value("log_loss", judged) == pytest.approx(reference.log_loss(*said), abs=1e-12)
    assert value("brier", judged) == pytest.approx(reference.brier_score_loss(*said), abs=1e-12)


@pytest.mark.parametrize("name", ["auc", "ap", "log_loss", "brier", "lift_10", "gauc", "ndcg_3"])
def test_a_weight_of_two_is_the_pair_twice(name: str) -> None:
    judged = pairs()
    weights_N = np.random.default_rng(0).integers(0, 3, 90)[judged.users_N].astype(float)
    repeated = np.repeat(np.arange(len(weights_N)), weights_N.astype(int))
    twice = ScoredPairs(judged.redeemed_N[repeated], judged.score_N[repeated], judged.users_N[repeated])
    if name in ("gauc", "ndcg_3"):
        # A user drawn twice is two users with the same pairs.
        copy = np.concatenate([np.arange(int(weight)) for weight in weights_N])
        twice = ScoredPairs(twice.redeemed_N, twice.score_N, twice.users_N * 3 + copy)
    weighted = METRICS[name].compute(judged, weights_N[None, :])[0]
    assert weighted == pytest.approx(value(name, twice), abs=1e-12)


def test_gauc_weighs_a_user_by_their_pairs() -> None:
    judged = ScoredPairs(
        np.array([1.0, 0, 1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.8, 0.1, 0.5]), np.array([0, 0, 1, 1, 1, 2])
    )
    assert value("gauc", judged) == pytest.approx((2 * 1.0 + 3 * 0.5) / 5)


def test_ndcg_equals_scikit_learns_for_each_user_who_redeems() -> None:
    judged = pairs()
    expected = []
    for user in range(90):
        rows = judged.users_N == user
        if rows.sum() > 1 and judged.redeemed_N[rows].any():
            expected.append(reference.ndcg_score([judged.redeemed_N[rows]], [judged.score_N[rows]], k=3))
    assert value("ndcg_3", judged) == pytest.approx(np.mean(expected), abs=1e-12)


def test_ece_is_the_mean_gap_over_bins_of_equally_many_pairs() -> None:
    score_N = np.repeat([0.1, 0.3, 0.6, 0.9], 25)
    redeemed_N = np.concatenate([np.arange(25) < found for found in (0, 10, 15, 20)]).astype(float)
    judged = ScoredPairs(redeemed_N, score_N, np.arange(100))
    assert value("ece", judged) == pytest.approx((0.1 + 0.1 + 0.0 + 0.1) / 4)


def test_the_floor_explains_the_ece_of_a_calibrated_ranker_and_not_that_of_an_overconfident_one() -> None:
    calibrated = pairs(count=3000, decimals=10)
    assert value("ece", calibrated) == pytest.approx(ece_floor(calibrated), abs=0.006)
    overconfident = ScoredPairs(calibrated.redeemed_N, np.clip(calibrated.score_N * 2, 0, 0.999), calibrated.users_N)
    assert value("ece", overconfident) - ece_floor(overconfident) > 0.1


def test_lift_of_the_best_tenth_counts_a_tie_at_its_edge_by_its_share() -> None:
    redeemed_N = np.zeros(100)
    redeemed_N[:20] = 1
    score_N = np.where(np.arange(100) < 20, 0.5, 0.1)
    assert value("lift_10", ScoredPairs(redeemed_N, score_N, np.arange(100))) == pytest.approx(5.0)
    everyone_alike = ScoredPairs(redeemed_N, np.full(100, 0.2), np.arange(100))
    assert value("lift_10", everyone_alike) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["auc", "ap", "gauc", "ndcg_3", "lift_10"])
def test_what_one_class_leaves_undefined_is_nan_and_not_a_number(name: str) -> None:
    judged = ScoredPairs(np.zeros(10), np.linspace(0.1, 0.9, 10), np.arange(10))
    assert np.isnan(value(name, judged))


def test_bins_hold_equally_many_pairs_and_never_split_a_tie() -> None:
    assert np.bincount(equal_mass_bins(np.linspace(0, 1, 150))).tolist() == [10] * 15
    tied = equal_mass_bins(np.repeat([0.2, 0.4], [140, 10]))
    assert len(set(tied[:140].tolist())) == 1


def test_roc_points_are_scikit_learns_thinned_with_finite_thresholds() -> None:
    judged = pairs(count=5000, decimals=10)
    points = roc_points(judged, max_points=100)
    assert len(points) == 100
    assert np.isfinite(points).all()
    assert points[0][:2] == (0.0, 0.0)
    assert points[-1][:2] == (1.0, 1.0)
    thinned = np.array(points)
    assert np.trapezoid(thinned[:, 1], thinned[:, 0]) == pytest.approx(value("auc", judged), abs=0.005)
    assert (np.diff(thinned[:, 2]) < 0).all()


def test_precision_recall_points_end_at_the_base_rate() -> None:
    judged = pairs()
    recall, precision = precision_recall_points(judged)[-1]
    assert recall == 1.0
    assert precision == pytest.approx(judged.redeemed_N.mean())


def test_calibration_bins_hold_all_pairs_and_their_interval_holds_the_observed_share() -> None:
    judged = pairs(decimals=10)
    bins = calibration_bins(judged)
    assert sum(b.count for b in bins) == len(judged.score_N)
    assert all(b.low <= b.observed <= b.high for b in bins)


def test_a_head_is_judged_on_known_amounts_only() -> None:
    known = np.array([1.0, 2.0, 3.0, np.nan])
    head = head_quality(known, np.array([2.0, 3.0, 5.0, 100.0]))
    assert head is not None
    assert (head.num_pairs, head.mae, head.rank_correlation) == (3, pytest.approx(4 / 3), pytest.approx(1.0))
    assert head_quality(known, None) is None
