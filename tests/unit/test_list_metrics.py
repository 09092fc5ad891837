"""Metrics of lists against examples worked by hand, and against other implementations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from shown import period_lists, shares, shop, shown
from sklearn.metrics import recall_score

from recommender.evaluation import list_metrics
from recommender.evaluation.document import Estimate
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.judgement import Guardrails, Judgement, ListRule
from recommender.evaluation.list_checks import checks_of, list_checks
from recommender.evaluation.list_metrics import ShownLists
from recommender.evaluation.list_results import COVERAGE, LIST_METRICS, OPPORTUNITY_GAP, list_result
from recommender.matching.rerank import BY_SCORE, Rerank

FOUR = shop([1], [2], [3], [1, 2])


def value(metric: str, lists: ShownLists) -> float:
    return float(LIST_METRICS[metric].compute(lists, lists.ones)[0])


def test_coverage_counts_campaigns_and_items_that_somebody_sees() -> None:
    lists = shown(FOUR, [[0, 1], [1, 0]], items=[[[1], [2]], [[2], [1]]])
    assert value("campaign_coverage", lists) == 2 / 4
    assert value("item_coverage", lists) == pytest.approx(2 / 3)
    only = shown(FOUR, [[0, 1], [1, 0]], candidates=[[0, 1], [0, 1, 2]])
    assert value("campaign_coverage", only) == pytest.approx(2 / 3), "what nobody could be shown does not count"


def test_gini_is_that_of_all_differences() -> None:
    lists = shown(FOUR, [[0, 1], [0, 2], [0, -1]])
    second = 1 / np.log2(3)
    exposure = np.array([1, second / 3, second / 3, 0])
    by_pairs = np.abs(exposure[:, None] - exposure).sum() / (2 * 16 * exposure.mean())
    assert value("exposure_gini", lists) == pytest.approx(by_pairs)
    assert value("exposure_gini", shown(FOUR, [[0], [1], [2], [3]])) == pytest.approx(0)
    assert value("exposure_gini", shown(FOUR, [[2]] * 5)) == pytest.approx(3 / 4)


def test_a_campaign_that_is_live_for_few_is_compared_by_those_who_could_see_it() -> None:
    lists = shown(shop([1], [2]), [[0], [0], [1]], candidates=[[0], [0], [1]])
    assert value("exposure_gini", lists) == pytest.approx(0)


def test_diversity_of_campaigns_is_one_minus_their_mean_overlap() -> None:
    # 0 and 3 share one of two types; 0 and 1 none.
    assert list_metrics.campaign_diversity(shown(FOUR, [[0, 3], [0, 1]])) == pytest.approx([1 / 2, 1])
    assert np.isnan(list_metrics.campaign_diversity(shown(FOUR, [[0, -1]]))).all()


def test_diversity_of_items_is_the_share_of_attributes_that_differ() -> None:
    catalogue = shop([1], [2], [3], [4])
    catalogue.item_axes_VA[1, 1:], catalogue.item_axes_VA[2, 1:] = [1, 1, 1, 1, 1], [2, 1, 1, 1, 0]
    lists = shown(catalogue, [[0, 1], [0, 1]], items=[[[1], [2]], [[1], [1]]])
    assert list_metrics.item_diversity(lists) == pytest.approx([1 / 4, 0]), (
        "an attribute that is unknown does not count"
    )


def test_novelty_is_self_information_in_bits() -> None:
    catalogue = shop([1], [2], [3], [4])
    catalogue.item_popularity_V[:] = 0
    catalogue.item_popularity_V[1:4] = [4, 2, 2]
    found = list_metrics.novelty(shown(catalogue, [[0, 1], [0, -1]], items=[[[1], [2]], [[1], [0]]]))
    assert found == pytest.approx([1.5, 1], abs=0.01), "-log2 of 1/2 and of 1/4; unsold items have a little"


def test_distance_from_own_categories_is_the_smoothed_divergence_of_the_weighted_list() -> None:
    lists = shown(FOUR, [[0, 1], [2, -1]], own=[shares(c1=3, c2=1), shares(c1=1)])
    second = 1 / np.log2(3)
    mix = np.array([1, second]) / (1 + second)
    own = np.array([0.75, 0.25])
    by_scipy = entropy(own, 0.99 * mix + 0.01 * own)
    assert list_metrics.miscalibration(lists) == pytest.approx([by_scipy, -np.log(0.01)])


def test_a_participation_is_caught_by_the_first_places() -> None:
    lists = [[0, 1], [1, 0], [2, 0]]
    relevant = [[0], [0], [3]]
    assert value("caught", shown(FOUR, lists, relevant=relevant)) == pytest.approx(1 / 3)
    assert value("caught", shown(FOUR, lists, relevant=relevant, top=2)) == pytest.approx(2 / 3)
    assert np.isnan(value("caught", shown(FOUR, lists)))


def test_gaps_compare_the_groups_of_shoppers() -> None:
    lists = shown(FOUR, [[0], [1], [0], [0]], relevant=[[0], [0], [0], [0]], groups=[0, 0, 1, 1])
    assert value("opportunity_gap", lists) == pytest.approx(1 / 2)
    assert value("exposure_gap", lists) == pytest.approx(1 / 4), "1/2 and 1 of the attention against 3/4 of all"
    unjudged = shown(FOUR, [[0], [1]], relevant=[[0], [0]], groups=[0, -1])
    assert np.isnan(value("opportunity_gap", unjudged))


def test_opportunity_gap_is_that_of_recall_by_group() -> None:
    random = np.random.default_rng(3)
    lists, relevant, groups = random.integers(4, size=200), random.integers(4, size=200), random.integers(0, 3, 200)
    of = shown(FOUR, lists[:, None].tolist(), relevant=relevant[:, None].tolist(), groups=groups.tolist())
    said = (lists == relevant).astype(int)
    recalls = [recall_score(np.ones((groups == one).sum()), said[groups == one]) for one in range(3)]
    assert value("opportunity_gap", of) == pytest.approx(max(recalls) - min(recalls))


@given(st.integers(0, 2**16), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_ranges_and_doubling_the_users_changes_nothing(seed: int, num_places: int) -> None:
    lists, log_odds_M = period_lists(seed, num_users=30)
    rule = ListRule(cut=num_places)
    of = lists.shown(log_odds_M.astype(np.float32), rule=rule, rerank=BY_SCORE, groups={"age_band": ["18-34", "35-54"]})
    for name, metric in LIST_METRICS.items():
        once, twice = metric.compute(of, np.concatenate([of.ones, 2 * of.ones]))
        np.testing.assert_allclose(once, twice, rtol=1e-12, err_msg=name)
        if np.isfinite(once):
            assert 0 <= once <= (np.inf if name in ("novelty", "miscalibration") else 1 + 1e-12), name


RULES = Judgement(guardrails=Guardrails(min_slice_positives=5), lists=ListRule(cut=1))


def judged(seed: int, challenger_M: np.ndarray, champion_M: np.ndarray, rerank: Rerank = BY_SCORE) -> dict[str, bool]:
    lists, _ = period_lists(seed)
    result = list_result(
        lists,
        {"new": challenger_M.astype(np.float32), "old": champion_M.astype(np.float32)},
        challenger="new",
        champion="old",
        rules=RULES,
        rerank=rerank,
        bootstrap=Bootstrap(samples=200, seed=seed),
    )
    return {check.name: check.passed for check in list_checks(result, RULES.guardrails)}


def test_a_challenger_that_hides_a_campaign_is_held_for_coverage_alone() -> None:
    lists, log_odds_M = period_lists(1)
    hides_M = np.where(lists.lists.examples.campaigns_N == 2, -99, log_odds_M)
    assert judged(1, hides_M, log_odds_M) == {"campaign coverage": False, "opportunity gap": True}
    assert judged(1, log_odds_M, hides_M) == {"campaign coverage": True, "opportunity gap": True}


def test_a_challenger_that_serves_one_group_by_chance_is_held_for_opportunity_alone() -> None:
    lists, log_odds_M = period_lists(2)
    group_M = np.repeat(np.array(lists.segments["age_band"]) == "18-34", 4)
    blind_M = np.where(group_M, np.random.default_rng(0).normal(size=len(log_odds_M)), log_odds_M)
    assert judged(2, blind_M, log_odds_M) == {"campaign coverage": True, "opportunity gap": False}


def test_equal_challengers_are_hardly_ever_held() -> None:
    held = 0
    for seed in range(60):
        _, log_odds_M = period_lists(seed)
        noise_2M = np.random.default_rng(seed).normal(0, 0.7, (2, len(log_odds_M)))
        held += not all(judged(seed, log_odds_M + noise_2M[0], log_odds_M + noise_2M[1]).values())
    assert held <= 5, "at 2.5 % for each of two checks, more than five of 60 has probability 0.03; the limit halves it"


def test_without_lists_the_checks_say_that_nothing_was_measured() -> None:
    assert [(check.passed, check.measured) for check in list_checks(None, Guardrails())] == [(True, None)] * 2


@pytest.mark.parametrize(
    ("value", "verb"), [(-0.0, "does not change"), (-0.2, "drops by 0.200"), (0.2, "grows by 0.200")]
)
def test_a_change_is_named_by_its_direction_and_never_by_a_negative_zero(value: float, verb: str) -> None:
    both = {name: Estimate(value=value, low=value, high=value) for name in (COVERAGE, OPPORTUNITY_GAP)}
    coverage, gap = checks_of(both, Guardrails())
    assert verb in coverage.words
    assert verb in gap.words
    assert "-0" not in f"{coverage.words} {gap.words}"
    assert str(coverage.measured) == ("0.0" if value == 0 else str(-value))
    assert (coverage.passed, gap.passed) == (value >= 0, value <= 0)


def test_lists_are_judged_as_they_are_re_ranked() -> None:
    lists, log_odds_M = period_lists(4)
    score_M = (1 / (1 + np.exp(-log_odds_M))).astype(np.float32)
    by_score, varied = (
        lists.shown(score_M, rule=ListRule(cut=2), rerank=rerank, groups={"age_band": []})
        for rerank in (BY_SCORE, Rerank(kind="mmr", trade_off=0.7))
    )
    assert list_metrics.campaign_diversity(varied).mean() > list_metrics.campaign_diversity(by_score).mean()
    assert varied.shown_LK[:, 0].tolist() == by_score.shown_LK[:, 0].tolist(), "`mmr` keeps the first"
