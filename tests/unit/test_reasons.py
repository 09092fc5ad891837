"""Reasons for a campaign: true facts about the user that speak for it."""

import numpy as np
import pytest
from random_examples import random_catalogue

from recommender.matching.affinity import AXES, MEASURES, UserAffinity, match, type_code
from recommender.matching.catalogue import Catalogue
from recommender.matching.reasons import GROUPS, OTHER, FeatureGroups, popularity_reason, reasons


@pytest.fixture
def catalogue() -> Catalogue:
    return random_catalogue(np.random.default_rng(0))


def user_of(catalogue: Catalogue, rows: list[int], *, targeted: int = 0, redeemed: int = 0) -> UserAffinity:
    """A user who bought each of these items once in the last month, and had so many campaigns of type A."""
    values = tuple(
        np.array(sorted({int(value) for value in catalogue.item_axes_VA[rows, axis]}), dtype=np.int32)
        for axis in range(len(AXES))
    )
    counts = []
    for axis, known in enumerate(values):
        bought = [int((catalogue.item_axes_VA[rows, axis] == value).sum()) for value in known.tolist()]
        one = np.zeros((len(MEASURES), len(known)), dtype=np.uint16)
        for measure in ("lines", "lines_90", "lines_30"):
            one[MEASURES.index(measure)] = bought
        counts.append(one)
    return UserAffinity(
        months=3.0,
        values=values,
        counts=tuple(counts),
        cents=tuple(np.zeros(len(known), dtype=np.uint32) for known in values),
        types=np.array([type_code("A")], dtype=np.uint32),
        targeted=np.array([targeted], dtype=np.uint16),
        redeemed=np.array([redeemed], dtype=np.uint16),
    )


def weights(**given: float) -> dict[str, float]:
    return {**dict.fromkeys(GROUPS, 0.0), **given}


def test_a_user_with_own_items_has_a_reason_even_where_the_ranker_expected_more(catalogue: Catalogue) -> None:
    user = user_of(catalogue, catalogue.items_of(0)[:2].tolist())
    found = reasons(match(user, catalogue.incidence([0])), 0, weights=weights(products=-0.4, product_types=-0.1))
    assert [(fact.group, fact.count) for fact in found] == [("products", 2)]


def test_the_facts_that_raised_the_score_come_first_and_others_are_left_out(catalogue: Catalogue) -> None:
    user = user_of(catalogue, catalogue.items_of(0)[:3].tolist())
    given = weights(products=0.1, product_types=0.4, brands=-0.2)
    found = reasons(match(user, catalogue.incidence([0])), 0, weights=given)
    assert [fact.group for fact in found] == ["product_types", "products"]
    without = reasons(match(user, catalogue.incidence([0])), 0, weights=None)
    assert [fact.group for fact in without] == ["products", "product_types", "brands"]


def test_a_user_without_any_fact_has_no_reason(catalogue: Catalogue) -> None:
    assert reasons(match(user_of(catalogue, []), catalogue.incidence([0])), 0, weights=None) == []


@pytest.mark.parametrize(("redeemed", "speaks"), [(0, False), (1, False), (3, True)])
def test_a_rate_below_that_of_others_does_not_speak_for_a_campaign(
    catalogue: Catalogue, redeemed: int, speaks: bool
) -> None:
    user = user_of(catalogue, [], targeted=12, redeemed=redeemed)
    found = reasons(match(user, catalogue.incidence([0])), 0, weights=weights(campaigns=1.0), base_rate=0.1)
    assert [(fact.group, fact.count) for fact in found] == ([("campaigns", redeemed)] if speaks else [])


def test_old_features_say_nothing_about_the_last_days(catalogue: Catalogue) -> None:
    user = user_of(catalogue, catalogue.items_of(0)[:2].tolist())
    fresh = reasons(match(user, catalogue.incidence([0])), 0, weights=None)
    old = reasons(match(user, catalogue.incidence([0])), 0, weights=None, is_recent=False)
    assert [fact.days for fact in fresh] == [None, 30, 90]
    assert [fact.days for fact in old] == [None, None, None]
    assert not any("last" in fact.text for fact in old)


@pytest.mark.parametrize(("rate", "words"), [(0.123, "About 12 in 100"), (0.004, "Fewer than 1 in 100")])
def test_the_rate_of_others_is_not_rounded_up(catalogue: Catalogue, rate: float, words: str) -> None:
    catalogue.campaign_popularity_C[0] = rate
    assert popularity_reason(catalogue, 0).startswith(words)


def test_all_contributions_together_are_the_sum_over_the_features() -> None:
    groups = FeatureGroups.of(["affinity__product__lines_share", "base__age", "behaviour__campaigns_redeemed"])
    (found,) = groups.weights(np.array([[0.5, 0.25, -1.0]], dtype=np.float32))
    assert (found["products"], found["campaigns"], found[OTHER]) == (0.5, -1.0, 0.25)


def test_a_pair_has_the_same_weights_alone_and_among_others() -> None:
    names = [f"affinity__{axis}__{number}" for axis in ("product", "brand", "category") for number in range(40)]
    groups, drawn = FeatureGroups.of([*names, "base__age"]), np.random.default_rng(5)
    contributions_NF = drawn.normal(0, 1, (9, len(names) + 1)).astype(np.float32)
    alone = [groups.weights(contributions_NF[[pair]])[0] for pair in range(9)]
    assert groups.weights(contributions_NF) == alone
    assert len({one["brands"] for one in alone}) == 9


@pytest.mark.parametrize(("targeted", "redeemed", "number"), [(1, 1, None), (3, 2, "2 of your last 3 campaigns")])
def test_one_campaign_that_was_taken_up_is_the_last_one(
    catalogue: Catalogue, targeted: int, redeemed: int, number: str | None
) -> None:
    user = user_of(catalogue, [], targeted=targeted, redeemed=redeemed)
    (fact,) = reasons(match(user, catalogue.incidence([0])), 0, weights=None)
    assert (fact.group, fact.count) == ("campaigns", redeemed)
    assert any(character.isdigit() for character in fact.text) == (number is not None)
    assert number is None or number in fact.text
