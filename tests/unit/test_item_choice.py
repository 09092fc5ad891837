"""The items of a campaign that a user sees: the user's own first, each name once, product types within their share."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_examples import random_catalogue

from recommender.matching.affinity import AXES, MEASURES, UserAffinity
from recommender.matching.catalogue import Catalogue
from recommender.matching.item_choice import ItemChooser, popular_items

TYPE = AXES.index("product_type")


def shop(names: list[str], types: list[int]) -> Catalogue:
    """One campaign with all these items, the first the most popular."""
    base = random_catalogue(np.random.default_rng(0), num_items=20, num_campaigns=1)
    axes_VA = base.item_axes_VA.copy()
    axes_VA[1 : len(names) + 1, TYPE] = types
    return replace(
        base,
        item_names=("", *names, *base.item_names[len(names) + 1 :]),
        item_axes_VA=axes_VA,
        item_popularity_V=np.arange(21, 0, -1, dtype=np.float32),
        campaign_item_offsets=np.array([0, len(names)]),
        campaign_items=np.arange(1, len(names) + 1, dtype=np.int32),
    )


def buyer(catalogue: Catalogue, lines: dict[int, int]) -> UserAffinity:
    """A user who bought the items at these rows so many times, all of it more than 90 days ago."""
    values, counts = [], []
    for axis in range(len(AXES)):
        summed: Counter[int] = Counter()
        for row, number in lines.items():
            summed[int(catalogue.item_axes_VA[row, axis])] += number
        values.append(np.array(sorted(summed), dtype=np.int32))
        one = np.zeros((len(MEASURES), len(summed)), dtype=np.uint16)
        one[MEASURES.index("lines")] = [summed[value] for value in sorted(summed)]
        counts.append(one)
    none = np.zeros(0, dtype=np.uint16)
    cents = tuple(np.zeros(len(one), dtype=np.uint32) for one in values)
    return UserAffinity(3.0, tuple(values), tuple(counts), cents, none.astype(np.uint32), none, none)


def shown(catalogue: Catalogue, user: UserAffinity, num_items: int) -> list[tuple[int, str | None]]:
    present_v = catalogue.incidence([0]).present[AXES.index("product")][:, 0]
    return ItemChooser(user, catalogue).choose(0, num_items, present_v=present_v)


def test_a_name_is_shown_once_and_it_is_the_item_that_the_user_buys() -> None:
    catalogue = shop(["Milk", "milk ", "Bread", "Eggs"], [1, 1, 2, 3])
    chosen = shown(catalogue, buyer(catalogue, {2: 3}), 3)
    assert [row for row, _ in chosen] == [2, 3, 4]
    assert chosen[0][1] == "You bought it 3 times"
    assert popular_items(catalogue, 0, 3).tolist() == [1, 3, 4]


def test_the_user_s_own_items_come_first_those_bought_most_often_before_the_others() -> None:
    catalogue = shop([f"Item {row}" for row in range(8)], list(range(1, 9)))
    chosen = shown(catalogue, buyer(catalogue, {8: 1, 6: 5}), 4)
    assert [row for row, _ in chosen][:2] == [6, 8]
    assert all(reason is None for _, reason in chosen[2:])


def test_one_product_type_takes_no_more_than_its_share_while_there_are_others() -> None:
    catalogue = shop([f"Item {row}" for row in range(9)], [1, 1, 1, 1, 1, 2, 2, 3, 4])
    user = buyer(catalogue, dict.fromkeys([1, 2, 3, 4], 9))
    assert [row for row, _ in shown(catalogue, user, 5)] == [1, 2, 6, 7, 8]
    assert popular_items(catalogue, 0, 5).tolist() == [1, 2, 6, 7, 8]


def test_a_campaign_of_one_product_type_still_shows_as_many_items_as_asked() -> None:
    catalogue = shop([f"Item {row}" for row in range(6)], [1] * 6)
    assert [row for row, _ in shown(catalogue, buyer(catalogue, {5: 2, 4: 3, 3: 1}), 5)] == [4, 5, 3, 1, 2]
    assert popular_items(catalogue, 0, 5).tolist() == [1, 2, 3, 4, 5]


def test_items_without_a_product_type_are_not_one_type() -> None:
    catalogue = shop([f"Item {row}" for row in range(6)], [0] * 6)
    assert popular_items(catalogue, 0, 5).tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("num_items", [0, 1, 50])
def test_as_many_items_come_back_as_asked_or_as_there_are_names(num_items: int) -> None:
    catalogue = shop(["A", "B", "A", "C"], [1, 2, 1, 3])
    assert len(shown(catalogue, buyer(catalogue, {3: 1}), num_items)) == min(num_items, 3)
    assert len(popular_items(catalogue, 0, num_items)) == min(num_items, 3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3)), min_size=1, max_size=14),
    st.dictionaries(st.integers(1, 14), st.integers(1, 5), max_size=5),
    st.integers(0, 9),
)
def test_whatever_was_bought_names_differ_and_no_type_exceeds_its_share_without_need(
    items: list[tuple[str, int]], lines: dict[int, int], num_items: int
) -> None:
    catalogue = shop([name for name, _ in items], [kind for _, kind in items])
    lines = {row: number for row, number in lines.items() if row <= len(items)}
    rows = [row for row, _ in shown(catalogue, buyer(catalogue, lines), num_items)]
    names = [catalogue.item_names[row] for row in rows]
    assert len(set(names)) == len(names) == min(num_items, len({name for name, _ in items}))
    is_own = [row in lines for row in rows]
    assert is_own == sorted(is_own, reverse=True)
