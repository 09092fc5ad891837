"""Builds a feature set in a process of its own and says what that cost: `python -m benchmarks.features.built`."""

import sys
from datetime import datetime
from pathlib import Path

from benchmarks.ingest.child import Measured, measure
from recommender.datasets.tables import Tables


def build_measured(tables: Path, output: Path, as_of: datetime, *, limit_gib: float | None = None) -> Measured:
    """CPU-seconds and peak memory of `recommender.features.build`, with the start of its process.

    Without the facts that only people read.
    """
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "benchmarks.features.built", str(tables), str(output), as_of.isoformat()]
    environment = {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    output.parent.mkdir(parents=True, exist_ok=True)
    return measure(command, output.parent, environment=environment, limit_gib=limit_gib)


if __name__ == "__main__":
    from recommender.features import build

    build(Tables(Path(sys.argv[1])), Path(sys.argv[2]), as_of=datetime.fromisoformat(sys.argv[3]), facts=False)
