"""Exploration: what is logged as a propensity is how often it happens."""

import itertools
from collections import Counter

import numpy as np
import pytest

from recommender.policies.exploration import Exploration, explore

SCORES_N = np.array([0.30, 0.05, 0.32, 0.10, 0.30], dtype=np.float32)
DRAWS = 6_000


def drawn(kind: str, *, rate: float = 0.2, spread: float = 0.5, draws: int = DRAWS):
    for decision in range(draws):
        chance = Exploration(kind=kind, rate=rate, spread=spread, seed=f"{decision:016x}")
        yield explore(SCORES_N, f"user {decision % 7}", chance)


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_each_campaign_comes_first_as_often_as_its_propensity_says(kind: str) -> None:
    orders = list(drawn(kind))
    often_N = np.bincount([explored.order_N[0] for explored in orders], minlength=5) / DRAWS
    p_N = orders[0].first_propensities_N
    assert p_N.sum() == pytest.approx(1)
    assert np.all(np.abs(often_N - p_N) < 4 * np.sqrt(p_N * (1 - p_N) / DRAWS))
    assert all(explored.first_propensity == p_N[explored.order_N[0]] for explored in orders)


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_each_list_is_shown_as_often_as_its_propensity_says(kind: str) -> None:
    told: dict[tuple[int, ...], float] = {}
    often: Counter[tuple[int, ...]] = Counter()
    for explored in drawn(kind):
        shown = tuple(explored.order_N[:2].tolist())
        often[shown] += 1
        assert told.setdefault(shown, explored.list_propensity(2)) == pytest.approx(explored.list_propensity(2))
    for shown, p in told.items():
        assert abs(often[shown] / DRAWS - p) < 4.5 * np.sqrt(p * (1 - p) / DRAWS) + 1e-9, shown
    assert sum(told.values()) <= 1 + 1e-9


def test_the_propensities_of_all_lists_add_up_to_one() -> None:
    told = {tuple(e.order_N.tolist()): e.list_propensity(5) for e in drawn("thompson", rate=0.9, spread=5.0)}
    assert len(told) == len(list(itertools.permutations(range(5))))
    assert sum(told.values()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_no_campaign_falls_below_its_share_of_the_rate(kind: str) -> None:
    scores_N = np.array([0.9999999, 0.0, 1e-9, 1.0], dtype=np.float32)
    explored = explore(scores_N, "u", Exploration(kind=kind, rate=0.04, seed="s"))
    assert explored.first_propensities_N.min() >= 0.01 - 1e-12


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_a_decision_is_explored_the_same_way_again_and_another_one_differently(kind: str) -> None:
    def order(user: str, seed: str) -> tuple[int, ...]:
        return tuple(explore(SCORES_N, user, Exploration(kind=kind, rate=1.0, seed=seed)).order_N.tolist())

    assert order("u", "a") == order("u", "a")
    assert len({order("u", str(seed)) for seed in range(20)}) > 1
    assert len({order(str(user), "a") for user in range(20)}) > 1


@pytest.mark.parametrize("kind", ["epsilon", "thompson"])
def test_a_single_campaign_is_certain(kind: str) -> None:
    explored = explore(SCORES_N[:1], "u", Exploration(kind=kind, rate=0.3, seed="s"))
    assert (explored.first_propensity, explored.list_propensity(1)) == (1.0, 1.0)


def test_epsilon_leaves_the_others_in_the_ranker_s_order() -> None:
    best = [2, 0, 4, 3, 1]
    for explored in drawn("epsilon", rate=1.0, draws=50):
        first, *rest = explored.order_N.tolist()
        assert rest == [row for row in best if row != first]


def test_a_rate_of_zero_is_refused_and_not_logged_as_exploration() -> None:
    with pytest.raises(ValueError, match=r"rate=0\.0"):
        explore(SCORES_N, "u", Exploration(kind="epsilon", rate=0.0, seed="s"))
