"""Checks that need no history: what a person who looked at the whole log would see.

All bounds are gross on purpose (a factor of eight, nine in ten values missing, half a day's rows twice), so that no
shop's ordinary season reaches them. They are chosen by hand.

Shapes: D days, H 24 hours.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.checks.check import (
    DEVIATION,
    Check,
    check_at,
    days_in_words,
    factor_in_words,
    heaviest_run,
    longest_run,
    unit_cause,
)
from recommender.datasets.checks.clock import busy_hours
from recommender.datasets.checks.dates import day_and_month
from recommender.datasets.statistics import Statistics
from recommender.datasets.statistics.measured import Floats

NUMBERS = ("amount", "quantity", "discount", "coupon_discount")
LARGEST_FACTOR = 8.0
"""The mean of one day may be this many times the median day's. Cents are 100 times, thousandths 1000 times."""
PRICE_FACTOR = 15.0
"""Paid against catalogue price. Half price is usual, a fifteenth is not. Cents are 100 times."""
FEW_ROWS = 5
"""Rows of a day below which its means say nothing."""
EMPTY, FILLED = 0.9, 0.6
"""A column is empty on a day if this share is missing, and usually filled if at most that share is."""
BY_CHANCE, RARELY_EMPTY = 1e-8, 0.01
"""A run of empty rows so unlikely is a loss. A row lacks its value with the usual probability, and at least with the
second one: somebody may be the first to write a review without stars. Chosen by hand."""
TWICE, TWICE_USUALLY = 0.8, 0.4
"""Share of a day's rows that occur an even number of times: if copied, and more than the usual day has."""
LARGEST_NEGATIVE = 0.5
"""More negative amounts than this share cannot be returns. Chosen by hand."""
ONE_VALUE_ROWS = 20
"""Rows from which a taxonomy of a single value is suspicious. Chosen by hand."""
TAXONOMY = ("items.department", "items.category", "items.product_type")
BUSY_ROWS = 10
"""Rows of a usual day from which a day without any is strange."""
CLOSED_SHARE = 0.25
"""Share of a weekday's days without rows from which the shop counts as closed on it."""
FEWEST_LEVEL_DAYS = 3
"""Days with a level below which none of them can stand out from the others."""
SHORTEST_LEVEL = 7
"""Days with a level that each side of a step must have: a week of sales is no step."""
WIDE = 8.0
"""Deviations of a day's mean: a column of few values, such as coupons, can be that far off by itself."""
NEARLY_ALL = 0.9
"""Share of the busy days with copies from which the whole log is there twice. A short last day may hide its own."""
FILLED_LONG = 0.25
"""Share of all days from which a column that is usually empty has been filled for long: lost, not tried out."""
ONE_VALUE = 0.995
"""Share of the commonest value. One item in two hundred with another may be a mistake, five are a taxonomy."""
TWO_WEEKS = 14
"""Days from which the weekdays on which a shop is closed are known: each has come twice."""
HOLIDAY_DAYS, LONGEST_CLOSED_DAYS = 1.0, 3
"""Days in a row without an event: one is a holiday, three can be Easter or a move, more is a loss."""


def alone(now: Statistics) -> list[Check]:
    """All checks that need no history."""
    return [
        *_levels(now),
        *_paid(now),
        *_repeated(now),
        *_empty(now),
        *_negative(now),
        *_taxonomy(now),
        *_missing_days(now),
        *busy_hours(now),
        *day_and_month(now),
    ]


