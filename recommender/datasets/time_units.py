"""Units of time: the tables count microseconds, features count days and months."""

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
DAY_S = 86_400
DAY_US = DAY_S * SECOND_US
MONTH_DAYS = 30.0
"""What "a month" means in every feature: thirty days, so that rates do not depend on the calendar."""
