"""Behaviour and consumption features from the baskets before a decision: recency, frequency, hours, spend, discounts.

There is one row for each decision. A user without a purchase has no row, and the features are missing.
"""

from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from recommender.datasets.time_units import MONTH_DAYS
from recommender.features.decisions import past
from recommender.features.source import Source, if_else

WINDOWS = (7, 30, 90, 180, 365)
"""Days before the decision: a week, a month, a season, half a year, a year. Chosen by hand."""
NIGHT, MORNING, MIDDAY, EVENING = (22, 6), (6, 11), (11, 17), (17, 22)
"""Local hours from the first, included, to the last, excluded. Chosen by hand."""


def baskets(source: Source, decided: pa.Table) -> ir.Table:
    """List every basket before each decision with the lines bought before it, kept in the backend."""
    lines = past(source.lines, decided)
    return (
        lines.group_by("decision", "basket")
        .agg(
            time=lines.event_time.max(),
            age_days=lines.age_days.min(),
            hour=lines.hour.max(),
            weekday=lines.weekday.max(),
            lines=lines.count(),
            cents=lines.cents.sum(),
            discount_cents=lines.discount_cents.sum(),
            coupon_cents=lines.coupon_cents.sum(),
            discounted=(lines.discount_cents > 0).cast("int64").sum(),
            coupon_lines=(lines.coupon_cents > 0).cast("int64").sum(),
            stores=lines.store_id.max(),
        )
        .cache()
    )


def behaviour(basket: ir.Table, *, has_hours: bool = True) -> ir.Table:
    """Compute `behaviour__*` from `baskets`: counts, days, and shares of baskets by hour and day of the week.

    Without `has_hours` there are no shares by hour: the source knows only days.

    Rates are taken over at least 30 days (a week for `active_weeks_share`), so that a new user's first baskets are not
    extrapolated.
    """
    count = basket.count()
    columns: dict[str, Any] = {
        "recency_days": basket.age_days.min(),
        "tenure_days": basket.age_days.max(),
        "baskets_per_month": count * MONTH_DAYS / ibis.greatest(basket.age_days.max(), MONTH_DAYS),
        "mean_gap_days": (basket.age_days.max() - basket.age_days.min()) / ibis.greatest(count - 1, 1),
        "trips_on_weekends": _share(basket.weekday >= 5, count),
        "num_stores": basket.stores.nunique(),
        "active_weeks_share": (basket.age_days // 7).nunique() * 7.0 / ibis.greatest(basket.age_days.max(), 7.0),
    }
    hours = {"night": NIGHT, "morning": MORNING, "midday": MIDDAY, "evening": EVENING} if has_hours else {}
    for name, (start, end) in hours.items():
        after_start, before_end = basket.hour >= start, basket.hour < end
        columns[f"trips_in_the_{name}"] = _share(
            after_start | before_end if start > end else after_start & before_end, count
        )
    for day, name in enumerate(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")):
        columns[f"trips_on_{name}"] = _share(basket.weekday == day, count)
    for days in WINDOWS:
        recent = basket.age_days <= days
        columns[f"baskets_{days}d"] = recent.cast("int64").sum()
        columns[f"lines_{days}d"] = if_else(recent, basket.lines, 0).sum()
    # A month within its season, and a season within its half-year.
    columns["trend_30_of_90"] = _trend(basket, 30, 90)
    columns["trend_90_of_180"] = _trend(basket, 90, 180)
    return basket.group_by("decision").agg(**{f"behaviour__{name}": value for name, value in columns.items()})


def consumption(basket: ir.Table, source: Source) -> ir.Table:
    """Compute `consumption__*` from `baskets`: spend, and discounts and coupons where the source has them."""
    has_discount = source.tables.has("events", "discount")
    has_coupon = source.tables.has("events", "coupon_discount")
    unit = float(source.minor_units)
    months: Any = ibis.greatest(basket.age_days.max(), MONTH_DAYS)  # At least one month, as in `behaviour`.
    months = months / MONTH_DAYS
    lines, cents = basket.lines.sum(), basket.cents.sum()
    columns: dict[str, Any] = {
        "spend_per_month": cents / unit / months,
        "average_basket": cents / unit / basket.count(),
        "largest_basket": basket.cents.max() / unit,
        "lines_per_basket": lines / basket.count(),
        "price_level": cents / unit / lines,
    }
    for days in WINDOWS:
        recent = basket.age_days <= days
        columns[f"spend_{days}d"] = if_else(recent, basket.cents, 0).sum() / unit
        if has_coupon:
            columns[f"coupon_lines_{days}d"] = if_else(recent, basket.coupon_lines, 0).sum()
            columns[f"coupon_discount_{days}d"] = if_else(recent, basket.coupon_cents, 0).sum() / unit
        if has_discount:
            columns[f"discounted_lines_{days}d"] = if_else(recent, basket.discounted, 0).sum()
    if has_discount:
        discount_cents = basket.discount_cents.sum()
        columns["discounted_lines_share"] = basket.discounted.sum() / lines
        columns["discount_share"] = discount_cents / ibis.greatest(cents + discount_cents, 1)
        columns["discount_per_month"] = discount_cents / unit / months
    if has_coupon:
        columns["coupon_lines_per_month"] = basket.coupon_lines.sum() / months
        columns["coupon_lines_share"] = basket.coupon_lines.sum() / lines
        columns["coupon_discount_per_month"] = basket.coupon_cents.sum() / unit / months
        columns["coupon_basket_share"] = _share(basket.coupon_lines > 0, basket.count())
        columns["coupon_recency_days"] = if_else(basket.coupon_lines > 0, basket.age_days, ibis.null()).min()
    return basket.group_by("decision").agg(**{f"consumption__{name}": value for name, value in columns.items()})


def _share(condition: Any, count: Any) -> Any:
    return condition.cast("int64").sum() / count


def _trend(basket: ir.Table, short_days: int, long_days: int) -> Any:
    """Compute the share of the longer window's baskets that lie in the shorter one."""
    num_long = (basket.age_days <= long_days).cast("int64").sum()
    return (basket.age_days <= short_days).cast("int64").sum() / ibis.greatest(num_long, 1)
