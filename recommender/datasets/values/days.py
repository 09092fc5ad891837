"""What a time without a zone, and a day without an hour, mean.

A time without a zone is local to the shops. An hour that a clock skips in spring is read as one hour later; of an hour
that comes twice in autumn, the second (standard time) is meant. What a day without an hour means depends on the column:

- `event_time`, `participated_at`: the last microsecond of the day, so that no feature sees the row too early.
- `ends_at`: the midnight that ends the day, so that the day belongs to the window.
- all others: the midnight that begins the day.
"""

from recommender.datasets.values.readings import literal

KNOWN_AT_DAYS_END = ("event_time", "participated_at")


def local_sql(local: str, zone: str) -> str:
    """SQL of a local TIMESTAMP as a TIMESTAMPTZ."""
    # DuckDB needs three times as long for a time zone, and this is none.
    return f"timezone({literal(zone)}, {local})"


def day_sql(column: str, day: str, zone: str) -> str:
    """SQL of a day without an hour, a TIMESTAMP at midnight, as a TIMESTAMPTZ."""
    if column == "ends_at":
        return local_sql(f"{day} + INTERVAL 1 DAY", zone)
    if column in KNOWN_AT_DAYS_END:
        return f"{local_sql(f'{day} + INTERVAL 1 DAY', zone)} - INTERVAL 1 MICROSECOND"
    return local_sql(day, zone)
