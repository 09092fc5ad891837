"""Rows of `reports/bench/decision.json`: what was measured, the goal, and whether the goal is reached."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from recommender.storage.manifest import write_text

REPORT = Path("reports/bench/decision.json")


class Row(BaseModel):
    """One figure with its goal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    goal: str
    """In words, such as "<= 0.05". Empty for a figure without a goal."""
    held: bool | None = None
    """Whether the goal is reached. None without a goal."""
    facts: dict[str, Any] = {}
    """Sizes, seeds and further figures that belong to it."""

    @property
    def in_words(self) -> str:
        """Whether the goal is reached, for a table. Empty for a figure without a goal."""
        return "" if self.held is None else "yes" if self.held else "NO"

    @classmethod
    def at_most(cls, name: str, value: float, limit: float, **facts: Any) -> "Row":
        """A row whose value must not exceed a limit."""
        return cls(name=name, value=value, goal=f"<= {limit:g}", held=value <= limit, facts=facts)

    @classmethod
    def at_least(cls, name: str, value: float, limit: float, **facts: Any) -> "Row":
        """A row whose value must reach a limit."""
        return cls(name=name, value=value, goal=f">= {limit:g}", held=value >= limit, facts=facts)


def merge(rows: Sequence[Row], measured_on: dict[str, str], path: Path = REPORT) -> None:
    """Write rows into the report. Rows of other names stay, and so does what else it holds."""
    report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    merged = {row["name"]: row for row in report.get("rows", [])}
    merged |= {row.name: {**row.model_dump(), "measured_on": measured_on} for row in rows}
    content = {**report, "rows": [merged[name] for name in sorted(merged)]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1))
