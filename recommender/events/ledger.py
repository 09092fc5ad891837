"""The baskets of a user that a row knows, with those of the tail: what counts within windows is read from them.

Shapes: B baskets, oldest first · T their lines, in the order of baskets.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S, SECOND_US
from recommender.matching.packed_history import MAX_BASKETS, PackedBaskets
from recommender.matching.rings import ITEM_DAYS, MOST_ITEM_LINES, MOST_OLDER, OLDER_DAYS, Rings, Totals, basket_code

_ALWAYS = -(2**62)
"""Second from which on a row knows everything, where it knows everything."""
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Line:
    """One purchase line of the tail, as features count it."""

    item_row: int
    time_us: int
    basket: str
    cents: int
    discount_cents: int = 0
    coupon_cents: int = 0


@dataclass(frozen=True, eq=False)
class Ledger:
    """Baskets and lines that are known one by one, and sums over all that the user ever bought."""

    time_us_B: Ints
    spend_B: NDArray[np.float32]
    cents_B: Ints
    lines_B: Ints
    coupon_cents_B: Ints
    coupon_lines_B: Ints
    discounted_B: Ints
    basket_T: Ints
    """Place of each line's basket. The lines of the oldest baskets may be missing."""
    item_T: NDArray[np.int32]
    coupon_T: NDArray[np.bool_]
    discounted_T: NDArray[np.bool_]
    codes: dict[int, int]
    """`basket_code` of the row's last baskets -> their place."""
    totals: Totals | None
    """None: the row holds no sums, and not every basket."""
    since_s: int
    """All baskets from this second on are there."""
    items_since_s: int
    """All lines from this second on are there."""
    has_marks: bool
    """Whether it is known which lines had a discount or a coupon. Not so in a row from before there were rings."""

    @classmethod
    def of(cls, history: PackedBaskets, rings: Rings | None, feature_time_us: int, minor_units: int) -> Self:
        """What a row knows.

        Args:
            history: its baskets.
            rings: its rings, where it has some.
            feature_time_us: its moment, microseconds since 1970, UTC.
            minor_units: whole minor units in one unit of the currency.
        """
        lines_B, times_us_B = history.lines_B.astype(np.int64), history.times_us_B.astype(np.int64)
        cents_B = np.rint(history.spend_B.astype(np.float64) * minor_units).astype(np.int64)
        basket_T, num_baskets, num_lines = np.repeat(np.arange(len(lines_B)), lines_B), len(lines_B), int(lines_B.sum())
        none_T, none_B = np.zeros(num_lines, dtype=np.bool_), np.zeros(num_baskets, dtype=np.int64)
        if rings is None:
            held_all = num_baskets < MAX_BASKETS
            # A basket of the oldest one's second may be missing.
            since_s = _ALWAYS if held_all else int(times_us_B[0]) // SECOND_US + 1
            totals = _summed(times_us_B, cents_B, lines_B) if held_all else None
            marks = {"coupon_cents_B": none_B, "coupon_lines_B": none_B, "discounted_B": none_B}
            return cls(
                times_us_B, history.spend_B, cents_B, lines_B, **marks, basket_T=basket_T, item_T=history.items_T,
                coupon_T=none_T, discounted_T=none_T, codes={}, totals=totals, since_s=since_s,
                items_since_s=since_s, has_marks=False,
            )  # fmt: skip
        older, feature_time_s = rings.older, feature_time_us // SECOND_US
        num_older, num_items = len(older.time_s_O), len(rings.older_items_L)
        # The lines that are kept are those of the last ones.
        ends_O = np.cumsum(older.lines_O)
        place_L = np.searchsorted(ends_O, np.arange(num_items) + (ends_O[-1] - num_items if num_older else 0), "right")
        items_since_s = feature_time_s - ITEM_DAYS * DAY_S
        if num_items >= MOST_ITEM_LINES:
            # Lines may be missing of the oldest basket that has any, and of another one of its second.
            items_since_s = max(items_since_s, int(older.time_s_O[place_L[0]]) + 1)
        held_all = rings.totals.baskets <= num_older + num_baskets
        since_s = int(older.time_s_O[0]) + 1 if num_older == MOST_OLDER else feature_time_s - OLDER_DAYS * DAY_S
        first = num_older + num_baskets - len(rings.codes)
        return cls(
            time_us_B=np.concatenate([older.time_s_O * SECOND_US, times_us_B]),
            spend_B=np.concatenate([(older.cents_O / minor_units).astype(np.float32), history.spend_B]),
            cents_B=np.concatenate([older.cents_O, cents_B]),
            lines_B=np.concatenate([older.lines_O, lines_B]),
            coupon_cents_B=np.concatenate([older.coupon_cents_O, rings.coupon_cents_B]),
            coupon_lines_B=np.concatenate([older.coupon_lines_O, _counted(rings.coupon_T, basket_T, num_baskets)]),
            discounted_B=np.concatenate([older.discounted_O, _counted(rings.discounted_T, basket_T, num_baskets)]),
            basket_T=np.concatenate([place_L, basket_T + num_older]),
            item_T=np.concatenate([rings.older_items_L, history.items_T]),
            coupon_T=np.concatenate([rings.older_coupon_L, rings.coupon_T]),
            discounted_T=np.concatenate([np.zeros(num_items, dtype=np.bool_), rings.discounted_T]),
            codes={code: first + place for place, code in enumerate(rings.codes.tolist())},
            totals=rings.totals,
            since_s=_ALWAYS if held_all else since_s,
            items_since_s=_ALWAYS if num_older == 0 else items_since_s,
            has_marks=True,
        )

    @property
    def holds_all(self) -> bool:
        """Whether every basket that the user ever bought is there."""
        return self.since_s == _ALWAYS

    def covers(self, days: float, at_us: int) -> bool:
        """Whether every basket of the last days before a moment is there."""
        return at_us // SECOND_US - days * DAY_S >= self.since_s

    def has_items(self, days: float, at_us: int) -> bool:
        """Whether every line of the last days before a moment is there."""
        return at_us // SECOND_US - days * DAY_S >= self.items_since_s

    def age_days_B(self, at_us: int) -> NDArray[np.float64]:
        """Days from baskets to a moment. Both count in whole seconds, rounded down, as in `features.source`."""
        return np.asarray((at_us // SECOND_US - self.time_us_B // SECOND_US) / DAY_S, dtype=np.float64)

    def history(self) -> PackedBaskets:
        """The last baskets, as a row holds them."""
        first = max(0, len(self.time_us_B) - MAX_BASKETS)
        items_T = self.item_T[int(np.searchsorted(self.basket_T, first)) :]
        lines_B = self.lines_B[first:].astype(np.int32)
        return PackedBaskets(self.time_us_B[first:], self.spend_B[first:], lines_B, items_T)

    def with_lines(self, lines: Sequence[Line], minor_units: int) -> Self:
        """The baskets with those of a tail. A basket that the row ends with may go on."""
        if not lines:
            return self
        by_basket: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            by_basket[line.basket].append(line)
        new = sorted((max(line.time_us for line in of), basket, of) for basket, of in by_basket.items())
        going_on = {basket: place for basket in by_basket if (place := self.codes.get(basket_code(basket))) is not None}
        num_old = len(self.time_us_B)
        place_of = {name: num_old + n for n, name in enumerate(name for _, name, _ in new if name not in going_on)}
        place_of |= going_on
        num_baskets = num_old + len(by_basket) - len(going_on)
        place_T = np.array([place_of[line.basket] for line in lines])
        coupon_T = np.array([line.coupon_cents > 0 for line in lines])
        discounted_T = np.array([line.discount_cents > 0 for line in lines])
        cents_T = np.array([line.cents for line in lines])
        coupon_cents_T = np.array([line.coupon_cents for line in lines])

        def added(old_B: Ints, value_T: NDArray[np.generic]) -> Ints:
            sums_B = np.zeros(num_baskets, dtype=np.int64)
            sums_B[:num_old] = old_B
            np.add.at(sums_B, place_T, value_T.astype(np.int64))
            return sums_B

        cents_B = added(self.cents_B, cents_T)
        spend_B = np.concatenate([self.spend_B, np.zeros(num_baskets - num_old, dtype=np.float32)])
        spend_B[place_T] = (cents_B[place_T] / minor_units).astype(np.float32)
        time_us_B = np.concatenate([self.time_us_B, np.zeros(num_baskets - num_old, dtype=np.int64)])
        np.maximum.at(time_us_B, place_T, np.array([line.time_us for line in lines]))
        merged = replace(
            self,
            time_us_B=time_us_B,
            spend_B=spend_B,
            cents_B=cents_B,
            lines_B=added(self.lines_B, np.ones(len(lines))),
            coupon_cents_B=added(self.coupon_cents_B, coupon_cents_T),
            coupon_lines_B=added(self.coupon_lines_B, coupon_T),
            discounted_B=added(self.discounted_B, discounted_T),
            basket_T=np.concatenate([self.basket_T, place_T]),
            item_T=np.concatenate([self.item_T, np.array([line.item_row for line in lines], dtype=np.int32)]),
            coupon_T=np.concatenate([self.coupon_T, coupon_T]),
            discounted_T=np.concatenate([self.discounted_T, discounted_T]),
        )
        return replace(merged._in_order(), totals=self._added_up(lines, merged))

    def _in_order(self) -> Self:
        """Baskets by time and their lines by item: a late event belongs between the baskets that the row has."""
        order_B = np.argsort(self.time_us_B, kind="stable")
        place_B = np.empty(len(order_B), dtype=np.int64)
        place_B[order_B] = np.arange(len(order_B))
        order_T = np.lexsort((self.item_T, place_B[self.basket_T]))
        of_baskets = ("time_us_B", "spend_B", "cents_B", "lines_B", "coupon_cents_B", "coupon_lines_B", "discounted_B")
        of_lines = ("item_T", "coupon_T", "discounted_T")
        return replace(
            self,
            **{name: getattr(self, name)[order_B] for name in of_baskets},
            **{name: getattr(self, name)[order_T] for name in of_lines},
            basket_T=place_B[self.basket_T][order_T],
        )

    def _added_up(self, lines: Sequence[Line], merged: Self) -> Totals | None:
        old = self.totals
        if old is None:
            return None
        num_old, new_coupons = len(self.time_us_B), (merged.coupon_lines_B > 0).sum() - (self.coupon_lines_B > 0).sum()
        first_s = int(merged.time_us_B.min()) // SECOND_US
        return old._replace(
            first_s=min(old.first_s, first_s) if old.baskets else first_s,
            baskets=old.baskets + len(merged.time_us_B) - num_old,
            cents=old.cents + sum(line.cents for line in lines),
            discount_cents=old.discount_cents + sum(line.discount_cents for line in lines),
            coupon_cents=old.coupon_cents + sum(line.coupon_cents for line in lines),
            lines=old.lines + len(lines),
            discounted=old.discounted + sum(line.discount_cents > 0 for line in lines),
            coupon_lines=old.coupon_lines + sum(line.coupon_cents > 0 for line in lines),
            largest_cents=max(old.largest_cents, int(merged.cents_B.max())),
            with_coupon=old.with_coupon + int(new_coupons),
        )


def _counted(flag_T: NDArray[np.bool_], basket_T: Ints, num_baskets: int) -> Ints:
    return np.bincount(basket_T[flag_T], minlength=num_baskets).astype(np.int64)


def _summed(times_us_B: Ints, cents_B: Ints, lines_B: Ints) -> Totals:
    if not len(times_us_B):
        return Totals()
    return Totals(
        first_s=int(times_us_B[0]) // SECOND_US,
        baskets=len(times_us_B),
        cents=int(cents_B.sum()),
        lines=int(lines_B.sum()),
        largest_cents=int(cents_B.max()),
    )
