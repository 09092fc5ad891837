"""Units of time: the tables count microseconds, features count days and months."""

SECOND_US = 1_000_000  # microseconds
HOUR_US = 3_600 * SECOND_US  # microseconds
DAY_S = 86_400  # seconds
DAY_US = DAY_S * SECOND_US  # microseconds
MONTH_DAYS = 30.0
"""What "a month" means in every feature: thirty days, so that rates do not depend on the calendar."""
