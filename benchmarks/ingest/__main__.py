"""`make bench-ingest`: CPU-seconds and peak memory of reading and checking a log, beside DuckDB's plain copy of it.

Without options: a CSV of five million events. `--events 100000000` (`make bench-ingest EVENTS=100000000`) reads as many
from Parquet under a limit of memory, and a million beside them.
"""

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.ingest.child import Measured, measure
from benchmarks.measured_on import measured_on, report_path
from recommender.storage.manifest import write_text

REPORT, LARGE_REPORT = Path("reports/bench/ingest.json"), Path("reports/bench/ingest_large.json")
CSV_EVENTS, SMALL_EVENTS = 5_000_000, 1_000_000
GOALS = {"cpu_s": 60.0, "peak_gib": 1.5, "limit_gib": 4.0, "per_event": 0.3}
"""Of the CSV: CPU-seconds and peak. Of the large log: the limit, and how much more CPU time an event may take than one
of a million."""
DUCKDB_LIMIT = "2GiB"
"""DuckDB's part of the 4 GiB of the large log: half, as without a setting on such a machine."""
RECOMMENDER = (sys.executable, "-c", "from cli.main import app; app()")
COPY = """
import duckdb, sys
with duckdb.connect(config={"threads": 2}) as connection:
    connection.execute(f"COPY (FROM '{sys.argv[1]}') TO '{sys.argv[2]}' (FORMAT parquet, COMPRESSION zstd)")
"""
"""The least that reading a log can be: DuckDB finds the types of a file and writes it as Parquet, in no order."""


def main() -> None:
    """Run the benchmark, print its table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=CSV_EVENTS, help="more than five million: Parquet, under a limit")
    parser.add_argument("--scratch", type=Path, default=None, help="folder for the files; 100 M events need 40 GB")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="bench-ingest-", dir=options.scratch) as folder:
        if options.events <= CSV_EVENTS:
            report = _csv(options.events, Path(folder))
            path = report_path(REPORT, is_complete=options.events == CSV_EVENTS)
        else:
            report, path = _large(options.events, Path(folder)), LARGE_REPORT
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**measured_on(), **report}, indent=1) + "\n")
    _show(report, path)


def _csv(num_events: int, folder: Path) -> dict[str, Any]:
    parts = _run(num_events, "csv", folder)
    copied = measure([sys.executable, "-c", COPY, "events.csv", "copy.parquet"], folder)
    both = parts["ingest"] + parts["validate"]
    cpu, peak = GOALS["cpu_s"], GOALS["peak_gib"]
    what = f"{num_events:,} events of a CSV"
    return {
        "events": num_events,
        "steps": {name: vars(one) for name, one in {**parts, "plain copy": copied}.items()},
        "rows": [
            _row(f"{what}: ingest and validate, CPU-s", both.cpu_s, f"<= {cpu:g}", both.cpu_s <= cpu),
            _row(f"{what}: peak, GiB", both.peak_gib, f"<= {peak:g}", both.peak_gib <= peak),
            _row("DuckDB's plain copy to Parquet, CPU-s", copied.cpu_s),
            _row("ingest and validate, times the plain copy", both.cpu_s / copied.cpu_s),
        ],
    }


def _large(num_events: int, folder: Path) -> dict[str, Any]:
    limit = GOALS["limit_gib"]
    found = {}
    # Almost nothing is read of a thousand events: what is left is the start of the two programs.
    for number in (1_000, SMALL_EVENTS, num_events):
        parts = _run(number, "parquet", folder / str(number), limit_gib=limit)
        found[number] = (parts, parts["ingest"] + parts["validate"])
    start, small, large = (both for _, both in found.values())
    per_event = [1e6 * one.cpu_s / number for number, (_, one) in found.items()]
    whole = per_event[2] / per_event[1] - 1
    net = ((large.cpu_s - start.cpu_s) / num_events) / ((small.cpu_s - start.cpu_s) / SMALL_EVENTS) - 1
    what = f"{num_events:,} events of Parquet"
    bound = f"<= +{GOALS['per_event']:.0%}"
    return {
        "events": num_events,
        "limit_gib": limit,
        "duckdb_limit": DUCKDB_LIMIT,
        "steps": {
            f"{number:,}": {name: vars(one) for name, one in parts.items()} for number, (parts, _) in found.items()
        },
        "rows": [
            _row(f"{what}: peak, GiB", large.peak_gib, f"<= {limit:g}", large.peak_gib <= limit),
            _row(f"{what}: ingest and validate, CPU-s", large.cpu_s),
            _row(f"{what}: CPU-µs of an event", per_event[2]),
            _row("1 M events: CPU-µs of an event", per_event[1]),
            _row("more CPU time for an event than of 1 M", whole, bound, whole <= GOALS["per_event"]),
            _row("the same without the start of the programs", net, bound, net <= GOALS["per_event"]),
        ],
    }


def _run(num_events: int, form: str, folder: Path, *, limit_gib: float | None = None) -> dict[str, Measured]:
    """Write a shop in a process of its own, then ingest and validate it as a user does."""
    folder.mkdir(parents=True, exist_ok=True)
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        "PYTHONPATH": root,
        "RECOMMENDER__HOME": str(folder / "home"),
        "RECOMMENDER__RESOURCES__SCRATCH": str(folder),
    }
    measure(
        [sys.executable, "-m", "benchmarks.ingest.shop", str(num_events), form, "."], folder, environment=environment
    )
    if limit_gib is not None:
        environment["RECOMMENDER__RESOURCES__MEMORY_LIMIT"] = DUCKDB_LIMIT
    verbs = {"ingest": ("--data", "mapping.toml", "--output", "tables"), "validate": ("--data", "tables")}
    return {
        verb: measure([*RECOMMENDER, verb, *words], folder, environment=environment, limit_gib=limit_gib)
        for verb, words in verbs.items()
    }


def _row(name: str, value: float, goal: str = "", held: bool | None = None) -> dict[str, Any]:
    return {"name": name, "value": round(value, 3), "goal": goal, "held": held}


def _show(report: dict[str, Any], path: Path) -> None:
    table = Table("figure", "value", "goal", "held", title="Large logs")
    for row in report["rows"]:
        held = {None: "", True: "yes", False: "MISSED"}[row["held"]]
        table.add_row(row["name"], f"{row['value']:,.2f}", row["goal"], held)
    console = Console()
    console.print(table)
    console.print(f"{path}")


if __name__ == "__main__":
    main()
