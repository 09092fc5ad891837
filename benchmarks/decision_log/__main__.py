"""Measure, print, and merge the rows into reports/bench/serving.json."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import benchmarks.decision_log
from benchmarks.decision.rows import merge
from benchmarks.decision_log import delayed, queries
from benchmarks.measured_on import measured_on
from recommender.settings import load_settings

GROUPS = {"delayed": delayed.rows, "queries": queries.rows}
DECISIONS = 5_000_000
"""Made in two minutes, 0.3 GiB. By hand; the goal is stated for 50 million."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure the chosen groups. The exit code is 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench-decision-log", description=benchmarks.decision_log.__doc__)
    parser.add_argument("--groups", default=",".join(GROUPS), help=f"which of {', '.join(GROUPS)}, separated by commas")
    parser.add_argument("--decisions", type=int, default=DECISIONS, help="decisions to query, such as 50000000")
    parser.add_argument("--rate", type=float, default=delayed.RATE, help="requests a second while the disk hangs")
    parser.add_argument("--output", type=Path, default=Path("reports/bench/serving.json"), help="the report (JSON)")
    chosen = parser.parse_args(words)
    default = Path("recommender.toml")
    settings = load_settings(default if default.is_file() else None)
    missed = False
    for name in chosen.groups.split(","):
        if name not in GROUPS:
            parser.error(f"unknown group {name!r}; there are {', '.join(GROUPS)}")
        began_s = time.process_time()
        rows = GROUPS[name](settings, chosen, print)
        merge(rows, measured_on(), chosen.output)
        print(f"{name}: {time.process_time() - began_s:.0f} CPU-s")
        for row in rows:
            print(f"  {row.name:60s} {row.value:10.4g}  {row.goal:10s} {row.in_words}")
            missed |= row.held is False
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
