"""The materialise step for many users: peak memory, and users a second, into each online store.

    python -m benchmarks.features.online_write --users 1000000

The step runs in a process of its own, so that its peak is its own.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.decision.rows import Row, merge
from benchmarks.features import REPORT
from benchmarks.features.stores import KINDS, feature_set, started
from benchmarks.ingest.child import memory_gib
from benchmarks.measured_on import measured_on

NUM_USERS = 1_000_000
NUM_FEATURES, BLOB_BYTES = 50, 1_800
"""Packed, with its header of 36 bytes, a user has 2,036 bytes: about 2 KB, as of a shop of medium size."""
LIMIT_GIB = 1.0
STEP = """
import sys
from pathlib import Path
from benchmarks.features.online_write import measured_step
measured_step(Path(sys.argv[1]), sys.argv[2])
"""


def rows(say: Callable[[str], None], num_users: int = NUM_USERS, kinds: Sequence[str] = KINDS) -> list[Row]:
    """One row for each store: the step's peak in GiB."""
    found = []
    with TemporaryDirectory(prefix="features-", dir="/tmp") as name:
        folder = Path(name)
        features = feature_set(
            folder / "features", num_users=num_users, num_features=NUM_FEATURES, blob_bytes=BLOB_BYTES
        )
        for kind in kinds:
            with started(kind, folder / kind) as settings:
                command = [sys.executable, "-c", STEP, str(features), settings.model_dump_json()]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            wall_s, cpu_s, peak_gib = (float(word) for word in done.stdout.split()[-3:])
            say(f"{kind}: {num_users:,} users, {wall_s:.0f} s, {num_users / wall_s:,.0f} users/s, {peak_gib:.2f} GiB")
            label = f"online write, {num_users:,} users of 2 KB, {kind}: peak GiB"
            facts = {
                "users_per_s": round(num_users / wall_s),
                "wall_s": wall_s,
                "cpu_s": cpu_s,
                "bytes_per_user": 2_036,
            }
            found.append(Row.at_most(label, peak_gib, LIMIT_GIB, **facts))
    return found


def measured_step(features: Path, settings: str) -> None:
    """Materialise, and print wall seconds, CPU seconds and the peak of this process in GiB."""
    import feast  # noqa: F401 - its import takes seconds, whatever the number of users

    from feature_repo import materialise
    from recommender.settings import settings_from_json

    began, cpu_s = time.perf_counter(), time.process_time()
    materialise(features, settings_from_json(settings))
    print(
        time.perf_counter() - began,
        time.process_time() - cpu_s,
        # Not `ru_maxrss`, which counts the process that started this one.
        memory_gib(os.getpid(), "VmHWM:"),
    )


def main() -> int:
    """Measure, print and merge the rows into the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=NUM_USERS, help="how many users")
    parser.add_argument("--stores", default=",".join(KINDS), help="which stores, separated by commas")
    chosen = parser.parse_args()
    for kind in chosen.stores.split(","):  # each by itself: what was measured stays when a later one is ended
        merge(rows(print, chosen.users, [kind]), measured_on(), REPORT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
