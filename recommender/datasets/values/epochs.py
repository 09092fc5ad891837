"""Reads times that are written as numbers: seconds to nanoseconds since 1970, digits such as 20240131, Excel's days."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from recommender.datasets.values.column import Column
from recommender.datasets.values.days import day_sql, local_sql
from recommender.datasets.values.readings import literal

UNITS = {"unix_s": 1e6, "unix_ms": 1e3, "unix_us": 1.0, "unix_ns": 1e-3}
"""Name of a format -> microseconds in its unit."""
DIGITS = {"%Y%m%d": 1, "%Y%m%d%H%M": 10**4, "%Y%m%d%H%M%S": 10**6, "%Y%m%d%H": 10**2}
"""Times that are written as digits -> how far their numbers are shifted against those of whole days.

Hours come last: 2024030107 is also a second of the year 2034, so every number of the column must be an hour.
"""
EXCEL = "excel"
EXCEL_DAY_0 = date(1899, 12, 30)
"""Excel counts days from here. Its day 60, 1900-02-29, never was. No plausible time lies before it."""
COUNTER_BELOW = {"unix_s": 1e11, "unix_ms": 1e14, "unix_us": 1e17, "unix_ns": float("inf")}
"""Numbers of which none is a plausible time (years, counters) are taken for the first unit that is large enough. Each
bound is the year 5138 in its unit."""


@dataclass(frozen=True)
class Numbers:
    """A column's numbers, as times between `earliest` and `latest`.

    Attributes:
        column: The column.
        earliest, latest: The plausible range. The end is outside.
        zone: IANA zone of times without one.
    """

    column: Column
    earliest: date
    latest: date
    zone: str

    @property
    def number(self) -> str:
        """SQL of the number, NULL where there is none."""
        return f"TRY_CAST({self.text} AS DOUBLE)" if self.column.is_text else f"{self.column.raw}::DOUBLE"

    @property
    def text(self) -> str:
        """SQL of the cell, for casts that must be exact."""
        return self.column.text if self.column.is_text else self.column.raw

    def questions(self) -> dict[str, str]:
        """How many numbers are plausible times in each unit."""
        counted = {name: self._within(name) for name in (*UNITS, *DIGITS, EXCEL)}
        return {
            "numbers": f"count({self.number})",
            "infinite": f"count(*) FILTER (NOT isfinite({self.number}))",
            "largest": f"max(abs({self.number}))",
            **{name: f"count(*) FILTER ({condition})" for name, condition in counted.items()},
        }

    def bounds(self, name: str) -> tuple[float, float]:
        """The plausible numbers in a unit."""
        if name == EXCEL:
            return (self.earliest - EXCEL_DAY_0).days, (self.latest - EXCEL_DAY_0).days
        if name in DIGITS:
            shift = DIGITS[name]
            return int(self.earliest.strftime("%Y%m%d")) * shift, int(self.latest.strftime("%Y%m%d")) * shift
        seconds = [
            datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() for day in (self.earliest, self.latest)
        ]
        return seconds[0] * 1e6 / UNITS[name], seconds[1] * 1e6 / UNITS[name]

    def _within(self, name: str) -> str:
        low, high = self.bounds(name)
        return f"{self.number} >= {low!r} AND {self.number} < {high!r}"

    def fitting(self, facts: Mapping[str, int]) -> list[str]:
        """Names of the units in which numbers are plausible, the commonest first."""
        names = [*UNITS, *(name for name in DIGITS if name != "%Y%m%d%H"), *([EXCEL] if self.column.workbook else [])]
        return sorted((name for name in names if facts[name]), key=lambda name: -facts[name])

    def value(self, name: str) -> str:
        """SQL of the number in a unit as a TIMESTAMPTZ, NULL outside the plausible range."""
        if name == EXCEL:
            base = literal(EXCEL_DAY_0.isoformat())
            moment = f"TIMESTAMP {base} + to_microseconds(round({self.number} * 86400)::BIGINT * 1000000)"
            whole = day_sql(self.column.canonical, moment, self.zone)
            return (
                f"CASE WHEN {self._within(name)} THEN CASE WHEN {self.number} = trunc({self.number}) THEN {whole} "
                f"ELSE {local_sql(moment, self.zone)} END END"
            )
        if name in DIGITS:
            parsed = self.parsed(name)
            is_day = name == "%Y%m%d"
            read = day_sql(self.column.canonical, parsed, self.zone) if is_day else local_sql(parsed, self.zone)
            return f"CASE WHEN {self._within(name)} THEN {read} END"
        return f"CASE WHEN {self._within(name)} THEN make_timestamptz({self.microseconds(name)}) END"

    def parsed(self, name: str) -> str:
        """SQL of a number that is written as digits, as a local TIMESTAMP."""
        return f"CASE WHEN {self._within(name)} THEN try_strptime({self.number}::BIGINT::VARCHAR, {literal(name)}) END"

    def counter(self, largest: float) -> tuple[str, str | None]:
        """SQL of numbers that only order events, as microseconds of the first unit that is large enough.

        The second SQL is None, or where a number needs more than 64 bits.
        """
        name = next((name for name, bound in COUNTER_BELOW.items() if largest < bound), "unix_ns")
        is_too_large = largest * UNITS[name] >= 2.0**63
        return self.microseconds(name), f"abs({self.number}) = {largest!r}" if is_too_large else None

    def in_64_bits(self, name: str) -> str:
        """SQL of a number in a unit as microseconds since 1970, NULL where they need more than 64 bits."""
        bound = 2.0**63 / max(UNITS[name], 1.0)
        return f"CASE WHEN abs({self.number}) < {bound!r} THEN {self.microseconds(name)} END"

    def microseconds(self, name: str) -> str:
        """SQL of a number in a unit as microseconds since 1970. It must fit in 64 bits."""
        factor = UNITS[name]
        whole = f"TRY_CAST({self.text} AS BIGINT)"
        exact = f"{whole} * {int(factor)}" if factor >= 1 else f"{whole} // 1000"
        if self.column.is_whole:
            return exact
        # A double holds nanoseconds of today to 256 only, so whole numbers stay whole.
        return (
            f"CASE WHEN {self.number} = trunc({self.number}) THEN {exact} "
            f"ELSE round({self.number} * {factor!r})::BIGINT END"
        )
