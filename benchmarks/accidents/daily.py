"""Daily runs of validation on a shop: the tables of a day, with the memory of the good runs before."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

from benchmarks.accidents.injected import Accident
from benchmarks.accidents.shop import Frames, SeasonalShop, moment_of
from components.validate_data.outcome import Outcome
from components.validate_data.validation import validate, write_memory
from components.validate_data.verdict import Verdict
from recommender.datasets.checks import Run
from recommender.datasets.moments import as_of
from recommender.datasets.tables import open_tables
from recommender.datasets.write import write_tables
from recommender.errors import ValidationFailed
from recommender.settings import TimeSettings
from recommender.storage.manifest import MANIFEST, write_text

SHOWN_CAUSES = 4
"""Causes in a row of the table. Chosen by hand."""


@dataclass(frozen=True)
class Seen:
    """What a validation said: the names of the checks that failed, whether one stops the run, and the causes."""

    failed: list[str]
    stopped: bool
    causes: list[str]


class DailyRuns:
    """The daily runs of one shop, in a folder of its own."""

    def __init__(self, shop: SeasonalShop, folder: Path) -> None:
        self._shop, self._folder = shop, folder
        self._runs: tuple[Run, ...] = ()

    @property
    def _memory(self) -> Path:
        return self._folder / "memory"

    def good_day(self, day: int) -> list[str]:
        """Validate the export of a day, remember it, and return the checks that failed: false alarms."""
        verdict, failed = self._validate(self._shop.until(day), day, previous=self._memory)
        names = [one.check for one in failed]
        if verdict.statistics is not None and not verdict.critical:
            write_memory(verdict, self._memory)
            last = verdict.statistics
            self._runs = (*self._runs, Run(str(day), last.last_day.isoformat(), last.last_hour))
        return names

    def accident(self, accident: Accident, day: int, *, first: bool) -> Seen:
        """Validate the export of a day with an accident in it.

        Args:
            accident: what happens to the export.
            day: of the export.
            first: without the memory of earlier runs.
        """
        frames = accident.change(self._shop.until(day))
        _, failed = self._validate(frames, day, previous=None if first else self._memory)
        causes = [f"{one.check}: {one.cause or one.sentence}" for one in failed]
        stopped = any(one.critical for one in failed)
        return Seen([one.check for one in failed], stopped, causes[:SHOWN_CAUSES])

    def _validate(self, frames: Frames, day: int, *, previous: Path | None) -> tuple[Verdict, list[Outcome]]:
        raw, clean = self._folder / "raw", self._folder / "clean"
        write_tables(frames, raw, source="accidents", time_zone="UTC", decisions=[])
        tables = open_tables(raw)
        # Exported at five in the morning after the day.
        ingested_at = moment_of(day + 1) + timedelta(hours=5)
        facts = {**tables.manifest, "ingested_at": ingested_at.isoformat()}
        write_text(raw / MANIFEST, json.dumps(facts, indent=1, default=str))
        runs = self._runs if previous is not None else ()
        now = min(as_of(TimeSettings(), open_tables(raw)), ingested_at)
        try:
            verdict = validate(raw, clean, self._folder / "page.html", as_of=now, previous=previous, runs=runs)
        except ValidationFailed as failed:
            verdict = cast(Verdict, failed.verdict)
        return verdict, [one for one in verdict.outcomes if one.status == "failed"]
