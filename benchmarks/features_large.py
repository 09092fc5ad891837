"""CPU-seconds of an event in a shop of a hundred million events and a million users: `make bench-features-large`.

It takes half an hour of two cores and 25 GB of disk. `--events` chooses another size, `--scratch` the disk.
"""

import argparse
from pathlib import Path

from benchmarks.decision.rows import merge
from benchmarks.features import REPORT
from benchmarks.features.scale import SMALL, compared, measured
from benchmarks.measured_on import measured_on


def main() -> None:
    """Measure a shop of a million events and a large one, and merge the rows into the report."""
    parser = argparse.ArgumentParser(prog="make bench-features-large", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000_000, help="events of the large shop")
    parser.add_argument("--scratch", type=Path, help="folder for the tables and features, removed at the end")
    parser.add_argument("--output", type=Path, default=REPORT, help="the report (JSON)")
    chosen = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    shops = [measured(say, count, chosen.scratch) for count in (SMALL, chosen.events)]
    rows = compared(*shops)
    merge(rows, measured_on(), chosen.output)
    for row in rows:
        say(f"{row.name}: {row.value:.4g}  {row.goal}  {row.in_words}")


if __name__ == "__main__":
    main()
