"""What facts read: purchase lines, visits and other events that lie strictly before one moment."""

from datetime import datetime
from typing import Any

import ibis
import ibis.expr.types as ir

from recommender.datasets.time_units import DAY_S
from recommender.features.source import TIME_TYPE, Source, known_at


def before(events: ir.Table, moment: datetime, *, time: str = "event_time") -> ir.Table:
    """Keep what lies strictly before a moment, with `day`: whole days of 24 hours back from it, 0 for the last one."""
    kept = events.filter(events[time] < ibis.literal(moment, TIME_TYPE))
    age_s: Any = int(moment.timestamp()) - kept[time].epoch_seconds().cast("int64")
    return kept.mutate(day=(age_s // DAY_S).cast("int64"))


def lines_at(source: Source, moment: datetime) -> ir.Table:
    """Purchase lines before a moment, as it knew them: those returned by then are gone or reduced."""
    return known_at(before(source.lines, moment), int(moment.timestamp()))


def visits_at(source: Source, moment: datetime) -> ir.Table:
    """Days with a purchase before a moment: user_id, `day`, cents paid, `units` (whole currency units)."""
    lines = lines_at(source, moment)
    days = lines.group_by("user_id", "day").agg(cents=lines.cents.sum())
    # Squares of cents do not fit into 64 bits for a currency with small units. Those of whole units do.
    return days.mutate(units=(days.cents / source.minor_units).round().cast("int64"))


def dates_at(source: Source, moment: datetime) -> ir.Table:
    """On how many dates of the shop's calendar each user bought before a moment: user_id, `dates`."""
    lines = lines_at(source, moment)
    local_s: Any = lines.event_time.epoch_seconds().cast("int64") + source.offset_s(lines.event_time)
    return lines.group_by("user_id").agg(dates=(local_s // DAY_S).nunique())


def observed_days(source: Source, moment: datetime) -> int:
    """Days from the log's first event to a moment."""
    first: datetime = source.table("events").event_time.min().to_pyarrow().as_py()
    return max(0, (moment - first).days)