def _levels(now: Statistics) -> Iterator[Check]:
    """Amounts of some days that are many times those of the others."""
    for column in NUMBERS:
        level_D = now.figure(f"log:{column}")
        known_D = np.isfinite(level_D) & (now.figure("kind:purchase") >= FEW_ROWS)
        if known_D.sum() < FEWEST_LEVEL_DAYS:
            continue
        away_D = np.where(known_D, level_D - np.median(level_D[known_D]), 0.0)
        spread = DEVIATION * float(np.median(np.abs(away_D[known_D])))
        limit = max(np.log(LARGEST_FACTOR), WIDE * spread)
        run = longest_run(np.abs(away_D) > limit)
        cause, value = "", float(np.abs(away_D).max())
        step = None if run is not None else _step(level_D, known_D)
        if step is not None:
            # A change for about half of the log widens its own limit, so it is looked for by itself.
            place, factor = step
            value, limit = abs(np.log(factor)), np.log(LARGEST_FACTOR)
            when = days_in_words(now, (place, len(level_D) - 1))
            cause = f"{column} is about {factor_in_words(factor)} times what it was before, {when}: "
            cause += unit_cause(factor, column)
        if run is not None:
            factor = float(np.exp(np.median(away_D[run[0] : run[1] + 1])))
            when = days_in_words(now, run)
            cause = f"{column} is about {factor_in_words(factor)} times what it is otherwise, {when}: "
            cause += unit_cause(factor, column)
        yield check_at(
            f"events.{column}.level",
            value=float(np.exp(value)),
            most=float(np.exp(limit)),
            sentence=f"no day's {column} is many times that of the other days",
            cause=cause,
        )


def _step(level_D: np.ndarray, known_D: np.ndarray) -> tuple[int, float] | None:
    """The day from which on a level is another one for good, and by which factor. None where there is no such day."""
    days = np.flatnonzero(known_D)
    levels = level_D[days]
    best: tuple[float, int] | None = None
    for place in range(SHORTEST_LEVEL, len(days) - SHORTEST_LEVEL + 1):
        before, after = levels[:place], levels[place:]
        rest = np.abs(before - np.median(before)).sum() + np.abs(after - np.median(after)).sum()
        if best is None or rest < best[0]:
            best = (float(rest), place)
    if best is None:
        return None
    before, after = levels[: best[1]], levels[best[1] :]
    height = float(np.median(after) - np.median(before))
    spread = DEVIATION * max(float(np.median(np.abs(part - np.median(part)))) for part in (before, after))
    if abs(height) <= max(np.log(LARGEST_FACTOR), WIDE * spread):
        return None
    return int(days[best[1]]), float(np.exp(height))


def _paid(now: Statistics) -> Iterator[Check]:
    """What was paid against the catalogue's price."""
    ratio_D, weight_D = now.figure("log:paid"), now.figure("kind:purchase")
    known_D = np.isfinite(ratio_D) & (weight_D > 0)
    if weight_D[known_D].sum() < FEW_ROWS:
        return
    factor = float(np.exp(np.average(ratio_D[known_D], weights=weight_D[known_D])))
    cause = ""
    if abs(np.log(factor)) > np.log(PRICE_FACTOR):
        cause = (
            f"amounts are about {factor_in_words(factor)} times quantity x price of the catalogue: "
            f"{unit_cause(factor, 'amount')} Or is quantity or the price in another unit?"
        )
    yield check_at(
        "events.amount.against_price",
        value=factor,
        least=1 / PRICE_FACTOR,
        most=PRICE_FACTOR,
        sentence="what is paid is near quantity x price of the catalogue",
        cause=cause,
    )


def _repeated(now: Statistics) -> Iterator[Check]:
    """Days whose rows are all there twice under other event ids."""
    even_D = np.nan_to_num(now.figure("repeated"))
    busy_D = now.figure("rows") >= BUSY_ROWS
    if not busy_D.any():
        return
    usual = float(np.median(even_D[busy_D]))
    copied_D = busy_D & (even_D >= TWICE) & ((even_D >= usual + TWICE_USUALLY) | (usual >= TWICE))
    run = longest_run(copied_D)
    cause = ""
    if run is not None:
        block = "the whole log" if copied_D[busy_D].mean() > NEARLY_ALL else f"the block {days_in_words(now, run)}"
        cause = f"{block} is there twice under other event ids ({int(copied_D.sum())} days): a file read twice?"
    yield check_at(
        "events.repeated_days",
        value=copied_D.sum(),
        most=0.0,
        sentence="no day's events are all there twice",
        cause=cause,
    )


