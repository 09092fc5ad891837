"""Converts the dates and times of settings to exact UTC times."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from recommender.datasets.tables import Tables
from recommender.settings import TimeSettings


def moment(value: datetime | date, zone: str) -> datetime:
    """Convert a setting to UTC: a date is midnight in `zone` (IANA name), a time without a zone is local to it."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    local = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC)


def as_of(time: TimeSettings, tables: Tables) -> datetime:
    """Return what counts as "now" for these tables, UTC: the setting, or else the time of the last event."""
    return moment(time.as_of, tables.time_zone) if time.as_of is not None else tables.log_end.astimezone(UTC)


def first_open_day(log_end: datetime, late_days: int) -> date:
    """Return the first UTC day of which new events still count, by the end of the log in the last run."""
    return log_end.astimezone(UTC).date() - timedelta(days=late_days)
