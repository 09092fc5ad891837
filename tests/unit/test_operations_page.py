"""The operations page says what to do about every alert, and its capacity table follows from the measured figures."""

import json
import re
from pathlib import Path

import pytest

from serving.monitoring.alerts import ALERTS

PAGE = Path("docs/operations.md").read_text(encoding="utf-8")
SECONDS_A_DAY = 86_400
MOST_BUSY = 0.6
"""The share of a core that the page plans with."""


def test_every_alert_has_its_entry_with_its_severity_and_no_other_has_one() -> None:
    entries = dict(re.findall(r"^### (\w+)\n\n\*(\w+)\.\*", PAGE, flags=re.MULTILINE))
    alerts = {alert.name: alert.severity for alert in ALERTS}
    assert entries == alerts


def measured(name: str) -> dict[str, object]:
    rows = json.loads(Path("reports/bench/serving.json").read_text(encoding="utf-8"))["rows"]
    (row,) = (row for row in rows if row["name"] == name)
    return {**row["facts"], "value": row["value"]}


@pytest.mark.parametrize(("column", "engine"), [(1, "torchserve"), (2, "in_process")])
def test_cores_follow_from_the_measured_cpu_time_of_a_request(column: int, engine: str) -> None:
    of_request_ms = float(str(measured(f"{engine}: CPU-ms per request, several live campaigns")["value"]))
    for row in capacity():
        expected = row[0] * of_request_ms / 1e3 / MOST_BUSY
        # A tenth, because figures on shared cores move with every measurement.
        assert row[column] == pytest.approx(expected, rel=0.1)


def test_the_decision_log_s_size_follows_from_the_measured_bytes_of_a_decision() -> None:
    facts = measured("CPU-s of compacting a million decisions")
    for row in capacity():
        for column, fact in ((3, "segment_bytes_each"), (4, "table_bytes_each")):
            gigabytes = row[0] * SECONDS_A_DAY * float(str(facts[fact])) / 1e9
            assert row[column] == pytest.approx(gigabytes, rel=0.1)


def capacity() -> list[list[float]]:
    """Rows of the capacity table as numbers."""
    table = PAGE.split("| requests per second |")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [[float(cell.removesuffix(" GB").replace(",", "")) for cell in row] for row in rows]
