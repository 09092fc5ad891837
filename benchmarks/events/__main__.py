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
from benchmarks.features import REPORT
from benchmarks.features.stores import KINDS, started
from benchmarks.measured_on import measured_on
from benchmarks.served_shop import make
from recommender.report.terminal import wide

GROUPS = ("lost", "visible", "cost")


def main(words: Sequence[str] | None = None) -> int:
    """Measure the chosen groups of rows. The exit code is 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench-events", description=benchmarks.events.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of the load")
    parser.add_argument("--events", type=int, default=10_000, help="events to be acknowledged over ten kills")
    parser.add_argument("--users", type=int, default=1_000, help="users of the shop")
    parser.add_argument("--groups", default=",".join(GROUPS), help=f"which of {', '.join(GROUPS)}")
    parser.add_argument("--store", default="sqlite", choices=KINDS, help="the online store, a real server of it")
    parser.add_argument("--output", type=Path, default=REPORT, help="the report (JSON)")
    given = parser.parse_args(words)
    chosen = given.groups.split(",")
    if unknown := set(chosen) - set(GROUPS):
        parser.error(f"unknown group {sorted(unknown)[0]!r}; there are {', '.join(GROUPS)}")
    if given.store != "sqlite" and "cost" in chosen:
        chosen.remove("cost")  # CPU time of a read of SQLite
    console = wide()

    def say(text: str) -> None:
        console.print(text, markup=False)

    found: list[Row] = []
    with (
        # In /tmp: the path of a server's socket has a limit of 107 characters.
        TemporaryDirectory(prefix="bench-events-", dir="/tmp") as folder,
        started(given.store, Path(folder) / "store") as of_store,
    ):
        shop = make(Path(folder), num_users=given.users, store=of_store.store, engine="in_process", workers=1)
        if "visible" in chosen:
            found += visible.rows(shop, given.seconds, say)
        if "lost" in chosen:
            found += lost.rows(shop, given.events, say)
        if "cost" in chosen:
            found += read_cost.rows(shop, say)
    if given.store != "sqlite":
        found = [row.model_copy(update={"name": f"{given.store}: {row.name}"}) for row in found]
    merge(found, measured_on(), given.output)
    table = Table("", "value", "goal", "held", title="Events over HTTP")
    for row in found:
        table.add_row(row.name, f"{row.value:.4g}", row.goal, row.in_words)
    console.print(table)
    return 1 if any(row.held is False for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
