"""Re-ranking: off it keeps the order of the scores bit for bit, on it trades score for variety or calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_examples import random_catalogue
from shown import shares, shop

from recommender.errors import SettingsError
from recommender.matching.catalogue import Catalogue
from recommender.matching.rerank import BY_SCORE, DEPTH, Kind, Rerank, Shares, category_mix, divergence, overlaps
from recommender.settings import Settings

KINDS: list[Kind] = ["mmr", "calibrated"]


def all_rows(catalogue: Catalogue) -> np.ndarray:
    return np.arange(len(catalogue.campaign_ids), dtype=np.int32)


def test_mmr_puts_the_campaign_that_repeats_the_first_one_last() -> None:
    # By hand, t = 0.5: after the first, the twin is worth .5 · .9 - .5 · 1 < 0 and the other .5 · .4 - 0 > 0.
    catalogue, score_N = shop([1, 2], [1, 2], [3]), np.array([0.10, 0.09, 0.04], dtype=np.float32)
    order = Rerank(kind="mmr", trade_off=0.5).order(score_N, all_rows(catalogue), catalogue, None)
    assert order.tolist() == [0, 2, 1]
    # t = 0.3: .7 · .9 - .3 · 1 = .33 against .7 · .4 = .28.
    order = Rerank(kind="mmr", trade_off=0.3).order(score_N, all_rows(catalogue), catalogue, None)
    assert order.tolist() == [0, 1, 2]


def test_overlap_is_the_shared_part_of_all_product_types() -> None:
    catalogue = shop([1, 2, 3], [2, 3, 4, 5], [6])
    found = overlaps(catalogue, all_rows(catalogue))
    np.testing.assert_allclose(found, [[1, 2 / 5, 0], [2 / 5, 1, 0], [0, 0, 1]])


def test_calibrated_puts_the_campaign_of_the_users_own_categories_first() -> None:
    catalogue, score_N = shop([1], [2], [3]), np.array([0.10, 0.09, 0.08], dtype=np.float32)
    order = Rerank(kind="calibrated", trade_off=0.5).order(score_N, all_rows(catalogue), catalogue, shares(c2=3, c3=1))
    assert order.tolist() == [1, 2, 0]


def test_divergence_is_that_of_scipy_where_the_list_has_the_same_categories() -> None:
    from scipy.stats import entropy

    own, shown = np.array([0.5, 0.3, 0.2]), np.array([[0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])
    expected = [entropy(own, 0.99 * row + 0.01 * own) for row in shown]
    np.testing.assert_allclose(divergence(own, shown), expected, atol=1e-15)


def test_category_shares_of_a_campaign_sum_to_one_and_count_items() -> None:
    catalogue = shop([1, 2, 2], [4])
    mix = category_mix(catalogue, all_rows(catalogue))
    np.testing.assert_allclose(mix[0, [1, 2]], [1 / 3, 2 / 3])
    np.testing.assert_allclose(mix.sum(axis=1), 1)


def test_calibrated_needs_to_know_what_the_user_buys() -> None:
    catalogue, score_N = shop([1], [2]), np.array([0.1, 0.09], dtype=np.float32)
    rerank = Rerank(kind="calibrated", trade_off=0.9)
    nothing = Shares(np.zeros(0, dtype=np.int32), np.zeros(0))
    assert rerank.order(score_N, all_rows(catalogue), catalogue, nothing).tolist() == [0, 1]
    assert rerank.order(score_N, all_rows(catalogue), catalogue, None).tolist() == [0, 1]


SCORES = st.lists(
    st.sampled_from([0.0, 0.01, 0.01, 0.2, 0.5, 1.0]) | st.floats(0, 1, width=32), min_size=1, max_size=70
)


@given(SCORES, st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_every_order_has_each_candidate_once_and_trade_off_0_is_the_order_of_the_scores(
    scores: list[float], kind: Kind, trade_off: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    catalogue = random_catalogue(random, num_campaigns=len(scores))
    rows_N, score_N = all_rows(catalogue)[::-1].copy(), np.array(scores, dtype=np.float32)
    own = shares(**{f"c{k}": float(random.integers(1, 9)) for k in range(1, 5)})
    by_score = np.argsort(-score_N, kind="stable")
    assert BY_SCORE.order(score_N, rows_N, catalogue, own).tolist() == by_score.tolist()
    off = Rerank(kind=kind, trade_off=0.0)
    assert off.order(score_N, rows_N, catalogue, own).tolist() == by_score.tolist()
    barely = Rerank(kind=kind, trade_off=1e-12)  # the other path through the code
    distinct = len(set(score_N.tolist())) == len(scores) and np.diff(np.sort(score_N)).min(initial=1) > 1e-4
    if distinct:
        assert barely.order(score_N, rows_N, catalogue, own).tolist() == by_score.tolist()
    order = Rerank(kind=kind, trade_off=trade_off).order(score_N, rows_N, catalogue, own)
    assert sorted(order.tolist()) == list(range(len(scores)))
    beyond = order[DEPTH:]
    assert beyond.tolist() == [place for place in by_score.tolist() if place in set(beyond.tolist())]


def test_a_new_catalogue_brings_its_own_overlaps() -> None:
    score_N = np.array([0.10, 0.09, 0.04], dtype=np.float32)
    rerank, orders = Rerank(kind="mmr", trade_off=0.5), []
    for catalogue in (shop([1], [1], [2]), shop([1], [3], [2])):
        orders.append(rerank.order(score_N, all_rows(catalogue), catalogue, None).tolist())
    assert orders == [[0, 2, 1], [0, 1, 2]]


def test_re_ranking_and_exploration_together_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"serving.*rerank.*mmr.*epsilon"):
        Settings().updated(serving={"rerank": "mmr", "exploration": "epsilon"})
    assert not Rerank.of(Settings().serving).is_on
    assert Rerank.of(Settings().updated(serving={"rerank": "mmr"}).serving) == Rerank(kind="mmr", trade_off=0.3)
