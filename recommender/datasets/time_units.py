"""Units of time: the tables count microseconds, features count days and months."""

SECOND_US = 1_000_000  # microseconds
HOUR_US = 3_600 * SECOND_US  # microseconds
DAY_S = 86_400  # seconds
DAY_US = DAY_S * SECOND_US  # microseconds
MONTH_DAYS = 30.0
"""What "a month" means in every feature: thirty days, so that rates do not depend on the calendar."""


def utc_day_sql(time: str) -> str:
    """SQL (DuckDB) of the UTC day of a TIMESTAMPTZ. The session's zone does not count.

    A cast looks a zone up for each row, which takes ten times as long.
    """
    return f"make_timestamp(epoch_us({time}))::DATE"
