"""Behaviour and consumption of each decision's user, from the baskets before it: recency, frequency, hours, spend, discounts.

Shapes: one row a decision; a user without a purchase has no row, and its features are missing.
"""

from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from recommender.features.decisions import past
from recommender.features.source import Source, either

WINDOWS = (7, 30, 90, 180, 365)
"""Days before the decision."""
NIGHT, MORNING, MIDDAY, EVENING = (22, 6), (6, 11), (11, 17), (17, 22)


def baskets(source: Source, decided: pa.Table) -> ir.Table:
    """Every basket before each decision, as far as it was filled by then; kept in the backend."""
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


def behaviour(of: ir.Table) -> ir.Table:
    """When and how often the user buys, from `baskets`: counts, days, shares of baskets by hour and day of the week."""
    count = of.count()
    columns: dict[str, Any] = {
        "recency_days": of.age_days.min(),
        "tenure_days": of.age_days.max(),
        "baskets_per_month": count * 30.0 / ibis.greatest(of.age_days.max(), 30.0),
        "mean_gap_days": (of.age_days.max() - of.age_days.min()) / ibis.greatest(count - 1, 1),
        "trips_on_weekends": _share(of.weekday >= 5, count),
        "num_stores": of.stores.nunique(),
        "active_weeks_share": (of.age_days // 7).nunique() * 7.0 / ibis.greatest(of.age_days.max(), 7.0),
    }
    for name, (start, end) in {"night": NIGHT, "morning": MORNING, "midday": MIDDAY, "evening": EVENING}.items():
        inside = (of.hour >= start) | (of.hour < end) if start > end else (of.hour >= start) & (of.hour < end)
        columns[f"trips_in_the_{name}"] = _share(inside, count)
    for day, name in enumerate(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")):
        columns[f"trips_on_{name}"] = _share(of.weekday == day, count)
    for days in WINDOWS:
        recent = of.age_days <= days
        columns[f"baskets_{days}d"] = recent.cast("int64").sum()
        columns[f"lines_{days}d"] = either(recent, of.lines, 0).sum()
    columns["trend_30_of_90"] = _trend(of, 30, 90)
    columns["trend_90_of_180"] = _trend(of, 90, 180)
    return of.group_by("decision").agg(**{f"behaviour__{name}": value for name, value in columns.items()})


def consumption(of: ir.Table, source: Source) -> ir.Table:
    """How much the user spends and how far discounts and coupons carry it, from `baskets`; what a source lacks is absent."""
    has_discount = source.tables.has("events", "discount")
    has_coupon = source.tables.has("events", "coupon_discount")
    months: Any = ibis.greatest(of.age_days.max(), 30.0)
    months = months / 30.0
    lines, cents = of.lines.sum(), of.cents.sum()
    columns: dict[str, Any] = {
        "spend_per_month": cents / 100.0 / months,
        "average_basket": cents / 100.0 / of.count(),
        "largest_basket": of.cents.max() / 100.0,
        "lines_per_basket": lines / of.count(),
        "price_level": cents / 100.0 / lines,
    }
    for days in WINDOWS:
        recent = of.age_days <= days
        columns[f"spend_{days}d"] = either(recent, of.cents, 0).sum() / 100.0
        if has_coupon:
            columns[f"coupon_lines_{days}d"] = either(recent, of.coupon_lines, 0).sum()
            columns[f"coupon_discount_{days}d"] = either(recent, of.coupon_cents, 0).sum() / 100.0
        if has_discount:
            columns[f"discounted_lines_{days}d"] = either(recent, of.discounted, 0).sum()
    if has_discount:
        columns["discounted_lines_share"] = of.discounted.sum() / lines
        columns["discount_share"] = of.discount_cents.sum() / ibis.greatest(cents + of.discount_cents.sum(), 1)
        columns["discount_per_month"] = of.discount_cents.sum() / 100.0 / months
    if has_coupon:
        columns["coupon_lines_per_month"] = of.coupon_lines.sum() / months
        columns["coupon_lines_share"] = of.coupon_lines.sum() / lines
        columns["coupon_discount_per_month"] = of.coupon_cents.sum() / 100.0 / months
        columns["coupon_basket_share"] = _share(of.coupon_lines > 0, of.count())
        columns["coupon_recency_days"] = either(of.coupon_lines > 0, of.age_days, ibis.null()).min()
    return of.group_by("decision").agg(**{f"consumption__{name}": value for name, value in columns.items()})


def _share(condition: Any, count: Any) -> Any:
    return condition.cast("int64").sum() / count


def _trend(of: ir.Table, short: int, long: int) -> Any:
    """Share of the longer window's baskets that lie in the shorter one."""
    inside_long = (of.age_days <= long).cast("int64").sum()
    return (of.age_days <= short).cast("int64").sum() / ibis.greatest(inside_long, 1)
