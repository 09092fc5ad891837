"""The log of test readings: a line of JSON each time a ranker is judged on a test that must not choose anything."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from recommender.engine import processes


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
    if not processes.is_first():
        return
    readings.parent.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"at": moment, "data": data, "ranker": ranker, "train_on": train_on, "seed": seed, **(facts or {})}
    with readings.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def num_readings(readings: Path, *, since: datetime) -> int:
    """Count the readings of final tests that end after `since`: they can share campaigns with one that starts then."""
    if not readings.is_file():
        return 0
    lines = [json.loads(line) for line in readings.read_text(encoding="utf-8").splitlines()]
    return sum(datetime.fromisoformat(line["as_of"]) > since for line in lines if "as_of" in line)
