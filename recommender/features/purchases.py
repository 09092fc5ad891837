"""Behaviour and consumption features from the baskets before a decision: recency, frequency, hours, spend, discounts.

Counts and sums are reads of running sums. What is no sum (weeks, shops, the largest basket) looks at the decision's own
baskets. A user without a purchase has no features: NaN.

Shapes: D decisions · v versions of baskets · P pairs of a decision and a basket that it knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.time_units import DAY_S, MONTH_DAYS, SECOND_US
from recommender.features.as_of import Ints, Running, ranges, reduced
from recommender.features.baskets import Versions
from recommender.features.bought import NEVER

WINDOWS = (7, 30, 90, 180, 365)
"""Days before the decision: a week, a month, a season, half a year, a year. Chosen by hand."""
NIGHT, MORNING, MIDDAY, EVENING = (22, 6), (6, 11), (11, 17), (17, 22)
"""Local hours from the first, included, to the last, excluded. Chosen by hand."""
HOURS = {"night": NIGHT, "morning": MORNING, "midday": MIDDAY, "evening": EVENING}
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Floats = NDArray[np.float64]
_SUMMED = ("lines", "cents", "discount_cents", "coupon_cents", "discounted", "coupon_lines")
_ALL = ("baskets", *_SUMMED, "with_coupon", "on_weekend", "with_hour", *HOURS, *DAYS)
_WINDOWED = ("baskets", "lines", "cents", "coupon_lines", "coupon_cents", "discounted")


def running(versions: Versions) -> Running:
    """Running sums of baskets by user. A version comes when it is known and goes when the next one is."""
    ones_v = np.ones(len(versions.user_v), dtype=np.int64)
    values: dict[str, NDArray[Any]] = {
        "baskets": ones_v,
        "lines": versions.lines_v,
        "cents": versions.cents_v,
        "discount_cents": versions.discount_cents_v,
        "coupon_cents": versions.coupon_cents_v,
        "discounted": versions.discounted_v,
        "coupon_lines": versions.coupon_lines_v,
    }
    values["with_coupon"] = versions.coupon_lines_v > 0
    values["on_weekend"], values["with_hour"] = versions.weekday_v >= 5, versions.hour_v >= 0
    for name, (start, end) in HOURS.items():
        after, before = versions.hour_v >= start, (versions.hour_v < end) & (versions.hour_v >= 0)
        values[name] = after | before if start > end else after & before
    values |= {name: versions.weekday_v == day for day, name in enumerate(DAYS)}
    values = {name: np.asarray(value, dtype=np.int64) for name, value in values.items()}
    if not versions.change:
        return Running(versions.user_v, versions.from_us_v, values, event_us_n=versions.time_us_v)
    ends_v = versions.to_us_v != NEVER
    return Running(
        np.concatenate([versions.user_v, versions.user_v[ends_v]]),
        np.concatenate([versions.from_us_v, versions.to_us_v[ends_v]]),
        {name: np.concatenate([value, -value[ends_v]]) for name, value in values.items()},
        event_us_n=np.concatenate([versions.time_us_v, versions.time_us_v[ends_v]]),
    )


@dataclass(frozen=True, eq=False)
class Known:
    """The baskets that some decisions know, oldest first for each decision."""

    version_P: Ints
    bounds: Ints
    """[D + 1]"""


def known(versions: Versions, user_D: Ints, moment_us_D: Ints) -> Known:
    """List the versions of baskets that each decision sees."""
    starts_D = np.searchsorted(versions.user_v, user_D)
    ends_D = Running(versions.user_v, versions.from_us_v, {}).entered.places(user_D, moment_us_D, None)
    version_P, bounds = ranges(starts_D, ends_D)
    if not versions.change:
        return Known(version_P, bounds)
    decision_P = np.repeat(np.arange(len(user_D)), np.diff(bounds))
    alive_P = versions.to_us_v[version_P] >= moment_us_D[decision_P]
    version_P, decision_P = version_P[alive_P], decision_P[alive_P]
    order = np.lexsort((versions.basket_v[version_P], versions.time_us_v[version_P], decision_P))
    counts = np.concatenate([[0], np.cumsum(alive_P)])
    return Known(version_P[order], counts[bounds])


def features(
    versions: Versions,
    sums: Running,
    seen: Known,
    user_D: Ints,
    moment_us_D: Ints,
    *,
    has_hours: bool,
    has_discount: bool,
    has_coupon: bool,
    minor_units: int,
) -> dict[str, Floats]:
    """Compute `behaviour__*` and `consumption__*` of decisions, float64 [D].

    Rates are taken over at least 30 days (a week for `active_weeks_share`), so that a new user's first baskets are not
    extrapolated.

    Args:
        versions: the baskets of these users.
        sums: what `running` returned for them.
        seen: what `known` returned for these decisions.
        user_D: the decisions' users.
        moment_us_D: when they were decided.
        has_hours: without it there are no shares by hour: the source knows only days.
        has_discount: whether the source states discounts.
        has_coupon: whether the source states discounts by coupons.
        minor_units: whole minor units in one unit of the currency.
    """
    reading = sums.at(user_D, moment_us_D)
    all_time = reading.before(_ALL)
    windows = {days: reading.within(days, _WINDOWED) for days in WINDOWS}
    ages = _ages(versions, seen, moment_us_D)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = _behaviour(all_time, windows, ages, has_hours=has_hours)
        columns |= _consumption(
            all_time, windows, ages, has_discount=has_discount, has_coupon=has_coupon, unit=float(minor_units)
        )
    nothing_D = all_time["baskets"] == 0
    return {name: np.where(nothing_D, np.nan, values_D) for name, values_D in columns.items()}


def _ages(versions: Versions, seen: Known, moment_us_D: Ints) -> dict[str, Floats]:
    """What is no sum: days since the oldest, newest and last couponed basket, weeks, shops, the largest basket."""
    count_D = np.diff(seen.bounds)
    time_s_P = versions.time_us_v[seen.version_P] // SECOND_US
    age_P = (np.repeat(moment_us_D // SECOND_US, count_D) - time_s_P) / DAY_S
    coupon_P = np.where(versions.coupon_lines_v[seen.version_P] > 0, age_P, np.inf)
    with_coupon_D = reduced(np.minimum, coupon_P, seen.bounds, np.inf)
    decision_P = np.repeat(np.arange(len(count_D)), count_D)
    # Oldest first, so that the same week stands together.
    week_P = np.floor(age_P / 7)
    other_week_P = np.ones(len(week_P), dtype=bool)
    other_week_P[1:] = (np.diff(week_P) != 0) | (np.diff(decision_P) != 0)
    store_P = versions.store_v[seen.version_P]
    pairs = np.unique(decision_P[store_P >= 0] * (store_P.max(initial=0) + 1) + store_P[store_P >= 0])
    stores_D = np.bincount(pairs // (store_P.max(initial=0) + 1), minlength=len(count_D))
    return {
        "newest": reduced(np.minimum, age_P, seen.bounds, np.nan),
        "oldest": reduced(np.maximum, age_P, seen.bounds, np.nan),
        "with_coupon": np.where(np.isinf(with_coupon_D), np.nan, with_coupon_D),
        "weeks": reduced(np.add, other_week_P.astype(np.float64), seen.bounds, 0.0),
        "stores": stores_D.astype(np.float64),
        "largest_cents": reduced(np.maximum, versions.cents_v[seen.version_P], seen.bounds, 0).astype(np.float64),
    }


def _behaviour(
    sums: Mapping[str, Any], windows: Mapping[int, Mapping[str, Any]], ages: Mapping[str, Floats], *, has_hours: bool
) -> dict[str, Floats]:
    """Counts, days, and shares of baskets by hour and day of the week."""
    count, oldest = sums["baskets"], ages["oldest"]
    columns: dict[str, Any] = {
        "recency_days": ages["newest"],
        "tenure_days": oldest,
        "baskets_per_month": count * MONTH_DAYS / np.maximum(oldest, MONTH_DAYS),
        "mean_gap_days": (oldest - ages["newest"]) / np.maximum(count - 1, 1),
        "trips_on_weekends": sums["on_weekend"] / count,
        "num_stores": ages["stores"],
        "active_weeks_share": ages["weeks"] * 7.0 / np.maximum(oldest, 7.0),
    }
    for name in HOURS if has_hours else ():
        # A day without an hour says nothing about the hours of its user.
        columns[f"trips_in_the_{name}"] = np.where(sums["with_hour"] > 0, sums[name] / count, np.nan)
    columns |= {f"trips_on_{name}": sums[name] / count for name in DAYS}
    for days, recent in windows.items():
        columns[f"baskets_{days}d"], columns[f"lines_{days}d"] = recent["baskets"], recent["lines"]
    # A month within its season, and a season within its half-year.
    for short, long in ((30, 90), (90, 180)):
        columns[f"trend_{short}_of_{long}"] = windows[short]["baskets"] / np.maximum(windows[long]["baskets"], 1)
    return {f"behaviour__{name}": np.asarray(values_D, dtype=np.float64) for name, values_D in columns.items()}


def _consumption(
    sums: Mapping[str, Any],
    windows: Mapping[int, Mapping[str, Any]],
    ages: Mapping[str, Floats],
    *,
    has_discount: bool,
    has_coupon: bool,
    unit: float,
) -> dict[str, Floats]:
    """Spend, and discounts and coupons where the source has them."""
    count, lines, cents = sums["baskets"], sums["lines"], sums["cents"]
    months = np.maximum(ages["oldest"], MONTH_DAYS) / MONTH_DAYS  # At least one month, as in `_behaviour`.
    columns: dict[str, Any] = {
        "spend_per_month": cents / unit / months,
        "average_basket": cents / unit / count,
        "largest_basket": ages["largest_cents"] / unit,
        "lines_per_basket": lines / count,
        "price_level": cents / unit / lines,
    }
    for days, recent in windows.items():
        columns[f"spend_{days}d"] = recent["cents"] / unit
        if has_coupon:
            columns[f"coupon_lines_{days}d"] = recent["coupon_lines"]
            columns[f"coupon_discount_{days}d"] = recent["coupon_cents"] / unit
        if has_discount:
            columns[f"discounted_lines_{days}d"] = recent["discounted"]
    if has_discount:
        discount_cents = sums["discount_cents"]
        columns["discounted_lines_share"] = sums["discounted"] / lines
        columns["discount_share"] = discount_cents / np.maximum(cents + discount_cents, 1)
        columns["discount_per_month"] = discount_cents / unit / months
    if has_coupon:
        columns["coupon_lines_per_month"] = sums["coupon_lines"] / months
        columns["coupon_lines_share"] = sums["coupon_lines"] / lines
        columns["coupon_discount_per_month"] = sums["coupon_cents"] / unit / months
        columns["coupon_basket_share"] = sums["with_coupon"] / count
        columns["coupon_recency_days"] = ages["with_coupon"]
    return {f"consumption__{name}": np.asarray(values_D, dtype=np.float64) for name, values_D in columns.items()}
