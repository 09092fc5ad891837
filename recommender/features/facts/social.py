"""Social activity: reviews, likes, comments, shares and follows of a shopper, and how that compares with others.

Shapes: U users.
"""

from datetime import datetime
from typing import Any

import pyarrow as pa

from recommender.features.facts.moments import before
from recommender.features.people import SOCIAL_KINDS
from recommender.features.source import Source

RECENT_DAYS = 90
"""A season, as in the portrait's features."""


def social_at(source: Source, moment: datetime) -> pa.Table | None:
    """Count each user's social events before a moment. None if the log has no such event by then.

    Columns: user_id, `community__<kind>s`, `community__events`, `community__events_90d`, `community__recency_days`,
    `community__mean_rating` (where the source has ratings). Users without such an event have no row.
    """
    events = before(source.events.filter(source.events.kind.isin(SOCIAL_KINDS)), moment)
    columns: dict[str, Any] = {
        f"community__{kind}s": (events.kind == kind).cast("int64").sum()
        for kind in SOCIAL_KINDS
        if kind in kinds_before(source, moment)
    }
    if not columns:
        return None
    columns["community__events"] = events.count()
    columns["community__events_90d"] = (events.day < RECENT_DAYS).cast("int64").sum()
    columns["community__recency_days"] = events.day.min()
    if source.tables.has("events", "rating"):
        columns["community__mean_rating"] = events.rating_cents.sum() / 100.0 / events.rating_cents.count().nullif(0)
    return events.group_by("user_id").agg(**columns).order_by("user_id").to_pyarrow()


def kinds_before(source: Source, moment: datetime) -> set[str]:
    """Kinds of events that the log has before a moment."""
    return set(before(source.events, moment).select("kind").distinct().to_pyarrow()["kind"].to_pylist())
