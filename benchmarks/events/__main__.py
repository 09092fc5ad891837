"""Measure, print, and merge the rows into reports/bench/features.json."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.table import Table

import benchmarks.events
from benchmarks.decision.rows import Row, merge
from benchmarks.events import lost, read_cost, visible
from benchmarks.events.shop import make
from benchmarks.features import REPORT
from benchmarks.measured_on import measured_on
from recommender.report.terminal import wide

GROUPS = ("lost", "visible", "cost")


def main(words: Sequence[str] | None = None) -> int:
    """Measure the chosen groups of rows. The exit code is 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench-events", description=benchmarks.events.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of the load")
    parser.add_argument("--events", type=int, default=10_000, help="events to be acknowledged over ten kills")
    parser.add_argument("--users", type=int, default=1_000, help="users of the shop")
    parser.add_argument("--groups", default=",".join(GROUPS), help=f"which of {', '.join(GROUPS)}")
    parser.add_argument("--output", type=Path, default=REPORT, help="the report (JSON)")
    given = parser.parse_args(words)
    chosen = given.groups.split(",")
    if unknown := set(chosen) - set(GROUPS):
        parser.error(f"unknown group {sorted(unknown)[0]!r}; there are {', '.join(GROUPS)}")
    console = wide()

    def say(text: str) -> None:
        console.print(text, markup=False)

    found: list[Row] = []
    with TemporaryDirectory(prefix="bench-events-") as folder:
        shop = make(Path(folder), num_users=given.users)
        if "visible" in chosen:
            found += visible.rows(shop, given.seconds, say)
        if "lost" in chosen:
            found += lost.rows(shop, given.events, say)
        if "cost" in chosen:
            found += read_cost.rows(shop, say)
    merge(found, measured_on(), given.output)
    table = Table("", "value", "goal", "held", title="Events over HTTP")
    for row in found:
        table.add_row(row.name, f"{row.value:.4g}", row.goal, row.in_words)
    console.print(table)
    return 1 if any(row.held is False for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
