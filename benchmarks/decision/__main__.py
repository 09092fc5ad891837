"""Measure the groups of rows of this package: see `benchmarks.groups`."""

import benchmarks.decision
from benchmarks.decision.rows import REPORT
from benchmarks.groups import measure_groups

if __name__ == "__main__":
    raise SystemExit(measure_groups(benchmarks.decision, "make bench-decision", REPORT))
