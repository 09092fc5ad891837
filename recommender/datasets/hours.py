"""Says whether the events of a log have a time of day, or only a day."""

import duckdb

from recommender.datasets.time_units import DAY_US

QUARTER_US = 15 * 60 * 1_000_000
"""From 1973 on every zone's midnight is a whole quarter of an hour of UTC (Liberia was the last to change, in 1972)."""


def has_hours(connection: duckdb.DuckDBPyConnection, time_zone: str) -> bool:
    """Whether at least half of the rows of `events` have a time of day.

    A day without one is its last microsecond in the shops' zone, or midnight where the source writes 00:00:00.
    """
    # To convert a time to a zone takes a quarter of a microsecond, and hardly a row needs it.
    inside = f"event_time >= TIMESTAMPTZ '1973-01-01 00:00:00+00' AND {_is_inside('epoch_us(event_time)', QUARTER_US)}"
    exact = _is_inside("epoch_us(timezone($zone, event_time))", DAY_US)
    (share,) = connection.execute(
        f"SELECT avg((CASE WHEN {inside} THEN true ELSE {exact} END)::INT) FROM events WHERE event_time IS NOT NULL",
        {"zone": time_zone},
    ).fetchone() or (None,)
    return share is None or share >= 0.5


def _is_inside(time_us: str, length_us: int) -> str:
    """SQL of whether a time is neither the first nor the last microsecond of its day or quarter."""
    return f"{time_us} % {length_us} NOT IN (0, {length_us - 1})"
