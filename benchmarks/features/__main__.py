"""Measure the groups of rows of this package: see `benchmarks.groups`.

CPU-seconds of a row are those of a process of its own, from its start to its end.
"""

import benchmarks.features
from benchmarks.groups import measure_groups

if __name__ == "__main__":
    raise SystemExit(measure_groups(benchmarks.features, "make bench-features", benchmarks.features.REPORT))
