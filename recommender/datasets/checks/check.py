"""One check: a figure, its bounds, and what to say where it lies outside. And words for days and factors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.statistics import Statistics

Severity = Literal["critical", "warning"]
DEVIATION = 1.4826
"""A normal distribution's standard deviation in units of its median absolute deviation."""
NEAR, NEAR_TEN = 0.35, 0.25
"""Powers of ten by which a factor may miss 100 or 1000, and 10. Prices and quantities scatter, and a factor of 3 or 5
between currencies must not read as a decimal mark. Chosen by hand."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A figure that must lie between `least` and `most`. None: no bound on that side."""

    name: str
    """Names it for `--accept`: table, column and what is checked, such as `events.amount.level`. Unique in a run."""
    table: str
    column: str = ""
    severity: Severity
    value: float
    least: float | None = None
    most: float | None = None
    sentence: str
    """What is expected, in words."""
    cause: str = ""
    """What it looks like if it is not so. Empty where the figure is inside its bounds."""

    @property
    def holds(self) -> bool:
        """Whether the figure lies inside its bounds."""
        if math.isnan(self.value):
            return False
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    @property
    def place(self) -> str:
        """Table and column."""
        return f"{self.table}.{self.column}" if self.column else self.table

    def in_short(self) -> str:
        """One line for a terminal where it does not hold: place, and the cause or else what was expected."""
        return f"{self.place}: {self.cause or f'expected that {self.sentence}'} [{self.name}]"


def check_at(
    name: str,
    *,
    value: float,
    sentence: str,
    cause: str = "",
    severity: Severity = "critical",
    least: float | None = None,
    most: float | None = None,
    at: str | None = None,
) -> Check:
    """A check of a table or of one of its columns.

    Args:
        name: the check's name, such as `events.amount.level`.
        value: the figure.
        sentence: what is expected, in words.
        cause: what it looks like if it is not so.
        severity: whether it stops a run.
        least: lower bound of the figure. None: no bound on that side.
        most: upper bound, likewise.
        at: `table` or `table.column` that it is about. By default the name without its last part.
    """
    table, _, column = (name.rpartition(".")[0] if at is None else at).partition(".")
    return Check(
        name=name,
        table=table,
        column=column,
        severity=severity,
        value=float(value),
        least=least,
        most=most,
        sentence=sentence,
        cause=cause,
    )


def longest_run(flagged_D: NDArray[np.bool_], *, bridge: int = 1) -> tuple[int, int] | None:
    """First and last place of the longest run of flagged days. Runs that `bridge` other days part count as one."""
    return heaviest_run(flagged_D, np.ones(len(flagged_D)), bridge=bridge)


def heaviest_run(
    flagged_D: NDArray[np.bool_], weight_D: NDArray[np.float64], *, bridge: int = 1
) -> tuple[int, int] | None:
    """First and last place of the run of flagged days whose days, from first to last, weigh most. Bridged likewise."""
    best: tuple[int, int] | None = None
    places = np.flatnonzero(flagged_D)
    for run in np.split(places, np.flatnonzero(np.diff(places) > bridge + 1) + 1) if len(places) else ():
        first, last = int(run[0]), int(run[-1])
        if best is None or weight_D[first : last + 1].sum() > weight_D[best[0] : best[1] + 1].sum():
            best = first, last
    return best


def days_in_words(found: Statistics, places: Sequence[int] | NDArray[np.int64]) -> str:
    """The days at these places: one, a range, or since when if they reach the newest day."""
    if len(places) == 0:
        return "no day"
    first, last = int(min(places)), int(max(places))
    if first == 0 and last >= found.num_days - 1:
        return "on all days"
    if last >= found.num_days - 1 and last > first:
        return f"since {found.day(first)}"
    if first == last:
        return f"on {found.day(first)}"
    if first == 0:
        return f"until {found.day(last)}"
    return f"from {found.day(first)} to {found.day(last)}"


def unit_cause(factor: float, column: str) -> str:
    """What a factor between two units suggests."""
    size = abs(math.log10(factor)) if factor > 0 else 0.0
    large = factor > 1
    if abs(size - 3) < NEAR:
        return "thousandths instead of units?" if large else "units instead of thousandths, or thousands?"
    if abs(size - 2) < NEAR:
        return "cents instead of units?" if large else "units instead of cents, or a decimal mark lost?"
    if abs(size - 1) < NEAR_TEN:
        return f"a decimal mark of {column} moved?"
    return "another unit or currency?"


def factor_in_words(factor: float) -> str:
    """A factor with two significant digits, such as 100 or 0.01."""
    return f"{float(f'{factor:.2g}'):g}"
