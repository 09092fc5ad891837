"""The features of Complete Journey a day later: rows of the last build taken over, beside a full build."""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.decision.rows import Row
from benchmarks.features.journey import journey_tables
from benchmarks.ingest.child import Measured, measure

CPU_S = 1.5


def rows(say: Callable[[str], None]) -> list[Row]:
    """CPU-seconds of the last day's build with the build of the day before, and how many files differ."""
    with TemporaryDirectory(prefix="daily-") as name:
        folder = Path(name)
        end = journey_tables(folder / "today")
        day = end.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        write_known(folder, day)
        _built(folder, "yesterday", "features-yesterday", day, last=True)
        full, full_alone_s, _ = _built(folder, "today", "full", end, last=False)
        ours, alone_s, report = _built(folder, "today", "increment", end, last=True)
        names = sorted(file.relative_to(folder / "full") for file in (folder / "full").rglob("*") if file.is_file())
        differing = sum(
            (folder / "full" / one).read_bytes() != (folder / "increment" / one).read_bytes() for one in names
        )
    say(f"{report}: {ours.cpu_s:.1f} CPU-s, a full build {full.cpu_s:.1f}")
    facts = {"without_imports": alone_s, "full": full.cpu_s, "full_without_imports": full_alone_s, "report": report}
    return [
        Row.at_most("daily increment of one day, Complete Journey: CPU-s", ours.cpu_s, CPU_S, **facts),
        Row.at_most("daily increment of one day, Complete Journey: files that differ", differing, 0, files=len(names)),
    ]


def write_known(folder: Path, moment: datetime) -> None:
    """Write `folder`/yesterday: the tables of `folder`/today as they were known at a moment."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    from recommender.datasets.tables import CONTRACT, TIME, Tables
    from recommender.datasets.write import write_tables

    tables, frames = Tables(folder / "today"), {}
    for name in CONTRACT:
        if tables.has(name):
            frames[name] = ds.dataset(tables.folder / name, format="parquet", partitioning=None).to_table()
    for name, column in (("events", "event_time"), ("participations", "participated_at")):
        frames[name] = frames[name].filter(pc.less(frames[name][column], pa.scalar(moment, TIME)))
    source = str(tables.manifest["source"])
    write_tables(frames, folder / "yesterday", source=source, time_zone=tables.time_zone, decisions=[])


def _built(folder: Path, tables: str, output: str, as_of: datetime, *, last: bool) -> tuple[Measured, float, str]:
    """Build in a process of its own. Returns its cost, its CPU-seconds without imports, and what the build did."""
    arguments = [tables, output, as_of.isoformat(), *(["last"] if last else [])]
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "benchmarks.features.daily", *arguments]
    found = measure(command, folder, environment={"PYTHONPATH": root, "OMP_NUM_THREADS": "1"})
    said = json.loads((folder / f"{output}.json").read_text(encoding="utf-8"))
    return found, float(said["cpu_s"]), str(said["report"])


def _build_here(tables: str, output: str, as_of: str, last: str = "") -> None:
    from recommender.datasets.tables import Tables
    from recommender.features import build
    from recommender.features.last_build import LastBuild

    kept = LastBuild(Path(last)) if last else None
    began = time.process_time()
    build(Tables(Path(tables)), Path(output), as_of=datetime.fromisoformat(as_of), facts=False, last=kept)
    said = {"cpu_s": time.process_time() - began, "report": kept.report() if kept else "full build"}
    Path(f"{output}.json").write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    _build_here(*sys.argv[1:])
