"""Rings come back from their bytes behind a history, and damage is named."""

from dataclasses import replace

import numpy as np
import pytest

from recommender.datasets.time_units import DAY_S
from recommender.errors import FeatureStoreError
from recommender.events.ledger import Ledger
from recommender.matching.numbering import Numbering
from recommender.matching.packed_history import pack_history, unpack_history, unpack_rings
from recommender.matching.rings import KINDS, MOST_ITEM_LINES, Older, Rings, Times, Totals, basket_code

NUMBERING = Numbering(versions=("0123456789abcdef",), num_values=(9,) * 6, num_items=9)
HISTORY = pack_history(np.array([10, 20]), np.array([1.5, 2.5]), np.array([1, 2]), np.array([3, 4, 5]), NUMBERING.name)


def rings(cents: int) -> Rings:
    numbers = np.array([1, 2, 3], dtype=np.int64)
    return Rings(
        totals=Totals(first_s=5, baskets=70, cents=cents, lines=9, rated=2, rating_cents=850),
        coupon_T=np.array([True, False, True]),
        discounted_T=np.array([False, True, False]),
        coupon_cents_B=np.array([0, 25]),
        codes=np.array([basket_code("a"), basket_code("b")], dtype=np.uint32),
        older=Older(numbers, numbers + cents, numbers, numbers, numbers, numbers),
        older_items_L=np.array([7, 8], dtype=np.int32),
        older_coupon_L=np.array([False, True]),
        kinds={"view": Times(numbers, numbers, 1), KINDS[-1]: Times(numbers[:1], numbers[:1])},
    )


@pytest.mark.parametrize("cents", [4_000, 6_000_000_000])
def test_rings_come_back_from_behind_a_history_which_reads_as_without_them(cents: int) -> None:
    made = rings(cents)
    packed = HISTORY + made.pack()
    history = unpack_history(packed, NUMBERING)
    for ours, theirs in zip(history, unpack_history(HISTORY, NUMBERING), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    found = unpack_rings(packed, history)
    assert found is not None
    assert found.totals == made.totals
    for name in ("coupon_T", "discounted_T", "coupon_cents_B", "codes", "older_items_L", "older_coupon_L"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    np.testing.assert_array_equal(np.stack(found.older), np.stack(made.older))
    assert list(found.kinds) == ["view", KINDS[-1]]
    np.testing.assert_array_equal(found.times("view").time_s_n, [1, 2, 3])
    assert (found.times("view").num_days, len(found.times("cart").time_s_n)) == (1, 0)
    assert unpack_rings(HISTORY, history) is None


def test_a_basket_of_very_many_lines_counts_as_many_as_fit() -> None:
    made = rings(4_000)
    many = np.array([1, 70_000, 3], dtype=np.int64)
    packed = HISTORY + replace(made, older=made.older._replace(lines_O=many)).pack()
    found = unpack_rings(packed, unpack_history(HISTORY, NUMBERING))
    assert found is not None
    np.testing.assert_array_equal(found.older.lines_O, [1, 65_535, 3])


def test_a_row_whose_older_lines_were_cut_says_from_when_on_it_knows_items() -> None:
    numbers = np.arange(3, dtype=np.int64)
    older = Older(DAY_S * (numbers + 10), numbers, numbers, np.full(3, 1_000, dtype=np.int64), numbers, numbers)
    made = replace(
        rings(4_000),
        older=older,
        older_items_L=np.arange(MOST_ITEM_LINES, dtype=np.int32),
        older_coupon_L=np.zeros(MOST_ITEM_LINES, dtype=np.bool_),
    )
    at_us = 14 * DAY_S * 1_000_000
    for kept, days in ((MOST_ITEM_LINES, 3), (MOST_ITEM_LINES - 1, 90)):
        fewer = replace(made, older_items_L=made.older_items_L[:kept], older_coupon_L=made.older_coupon_L[:kept])
        ledger = Ledger.of(unpack_history(HISTORY, NUMBERING), fewer, at_us, 100)
        assert ledger.has_items(days, at_us)
        assert not ledger.has_items(days + 1, at_us)


def test_rings_that_were_cut_off_or_of_another_history_are_refused() -> None:
    packed = HISTORY + rings(4_000).pack()
    with pytest.raises(FeatureStoreError, match="history"):
        unpack_history(packed[:-1], NUMBERING)
    with pytest.raises(FeatureStoreError, match="rings"):
        Rings.unpack(packed[:-1], len(HISTORY), 2)
    with pytest.raises(FeatureStoreError, match="rings"):
        Rings.unpack(packed, len(HISTORY), 1)
