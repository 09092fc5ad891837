"""Swapped days and months are seen from the rows of each day alone, and honest logs are left in peace."""

from collections import Counter
from datetime import date, timedelta

import numpy as np
import pytest

from recommender.datasets.checks.dates import day_and_month
from recommender.datasets.statistics import Statistics

WEEK = np.array([1.0, 0.9, 0.95, 1.05, 1.35, 1.6, 0.6])
FLAT = np.ones(7)


def log(first: date, num_days: int, *, seed: int = 0, level: float = 80, week: np.ndarray = WEEK) -> Counter[date]:
    """Rows of each day of a shop that grows, with a week and noise that lasts for days."""
    rng, noise, rows = np.random.default_rng([seed, 41]), 0.0, Counter[date]()
    for place in range(num_days):
        noise = 0.5 * noise + 0.06 * float(rng.standard_t(5))
        day = first + timedelta(days=place)
        rows[day] = int(rng.poisson(level * week[day.weekday()] * (1 + place / 500) * np.exp(noise)))
    return rows


def swap(rows: Counter[date], until: date | None = None) -> Counter[date]:
    """The same rows with day and month exchanged where both are 12 or less."""
    found = Counter[date]()
    for day, count in rows.items():
        other = date(day.year, day.day, day.month) if day.day <= 12 else day
        if until is None or other <= until:
            found[other] += count
    return found


def cause(rows: Counter[date]) -> str | None:
    """What the check says. None where it holds."""
    used = [day for day, count in rows.items() if count]
    first, last = min(used), max(used)
    days = [float(rows[first + timedelta(days=place)]) for place in range((last - first).days + 1)]
    (check,) = day_and_month(Statistics(first_day=first, days={"rows": np.array(days)}, columns={}))
    return None if check.holds else check.cause


@pytest.mark.parametrize(
    ("first", "num_days"),
    [(date(2024, 3, 1), 31), (date(2024, 9, 2), 90), (date(2024, 9, 2), 460), (date(2023, 11, 20), 75)],
)
@pytest.mark.parametrize("week", [WEEK, FLAT])
def test_swapped_dates_that_leave_the_real_months_are_named(first: date, num_days: int, week: np.ndarray) -> None:
    rows = log(first, num_days, week=week)
    # With and without the rows that are later than the day of reading. Of a month, too few others are left.
    for until in (None, max(rows)) if num_days > 31 else (None,):
        found = cause(swap(rows, until))
        assert found is not None
        assert "day and month" in found
        assert "days 1 to 12 only" in found


@pytest.mark.parametrize(("first", "num_days"), [(date(2023, 1, 1), 365), (date(2022, 1, 1), 1096)])
def test_swapped_dates_inside_whole_years_are_seen_by_the_week(first: date, num_days: int) -> None:
    found = cause(swap(log(first, num_days)))
    assert found is not None
    assert "week" in found


def test_dates_of_which_only_those_that_can_be_swapped_are_left_are_named() -> None:
    rows = log(date(2024, 1, 1), 200)
    found = cause(Counter({day: count for day, count in rows.items() if day.day <= 12}))
    assert found is not None
    assert "12 or less" in found


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize(
    ("first", "num_days"), [(date(2024, 9, 2), 90), (date(2023, 1, 1), 365), (date(2022, 5, 3), 900)]
)
def test_an_honest_log_is_left_in_peace(first: date, num_days: int, seed: int) -> None:
    for level, week in ((80.0, WEEK), (6.0, FLAT)):
        assert cause(log(first, num_days, seed=seed, level=level, week=week)) is None


def test_sales_at_the_beginning_of_some_months_are_no_swapped_dates() -> None:
    rows = log(date(2024, 6, 1), 200)
    for month in range(1, 6):
        for day in range(1, 8):
            rows[date(2024, month, day)] = 50
    assert cause(rows) is None


def test_a_monthly_rush_on_the_first_days_is_no_swapped_date() -> None:
    rows = log(date(2023, 1, 1), 700)
    for day in rows:
        if day.day <= 5:
            rows[day] *= 3
    assert cause(rows) is None


def test_a_log_that_ends_in_the_first_days_of_a_month_is_left_in_peace() -> None:
    assert cause(log(date(2024, 1, 20), 105)) is None
