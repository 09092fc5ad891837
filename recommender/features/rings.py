"""Makes the rings of the rows that a materialisation writes: those of the decisions at the feature set's own moment.

Rows of the past, which only train, have none.

Shapes: D decisions · P baskets that a decision knows · L their lines · n events.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S, SECOND_US
from recommender.features.as_of import Ints, ranges
from recommender.features.baskets import Versions
from recommender.features.bought import Bought, Part, microseconds_of
from recommender.features.purchases import Known
from recommender.matching.packed_history import MAX_BASKETS
from recommender.matching.rings import (
    ITEM_DAYS,
    KEPT_CODES,
    KINDS,
    MOST_EXACT,
    MOST_ITEM_LINES,
    MOST_OLDER,
    OLDER_DAYS,
    RING_DAYS,
    Older,
    Rings,
    Times,
    Totals,
    basket_code,
)


class Activity:
    """Times of counted events and sums of ratings, of the users at one moment."""

    def __init__(self, moment_us: int) -> None:
        self.moment_us = moment_us
        self._kinds: dict[int, dict[str, Times]] = {}
        self._rated: dict[int, tuple[int, int]] = {}

    def add(self, part: Part, first: int, user_D: Ints, moment_us_D: Ints) -> None:
        """Take the events of a part's users.

        Args:
            part: rows with user, kind, event_time and rating_cents, sorted by user and time.
            first: number of the first of the part's decisions.
            user_D: the decisions' users, which count from 0 within the part.
            moment_us_D: when they were decided.
        """
        place_D = np.flatnonzero(moment_us_D == self.moment_us)
        rows = part.rows
        user_n, time_us_n = rows["user"].to_numpy().astype(np.int64), microseconds_of(rows["event_time"])
        kind_n = pc.index_in(rows["kind"], value_set=pa.array(KINDS)).to_numpy()
        cents_n = pc.fill_null(rows["rating_cents"], -1).to_numpy()
        starts_D, ends_D = (np.searchsorted(user_n, user_D[place_D], side) for side in ("left", "right"))
        for place, start, end in zip(place_D.tolist(), starts_D.tolist(), ends_D.tolist(), strict=True):
            known = start + int(np.searchsorted(time_us_n[start:end], self.moment_us))
            if known > start:
                self._add_one(first + place, time_us_n[start:known], kind_n[start:known], cents_n[start:known])

    def _add_one(self, decision: int, time_us_n: Ints, kind_n: Ints, cents_n: Ints) -> None:
        time_s_n = time_us_n // SECOND_US
        recent_n = self.moment_us // SECOND_US - time_s_n <= RING_DAYS * DAY_S
        self._kinds[decision] = {
            KINDS[number]: _times(time_s_n[recent_n & (kind_n == number)])
            for number in np.unique(kind_n[recent_n]).tolist()
        }
        rated_n = (kind_n == KINDS.index("review")) & (cents_n >= 0)
        self._rated[decision] = int(rated_n.sum()), int(cents_n[rated_n].sum())

    def of(self, decision: int) -> tuple[dict[str, Times], tuple[int, int]]:
        """Times by kind, and number and sum of the ratings, of a decision at the moment."""
        return self._kinds.get(decision, {}), self._rated.get(decision, (0, 0))


def _times(time_s_n: Ints) -> Times:
    """The newest seconds one by one, and what was before by day."""
    seconds, counts = np.unique(time_s_n, return_counts=True)
    before = max(0, len(seconds) - MOST_EXACT)
    days = np.flatnonzero(np.diff(seconds[:before] // DAY_S, prepend=-1))
    if not len(days):
        return Times(seconds, counts)
    last = np.append(days[1:], before) - 1
    return Times(
        np.concatenate([seconds[last], seconds[before:]]),
        np.concatenate([np.add.reduceat(counts[:before], days), counts[before:]]),
        len(days),
    )


def behind(
    histories: list[bytes],
    activity: Activity,
    first: int,
    lines: Bought,
    versions: Versions,
    seen: Known,
    moment_us_D: Ints,
) -> list[bytes]:
    """Put the rings behind the packed histories of the decisions at the moment of `activity`.

    Args:
        histories: what `packing.pack_histories` returned for some decisions.
        activity: what their users did beside buying.
        first: number of the first of these decisions.
        lines: what the part's users bought.
        versions: their baskets.
        seen: the baskets that each decision knows.
        moment_us_D: when they were decided.
    """
    starts = np.flatnonzero(np.diff(lines.basket_T, prepend=-1))
    bounds = np.append(starts, len(lines.basket_T))
    packed = list(histories)
    for place in np.flatnonzero(moment_us_D == activity.moment_us).tolist():
        version_P = seen.version_P[seen.bounds[place] : seen.bounds[place + 1]]
        kinds, rated = activity.of(first + place)
        rings = _rings(version_P, versions, lines, bounds, activity.moment_us // SECOND_US, kinds, rated)
        packed[place] += rings.pack()
    return packed


def _rings(
    version_P: Ints,
    versions: Versions,
    lines: Bought,
    bounds: Ints,
    moment_s: int,
    kinds: dict[str, Times],
    rated: tuple[int, int],
) -> Rings:
    """The rings of one user.

    Args:
        version_P: the versions of baskets that the user's row knows, oldest first.
        versions: those of the part.
        lines: of the part.
        bounds: of each basket in them.
        moment_s: the row's moment.
        kinds: times of counted events.
        rated: number and sum of the ratings.
    """
    if not len(version_P):
        return Rings(totals=Totals(rated=rated[0], rating_cents=rated[1]), kinds=kinds)
    time_s_P = versions.time_us_v[version_P] // SECOND_US
    own_P, older_P = version_P[-MAX_BASKETS:], version_P[:-MAX_BASKETS]
    age_s_P = moment_s - time_s_P[: len(older_P)]
    older_P, age_s_P = (of[age_s_P <= OLDER_DAYS * DAY_S][-MOST_OLDER:] for of in (older_P, age_s_P))
    _, coupon_T, discounted_T = _lines_of(own_P, versions, lines, bounds)
    items_L, older_coupon_L, _ = _lines_of(older_P[age_s_P <= ITEM_DAYS * DAY_S], versions, lines, bounds)
    named = versions.basket_v[own_P[-KEPT_CODES:]].tolist()
    return Rings(
        totals=_totals(version_P, versions, int(time_s_P.min()), rated),
        coupon_T=coupon_T,
        discounted_T=discounted_T,
        coupon_cents_B=versions.coupon_cents_v[own_P],
        codes=np.array([basket_code(lines.names[basket].as_py()) for basket in named], dtype=np.uint32),
        older=Older(
            versions.time_us_v[older_P] // SECOND_US,
            versions.cents_v[older_P],
            versions.coupon_cents_v[older_P],
            versions.lines_v[older_P],
            versions.coupon_lines_v[older_P],
            versions.discounted_v[older_P],
        ),
        older_items_L=items_L[-MOST_ITEM_LINES:].astype(np.int32),
        older_coupon_L=older_coupon_L[-MOST_ITEM_LINES:],
        kinds=kinds,
    )


def _totals(version_P: Ints, versions: Versions, first_s: int, rated: tuple[int, int]) -> Totals:
    coupon_lines_P = versions.coupon_lines_v[version_P]
    cents_P = versions.cents_v[version_P]
    return Totals(
        first_s=first_s,
        baskets=len(version_P),
        cents=int(cents_P.sum()),
        discount_cents=int(versions.discount_cents_v[version_P].sum()),
        coupon_cents=int(versions.coupon_cents_v[version_P].sum()),
        lines=int(versions.lines_v[version_P].sum()),
        discounted=int(versions.discounted_v[version_P].sum()),
        coupon_lines=int(coupon_lines_P.sum()),
        largest_cents=int(cents_P.max()),
        with_coupon=int((coupon_lines_P > 0).sum()),
        rated=rated[0],
        rating_cents=rated[1],
    )


def _lines_of(
    version_P: Ints, versions: Versions, lines: Bought, bounds: Ints
) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """Item, coupon and discount of the lines that some versions of baskets hold, in the order of the packed history."""
    basket_P = versions.basket_v[version_P]
    line_L, line_bounds = ranges(bounds[basket_P], bounds[basket_P + 1])
    money_3L = lines.money.money_3T[:, line_L]
    if versions.change:
        known_L = np.repeat(versions.from_us_v[version_P], np.diff(line_bounds))
        back_L = lines.money.returned_us_T[line_L] <= known_L
        alive_L = (lines.event_us_T[line_L] <= known_L) & (lines.money.kept_T[line_L] | ~back_L)
        money_3L = np.where(back_L, lines.money.net_3T[:, line_L], money_3L)[:, alive_L]
        line_L = line_L[alive_L]
    return lines.item_T[line_L], money_3L[2] > 0, money_3L[1] > 0
