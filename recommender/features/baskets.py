"""What was known of each basket, and from when to when: a basket has another version after each line and each return.

A basket counts with the lines that it held before a decision. Its time, hour, day and shop are the latest of these.

Shapes: T lines · v versions of baskets.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from recommender.features.as_of import Ints, ranges, reduced
from recommender.features.bought import NEVER, Bought


@dataclass(frozen=True, eq=False)
class Versions:
    """Versions of the baskets of a part's users, sorted by user, `from_us` and basket."""

    user_v: Ints
    basket_v: Ints
    from_us_v: Ints
    """A decision strictly after this time sees the version …"""
    to_us_v: Ints
    """… if it is not after this time. `NEVER` for the last one."""
    time_us_v: Ints
    """Time of the latest line."""
    hour_v: Ints
    weekday_v: Ints
    store_v: Ints
    lines_v: Ints
    cents_v: Ints
    discount_cents_v: Ints
    coupon_cents_v: Ints
    discounted_v: Ints
    """Lines with a discount."""
    coupon_lines_v: Ints

    @property
    def change(self) -> bool:
        """Whether any version ends."""
        return bool((self.to_us_v != NEVER).any())


def versions(lines: Bought) -> Versions:
    """All versions of all baskets."""
    starts = np.flatnonzero(np.diff(lines.basket_T, prepend=-1))
    bounds = np.append(starts, len(lines.basket_T))
    if not len(starts):
        return _versions(
            np.zeros(0, np.int64), np.zeros(0, np.int64), lines, np.zeros(1, np.int64), np.zeros(0, np.int64)
        )
    first_B = np.minimum.reduceat(lines.event_us_T, starts)
    last_B = np.maximum.reduceat(lines.event_us_T, starts)
    returned_B = np.minimum.reduceat(lines.money.returned_us_T, starts) != NEVER
    plain_B = (first_B == last_B) & ~returned_B
    basket_v, known_v = np.flatnonzero(plain_B), first_B[plain_B]
    if not plain_B.all():
        changed = ~plain_B[lines.basket_T]
        times = np.concatenate([lines.event_us_T[changed], lines.money.returned_us_T[changed]])
        baskets = np.tile(lines.basket_T[changed], 2)
        order = np.lexsort((times, baskets))
        order = order[times[order] != NEVER]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (np.diff(times[order]) != 0) | (np.diff(baskets[order]) != 0)
        basket_v = np.concatenate([basket_v, baskets[order][new]])
        known_v = np.concatenate([known_v, times[order][new]])
    user_v = lines.user_T[starts[basket_v]]
    order = np.lexsort((basket_v, known_v, user_v))
    return _versions(basket_v[order], known_v[order], lines, bounds, plain_B)


def _versions(basket_v: Ints, known_v: Ints, lines: Bought, bounds: Ints, plain_B: NDArray[np.generic]) -> Versions:
    """Sum up the lines of each version of a basket that becomes known at `known_v`."""
    line_L, cuts = ranges(bounds[:-1][basket_v], bounds[1:][basket_v])
    net_L = np.zeros(len(line_L), dtype=bool)
    if not plain_B.all():
        # Only a basket with several versions has lines that a version does not know or no longer has.
        known_L = np.repeat(known_v, np.diff(cuts))
        net_L = lines.money.returned_us_T[line_L] <= known_L
        alive_L = (lines.event_us_T[line_L] <= known_L) & (lines.money.kept_T[line_L] | ~net_L)
        counts = np.concatenate([[0], np.cumsum(alive_L)])
        line_L, net_L, cuts = line_L[alive_L], net_L[alive_L], counts[cuts]
    money_3L = lines.money.money_3T[:, line_L]
    if net_L.any():
        money_3L = np.where(net_L, lines.money.net_3T[:, line_L], money_3L)

    def latest(values_T: Ints) -> Ints:
        return reduced(np.maximum, values_T[line_L], cuts, -1)

    def total(values_L: NDArray[np.generic]) -> Ints:
        return reduced(np.add, values_L.astype(np.int64), cuts, 0)

    to_us_v = np.full(len(basket_v), NEVER)
    order = np.lexsort((known_v, basket_v))
    same = np.diff(basket_v[order]) == 0
    to_us_v[order[:-1][same]] = known_v[order[1:][same]]
    found = Versions(
        user_v=lines.user_T[bounds[:-1][basket_v]],
        basket_v=basket_v,
        from_us_v=known_v,
        to_us_v=to_us_v,
        time_us_v=latest(lines.event_us_T),
        hour_v=latest(lines.hour_T),
        weekday_v=latest(lines.weekday_T),
        store_v=latest(lines.store_T),
        lines_v=np.diff(cuts),
        cents_v=total(money_3L[0]),
        discount_cents_v=total(money_3L[1]),
        coupon_cents_v=total(money_3L[2]),
        discounted_v=total(money_3L[1] > 0),
        coupon_lines_v=total(money_3L[2] > 0),
    )
    # A basket of which everything came back is none.
    left_v = found.lines_v > 0
    if left_v.all():
        return found
    return Versions(**{field.name: getattr(found, field.name)[left_v] for field in fields(Versions)})
