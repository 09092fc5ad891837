"""Measure, print, and merge the rows into reports/bench/serving.json."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

import benchmarks.serving_load
from benchmarks.decision.rows import merge
from benchmarks.measured_on import measured_on
from benchmarks.serving_load import clients, cost, isolation, overload, restart
from benchmarks.serving_load.loads import under_test
from recommender.errors import RecommenderError
from recommender.report.terminal import wide
from recommender.settings import load_settings

REPORT = Path("reports/bench/serving.json")
GROUPS = {
    "overload": overload.rows,
    "clients": clients.rows,
    "restart": restart.rows,
    "isolation": isolation.rows,
    "cost": cost.rows,
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure the chosen groups of rows. The exit code is 1 when a goal is missed, 2 on an error."""
    parser = argparse.ArgumentParser(prog="make bench-serving", description=benchmarks.serving_load.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of each load")
    parser.add_argument("--groups", default=",".join(GROUPS), help=f"which of {', '.join(GROUPS)}")
    parser.add_argument("--output", type=Path, default=REPORT, help="the report (JSON)")
    given = parser.parse_args(words)
    if unknown := set(given.groups.split(",")) - GROUPS.keys():
        parser.error(f"unknown group {sorted(unknown)[0]!r}; there are {', '.join(GROUPS)}")
    console = wide()
    default = Path("recommender.toml")
    table, held = Table("", "value", "goal", "held", title="Serving under load"), True
    try:
        with under_test(load_settings(default if default.is_file() else None)) as endpoint:
            for name in given.groups.split(","):
                rows = GROUPS[name](endpoint, given.seconds, lambda text: console.print(text, markup=False))
                merge(rows, measured_on(), given.output)
                for row in rows:
                    held = held and row.held is not False
                    table.add_row(row.name, f"{row.value:.4g}", row.goal, row.in_words)
    except RecommenderError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    console.print(table)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