def _empty(now: Statistics) -> Iterator[Check]:
    """Columns that are empty in all rows, or on a run of days."""
    for name, found in now.columns.items():
        table, column = name.split(".")
        share_D = now.figure(f"null:{column}") if table == "events" else np.full(1, np.nan)
        known_D = np.isfinite(share_D)
        total = found.get("null_share", 0.0)
        cause, value = "", 0.0
        if total >= 1.0:
            cause, value = f"{column} is empty in all rows: a column of the export that is no longer filled?", 1.0
        elif known_D.any() and np.median(share_D[known_D]) <= FILLED:
            counted_D = now.counted(column)
            empty_D = known_D & (np.nan_to_num(share_D) >= EMPTY)
            run = heaviest_run(empty_D, np.where(empty_D, counted_D, 0.0))
            if run is not None and _is_no_chance(share_D, counted_D, empty_D, run):
                value = float(empty_D.sum() / known_D.sum())
                cause = f"{column} is empty {days_in_words(now, run)} and filled on the other days: no longer exported?"
        elif known_D.any() and np.median(share_D[known_D]) >= EMPTY:
            filled_D = known_D & (np.nan_to_num(share_D, nan=1.0) <= 1 - EMPTY)
            if filled_D.mean() > FILLED_LONG and (run := longest_run(~filled_D, bridge=0)) is not None:
                value = 1 - float(filled_D.mean())
                cause = f"{column} is empty {days_in_words(now, run)} and filled on the other days: no longer exported?"
        yield check_at(
            f"{name}.empty",
            severity="critical" if value and total < 1.0 else "warning",
            value=value,
            most=0.0,
            sentence=f"{column} is not empty, neither in all rows nor on some days only",
            cause=cause,
        )


def _is_no_chance(share_D: Floats, counted_D: Floats, empty_D: NDArray[np.bool_], run: tuple[int, int]) -> bool:
    """Whether the rows of a run's empty days would not all lack a value by chance, as often as a row usually does."""
    rows = float(np.where(empty_D, counted_D, 0.0)[run[0] : run[1] + 1].sum())
    judged_D = np.isfinite(share_D) & (counted_D >= FEW_ROWS)
    judged_D = judged_D if judged_D.any() else np.isfinite(share_D)
    usual = max(float(np.median(share_D[judged_D])), RARELY_EMPTY)
    return rows >= FEW_ROWS and rows * np.log(usual) <= np.log(BY_CHANCE)


def _negative(now: Statistics) -> Iterator[Check]:
    for column in NUMBERS:
        share_D = np.nan_to_num(now.figure(f"negative:{column}"))
        bought_D = now.figure("kind:purchase") >= FEW_ROWS
        if f"negative:{column}" not in now.days or not bought_D.any():
            continue
        wrong_D = bought_D & (share_D > LARGEST_NEGATIVE)
        run = longest_run(wrong_D)
        cause = "" if run is None else f"most of {column} is below zero {days_in_words(now, run)}: a sign turned?"
        yield check_at(
            f"events.{column}.negative",
            value=share_D[bought_D].max(),
            most=LARGEST_NEGATIVE,
            sentence=f"on every day most of {column} is not below zero",
            cause=cause,
        )


def _taxonomy(now: Statistics) -> Iterator[Check]:
    for name in TAXONOMY:
        shares = now.values.get(name)
        if shares and now.rows.get("items", 0) >= ONE_VALUE_ROWS:
            column = name.split(".")[1]
            (common, share), *_ = shares.items()
            yield check_at(
                f"{name}.one_value",
                severity="warning",
                value=share,
                most=ONE_VALUE,
                sentence=f"{column} has more than one value",
                cause=f"{column} is {common!r} for all items: a default value instead of the real one?",
            )


def _missing_days(now: Statistics) -> Iterator[Check]:
    """Days without any event on which a shop like this one has some."""
    rows_D, weekday_D = now.figure("rows"), now.weekdays_D
    if now.num_days < TWO_WEEKS or np.median(rows_D) < BUSY_ROWS:
        return
    closed = [w for w in range(7) if (rows_D[weekday_D == w] == 0).mean() > CLOSED_SHARE]
    missing_D = (rows_D == 0) & ~np.isin(weekday_D, closed)
    run = longest_run(missing_D, bridge=0)
    value = 0 if run is None else run[1] - run[0] + 1
    cause = ""
    if run is not None and value > 1:
        cause = f"no event at all {days_in_words(now, run)} ({value} days): files of these days missing?"
    yield check_at(
        "events.missing_days",
        severity="critical" if value > LONGEST_CLOSED_DAYS else "warning",
        value=value,
        most=HOLIDAY_DAYS,
        sentence="no two days in a row without an event, but for weekdays on which the shop is closed",
        cause=cause,
    )
