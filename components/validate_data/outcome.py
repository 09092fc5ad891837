"""The outcome of one expectation."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one expectation."""

    table: str
    column: str
    check: str
    """Names it for `recommender validate --accept`, such as `events.amount.level`. Unique in a run."""
    sentence: str
    severity: str
    status: str
    """passed, failed, accepted (failed, and a person accepted the change), or `not applicable`: the table lacks the
    column, or there is no earlier run to compare with."""
    wanted: str
    observed: str
    value: float | None = None
    """What was observed, where it is a number."""
    cause: str = ""
    """What the failure looks like, in words. Empty where it holds or nothing more is known."""
    rows: tuple[dict[str, Any], ...] = ()
    """The first failing rows: key and value."""

    @property
    def critical(self) -> bool:
        """Whether it stops the run."""
        return self.status == "failed" and self.severity == "critical"

    @property
    def place(self) -> str:
        """Table and column."""
        return f"{self.table}.{self.column}" if self.column else self.table

    def in_short(self) -> str:
        """One line for a terminal: place, and the cause or else the expectation and the observation."""
        what = self.cause or f"expected that {self.sentence}; observed {self.observed}"
        return f"{self.place}: {what} [{self.check}]"

    def describe(self) -> str:
        """Place, cause, expectation, observation and first failing rows, in one line."""
        first = "; ".join(", ".join(f"{k} {v}" for k, v in row.items() if v is not None) for row in self.rows)
        shown = f"; first rows: {first}" if first else ""
        cause = f"{self.cause} " if self.cause else ""
        wanted = f" ({self.wanted})" if self.wanted else ""
        expected = f"expected that {self.sentence}{wanted}; observed {self.observed}"
        return f"{self.place}: {cause}[{self.check}] {expected}{shown}"
