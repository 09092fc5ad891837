"""The log of readings: a line of JSON each time rankers are judged on campaigns that must not choose among them.

These are tests, and campaigns that may belong to a gate period: whoever judges many rankers on them and lets the best
one try the gate has chosen it by what judges it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recommender.engine.torchrun import is_first

CROSS_VALIDATION = "cross-validation"
"""Kind of a reading by `recommender cross-validate`. Readings of a final test have the kind FINAL_TEST."""
FINAL_TEST = "final test"


@dataclass(frozen=True)
class GateReadings:
    """How often cross-validation judged rankers by campaigns that lie in a gate period."""

    times: int = 0
    num_rankers: int = 0
    """A ranker with other hyperparameters, or fitted on other data, is another one."""

    def __str__(self) -> str:
        """One sentence for people. Empty without a reading."""
        if not self.times:
            return ""
        times = "once" if self.times == 1 else f"{self.times} times"
        rankers = "1 ranker" if self.num_rankers == 1 else f"{self.num_rankers} rankers"
        return (
            f"The gate's campaigns were also read {times} by cross-validate, for {rankers}. "
            "A challenger that was chosen by it is judged too kindly here."
        )


def log_reading(
    readings: Path, *, data: str, ranker: str, train_on: str, seed: int, facts: Mapping[str, str] | None = None
) -> None:
    """Append a line to `readings`. Of several processes that read a test together, only the first one writes.

    Args:
        readings: The log. It is made where it is missing.
        data: The name of the data whose test was read.
        ranker: The ranker that was judged.
        train_on: What the ranker learned from.
        seed: The fit's seed.
        facts: Where it was measured: date, code, hardware.
    """
    _append(readings, {"data": data, "ranker": ranker, "train_on": train_on, "seed": seed, **(facts or {})})


def log_cross_validation(
    readings: Path,
    *,
    data: str,
    rankers: Mapping[str, Mapping[str, Any]],
    origins: Sequence[datetime],
    judged_to: datetime,
    seed: int,
) -> None:
    """Append a line about a cross-validation to `readings`.

    Args:
        readings: The log. It is made where it is missing.
        data: The hash of the data.
        rankers: The rankers that were judged, with their hyperparameters as configured.
        origins: The moments of the fits, in order. Campaigns from the first one on judged.
        judged_to: Campaigns that start before it judged.
        seed: The fits' seed.
    """
    _append(
        readings,
        {
            "kind": CROSS_VALIDATION,
            "data": data,
            "rankers": {name: dict(given) for name, given in rankers.items()},
            "origins": [origin.isoformat() for origin in origins],
            "judged_to": judged_to.isoformat(),
            "seed": seed,
        },
    )


def gate_readings(readings: Path, gate_from: datetime, gate_to: datetime) -> GateReadings:
    """Count the cross-validations that judged by campaigns which can lie in this gate period, and their rankers."""
    found = [
        line
        for line in _lines(readings)
        if line.get("kind") == CROSS_VALIDATION
        and datetime.fromisoformat(line["origins"][0]) < gate_to
        and gate_from < datetime.fromisoformat(line["judged_to"])
    ]
    rankers = {
        (line["data"], line["seed"], name, json.dumps(given, sort_keys=True))
        for line in found
        for name, given in line["rankers"].items()
    }
    return GateReadings(len(found), len(rankers))


def num_readings(readings: Path, *, since: datetime) -> int:
    """Count the readings of final tests that end after `since`: they can share campaigns with one that starts then."""
    return sum(datetime.fromisoformat(line["as_of"]) > since for line in _lines(readings) if "as_of" in line)


def _append(readings: Path, facts: Mapping[str, Any]) -> None:
    if not is_first():
        return
    readings.parent.mkdir(parents=True, exist_ok=True)
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
    with readings.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _lines(readings: Path) -> list[dict[str, Any]]:
    if not readings.is_file():
        return []
    return [json.loads(line) for line in readings.read_text(encoding="utf-8").splitlines()]
