"""The result of a validation."""

from collections.abc import Mapping
from dataclasses import dataclass

from components.validate_data.outcome import Outcome
from recommender.datasets.checks import Change, Shape
from recommender.datasets.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcomes and figures of one validation."""

    outcomes: tuple[Outcome, ...]
    figures: Mapping[str, Mapping[str, float | None]]
    shape: Shape | None = None
    """Columns, types and units. None if the schema failed."""
    changes: tuple[Change, ...] = ()
    """What of the shape changed since the last good run."""
    statistics: Statistics | None = None
    """Of the cleaned tables. None if the schema failed."""
    data_hash: str = ""
    """Hash of the cleaned tables. Empty while the page is drawn, before they are written."""

    @property
    def critical(self) -> list[Outcome]:
        """The failed expectations that stop the run."""
        return [one for one in self.outcomes if one.critical]

    @property
    def metrics(self) -> dict[str, float]:
        """Figures for the run's record: expectations by outcome, rows kept and rows set aside."""
        counts = {status: sum(o.status == status for o in self.outcomes) for status in ("passed", "failed")}
        rows = {f"{name}_rows": float(found["rows"] or 0) for name, found in self.figures.items()}
        aside = sum(found["quarantined"] or 0 for found in self.figures.values())
        return {"expectations_passed": counts["passed"], "warnings": counts["failed"], "quarantined": aside, **rows}
