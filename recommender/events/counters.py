"""Portrait features as they are at a later moment: recency, counts within windows, spend, discounts and ratings.

They are read from the baskets and rings of a row (`recommender.matching.rings`), also where nothing happened since:
what was in the last 7 days of yesterday may be out of them today. A window that the row does not cover stays as it was.

Shapes: P portrait features · B baskets.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S, DAY_US, MONTH_DAYS, SECOND_US
from recommender.events.ledger import Ledger
from recommender.events.tail import Recent
from recommender.matching.rings import Rings, Times, Totals

WINDOWS = (7, 30, 90, 180, 365)
"""As `recommender.features.purchases.WINDOWS`, which serving does not import."""
MEMBER = "base__member_days"
COUNTED_WINDOWS = (7, 30, 90)
"""As in `recommender.features.people`."""
COUNTED = {
    **dict.fromkeys(("view", "click", "cart", "search", "favourite"), "interest"),
    **dict.fromkeys(("share", "review", "like", "comment", "follow"), "social"),
}
"""Kind -> part of the portrait that counts it, as `recommender.features.people`."""


def portrait_at(
    portrait_P: NDArray[np.float32],
    names: Sequence[str],
    ledger: Ledger,
    rings: Rings | None,
    new: Sequence[Recent],
    *,
    feature_time_us: int,
    at_us: int,
    minor_units: int,
) -> NDArray[np.float32]:
    """The portrait at a moment.

    Args:
        portrait_P: as it was at `feature_time_us`.
        names: of its features.
        ledger: the user's baskets, with those of the new events.
        rings: of the row. None: it has none.
        new: the events after the row.
        feature_time_us: moment of the row, microseconds since 1970, UTC.
        at_us: the moment.
        minor_units: whole minor units in one unit of the currency.
    """
    places = {name: place for place, name in enumerate(names)}
    old = dict(zip(names, portrait_P.tolist(), strict=True))
    passed_days = (at_us // SECOND_US - feature_time_us // SECOND_US) / DAY_S
    found = {
        **_of_baskets(ledger, at_us, old, passed_days, minor_units),
        **_of_kinds(rings, old, passed_days, new, at_us),
        MEMBER: old.get(MEMBER, np.nan) + (at_us - feature_time_us) / DAY_US,
    }
    changed_P = portrait_P.copy()
    for name, value in found.items():
        if name in places:
            changed_P[places[name]] = value
    return changed_P


def known_at_once(names: Sequence[str], ledger: Ledger, rings: Rings | None, at_us: int) -> set[str]:
    """The features that a fold at a moment brings up to date.

    Args:
        names: of the portrait's features.
        ledger: the user's baskets, with those of the events.
        rings: of the row. None: it has none.
        at_us: the moment, microseconds since 1970, UTC.
    """
    old = dict.fromkeys(names, np.nan)
    found = {**_of_baskets(ledger, at_us, old, 0.0, 1), **_of_kinds(rings, old, 0.0, (), at_us, exact_only=True)}
    return {*found, MEMBER}.intersection(names)


def _of_baskets(
    ledger: Ledger, at_us: int, old: Mapping[str, float], passed_days: float, minor_units: int
) -> dict[str, float]:
    if not len(ledger.time_us_B):
        return {}
    age_B = ledger.age_days_B(at_us)
    found = {"behaviour__recency_days": float(age_B.min())}
    # One pass for all windows: sums over the baskets that are at most so many days old.
    columns = [np.ones(len(age_B), dtype=np.int64), ledger.lines_B, ledger.cents_B]
    columns += [ledger.coupon_lines_B, ledger.coupon_cents_B, ledger.discounted_B]
    sums_WK = (age_B <= np.array(WINDOWS)[:, None]).astype(np.int64) @ np.stack(columns, axis=1)
    for days, (baskets, lines, cents, coupon_lines, coupon_cents, discounted) in zip(
        WINDOWS, sums_WK.tolist(), strict=True
    ):
        if not ledger.covers(days, at_us):
            continue
        found[f"behaviour__baskets_{days}d"] = baskets
        found[f"behaviour__lines_{days}d"] = lines
        found[f"consumption__spend_{days}d"] = cents / minor_units
        if ledger.has_marks:
            found[f"consumption__coupon_lines_{days}d"] = coupon_lines
            found[f"consumption__coupon_discount_{days}d"] = coupon_cents / minor_units
            found[f"consumption__discounted_lines_{days}d"] = discounted
    for short, long in ((30, 90), (90, 180)):
        if ledger.covers(long, at_us):
            in_long = max(found[f"behaviour__baskets_{long}d"], 1)
            found[f"behaviour__trend_{short}_of_{long}"] = found[f"behaviour__baskets_{short}d"] / in_long
    if ledger.totals is None:
        found["behaviour__tenure_days"] = old.get("behaviour__tenure_days", np.nan) + passed_days
        return found
    tenure = (at_us // SECOND_US - ledger.totals.first_s) / DAY_S
    found |= _of_all(ledger.totals, tenure, found["behaviour__recency_days"], minor_units)
    if ledger.holds_all:
        found["behaviour__active_weeks_share"] = len(np.unique(age_B // 7)) * 7.0 / max(tenure, 7.0)
    if ledger.has_marks:
        found |= _of_marks(ledger.totals, tenure, minor_units)
        recency = "consumption__coupon_recency_days"
        with_coupon_B = age_B[ledger.coupon_lines_B > 0]
        # The baskets that are not there are older than all that are.
        found[recency] = float(with_coupon_B.min()) if len(with_coupon_B) else old.get(recency, np.nan) + passed_days
    return found


def _of_all(totals: Totals, tenure: float, recency: float, minor_units: int) -> dict[str, float]:
    """Rates and means of all that was bought."""
    count, lines, spend = totals.baskets, totals.lines, totals.cents / minor_units
    return {
        "behaviour__tenure_days": tenure,
        "behaviour__baskets_per_month": count * MONTH_DAYS / max(tenure, MONTH_DAYS),
        "behaviour__mean_gap_days": (tenure - recency) / max(count - 1, 1),
        "consumption__spend_per_month": spend / _months(tenure),
        "consumption__average_basket": spend / count,
        "consumption__largest_basket": totals.largest_cents / minor_units,
        "consumption__lines_per_basket": lines / count,
        "consumption__price_level": spend / lines,
    }


def _of_marks(totals: Totals, tenure: float, minor_units: int) -> dict[str, float]:
    """Discounts and coupons of all that was bought."""
    months, lines, off = _months(tenure), totals.lines, totals.discount_cents
    return {
        "consumption__discounted_lines_share": totals.discounted / lines,
        "consumption__discount_share": off / max(totals.cents + off, 1),
        "consumption__discount_per_month": off / minor_units / months,
        "consumption__coupon_lines_per_month": totals.coupon_lines / months,
        "consumption__coupon_lines_share": totals.coupon_lines / lines,
        "consumption__coupon_discount_per_month": totals.coupon_cents / minor_units / months,
        "consumption__coupon_basket_share": totals.with_coupon / totals.baskets,
    }


def _months(tenure: float) -> float:
    return max(tenure, MONTH_DAYS) / MONTH_DAYS


def _of_kinds(
    rings: Rings | None,
    old: Mapping[str, float],
    passed_days: float,
    new: Sequence[Recent],
    at_us: int,
    *,
    exact_only: bool = False,
) -> dict[str, float]:
    """Totals, recency and counts within windows of views, clicks and other kinds, and the mean rating."""
    found: dict[str, float] = {}
    ages_of: dict[str, list[float]] = {}
    for event in new:
        ages_of.setdefault(event.kind, []).append((at_us // SECOND_US - event.time_us // SECOND_US) / DAY_S)
    for kind, part in COUNTED.items():
        recency = f"{part}__{kind}_recency_days"
        if recency not in old:
            continue
        ages = ages_of.get(kind, [])
        found[f"{part}__{kind}s"] = old[f"{part}__{kind}s"] + len(ages)
        before = old[recency] + passed_days
        found[recency] = min([*ages, *([] if np.isnan(before) else [before])], default=np.nan)
        if rings is not None:
            for days, count, is_exact in _within_windows(rings.times(kind), ages, at_us // SECOND_US):
                if is_exact or not exact_only:
                    found[f"{part}__{kind}s_{days}d"] = count
    rated = [event.rating for event in new if event.kind == "review" and event.rating is not None]
    if rings is not None and "social__mean_rating" in old and rings.totals.rated + len(rated):
        cents = rings.totals.rating_cents + sum(int(np.floor(rating * 100 + 0.5)) for rating in rated)
        found["social__mean_rating"] = cents / 100.0 / (rings.totals.rated + len(rated))
    return found


def _within_windows(times: Times, ages: Sequence[float], at_s: int) -> Iterator[tuple[int, int, bool]]:
    """Days of a window, how many events of a row and of its tail it holds, and whether that is exact.

    It is not where the window begins among the days of which only the time of the last event is kept.
    """
    by_day_until_s = times.time_s_n[times.num_days - 1] if times.num_days else -1
    firsts_s = [at_s - days * DAY_S for days in COUNTED_WINDOWS]
    counts = [0, *times.count_n.cumsum().tolist()]
    for days, first_s, place in zip(COUNTED_WINDOWS, firsts_s, times.time_s_n.searchsorted(firsts_s), strict=True):
        yield days, counts[-1] - counts[place] + sum(age <= days for age in ages), first_s > by_day_until_s
