"""Turns shipped segments into tables of days, each record exactly once, however often it is killed.

1. Events about decisions of other days, such as a confirmation after midnight, are merged into those days. Merging an
   event twice changes nothing.
2. Each day's own segments are merged, and the same rename that shows the new tables also lists these segments. So a
   reader, or a repeated compaction, takes a segment's records from the tables or from the segment, never from both.
3. Segments that were merged are deleted two days later. Until then the gateway finds their decisions by request id.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from recommender import logs
from recommender.datasets.engine import open_engine
from recommender.decision_tables import schema
from recommender.decision_tables.days import GRACE_S, Day, DayManifest, Part, Table, days_of, locked, merged_segments
from recommender.decision_tables.removed import removed_users, without_removed
from recommender.decision_tables.schema import quoted, select
from recommender.decision_tables.segments import SegmentFile, create_lines, is_sealed, problem_of, segment_files
from recommender.decisions.log import EXPOSED, UNDELIVERED
from recommender.settings import Settings
from recommender.storage.home import Home

log = logs.get(__name__)
KEPT_DAYS = 2
"""Merged segments stay for so many days, for confirmations by request id. By hand: few come later."""
BATCH_BYTES = 2**32
"""4 GiB of segments are merged at once, so that a long backlog fits the temporary folder. By hand: a busy day's."""
ROW_GROUP = 122_880
"""Rows of a row group: DuckDB's own default, stated because a user's rows are found by row groups."""

EVENTS: dict[Table, tuple[str, dict[str, str]]] = {
    "exposures": (EXPOSED, schema.EXPOSURES),
    "undelivered": (UNDELIVERED, schema.UNDELIVERED),
}
"""Table of events -> the `event` of its lines, and its columns."""


@dataclass(frozen=True)
class Compacted:
    """What a compaction did."""

    segments: int
    """Segments that were merged."""
    decisions: int
    events: int
    torn: int
    """Lines that are not whole: a kill cut them off before they were acknowledged."""
    days: tuple[str, ...]
    refused: dict[Path, str]
    """Segments that are left as they are, and why: damaged, or with keys that have no column."""
    deleted: int
    """Segments that were merged earlier and are deleted now."""


def compact(settings: Settings, *, now: datetime | None = None) -> Compacted:
    """Merge the segments of the shared folder that are complete into the tables of their days.

    Complete are sealed segments, and files of earlier versions of this software once their day is over.

    Raises:
        CorruptFileError: A manifest or a table is damaged.
    """
    home, now = Home.of(settings), now or datetime.now(UTC)
    with locked(home):
        found = segment_files([home.decisions])
        manifests = {day: day.manifest() for day in days_of(home)}
        names = merged_segments(home, manifests, (file.name for file in found))
        merged = [file for file in found if file.name in names]
        waiting = [file for file in found if file.name not in names and _is_complete(file, now)]
        refused = {file.path: problem for file in waiting if (problem := problem_of(file.path)) is not None}
        for path, problem in refused.items():
            log.error("segment is left out", path=str(path), problem=problem)
        waiting = [file for file in waiting if file.path not in refused]
        done = [_merge_batch(settings, home, batch) for batch in _batches(waiting)]
        for day in days_of(home):
            day.sweep()
        deleted = _delete(home, merged, now)
    decisions, events, torn = (sum(figures[place] for figures, _ in done) for place in range(3))
    days = tuple(sorted({day for _, days in done for day in days}))
    result = Compacted(len(waiting), decisions, events, torn, days, refused, deleted)
    log.info("compacted", segments=result.segments, decisions=result.decisions, events=result.events, torn=result.torn)
    return result


def _is_complete(file: SegmentFile, now: datetime) -> bool:
    if is_sealed(file.path):
        return True
    # Earlier versions wrote into the shared folder and began a new file each UTC day.
    return file.name.day < f"{now:%Y%m%d}" and time.time() - file.path.stat().st_mtime > GRACE_S


def _batches(files: Sequence[SegmentFile]) -> Iterator[list[SegmentFile]]:
    """Segments of at most `BATCH_BYTES` together, in order."""
    batch: list[SegmentFile] = []
    size = 0
    for file in files:
        num_bytes = file.path.stat().st_size
        if batch and size + num_bytes > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += num_bytes
    if batch:
        yield batch


_Figures = tuple[tuple[int, int, int], set[str]]
"""Numbers of decisions, events and torn lines, and the days that were changed."""


def _merge_batch(settings: Settings, home: Home, files: Sequence[SegmentFile]) -> _Figures:
    with open_engine(settings.resources, "compaction") as (connection, _):
        return _merge_all(connection, home, files)


def _merge_all(connection: duckdb.DuckDBPyConnection, home: Home, files: Sequence[SegmentFile]) -> _Figures:
    create_lines(connection, files, as_table=True)
    stays = without_removed(removed_users(home), 'lines."at"')
    connection.execute(f"DELETE FROM lines WHERE event IS NULL AND request_id IS NOT NULL AND NOT ({stays})")
    events = f"event IN ('{EXPOSED}', '{UNDELIVERED}') AND request_id IS NOT NULL"
    counted = connection.execute(
        "SELECT count_if(event IS NULL AND request_id IS NOT NULL), "
        f"count_if({events}), count_if(event IS NULL AND request_id IS NULL) FROM lines"
    ).fetchone() or (0, 0, 0)
    own: dict[str, list[SegmentFile]] = {}
    for file in files:
        own.setdefault(file.name.day, []).append(file)
    late = connection.execute(
        f"SELECT DISTINCT left(request_id, 8) AS day FROM lines WHERE {events} "
        "AND regexp_matches(request_id, '^\\d{8}-') "
        "AND left(request_id, 8) <> regexp_extract(stem, '\\d{8}') ORDER BY day"
    ).fetchall()
    for (day,) in late:
        if _is_date(day):
            _merge(connection, Day.of(home, day), day, [])
    for day, segments in sorted(own.items()):
        _merge(connection, Day.of(home, day), day, segments)
    return (counted[0], counted[1], counted[2]), {*own, *(day for (day,) in late)}


def _is_date(day: str) -> bool:
    try:
        datetime.strptime(day, "%Y%m%d")
    except ValueError:
        return False
    return True


def _merge(connection: duckdb.DuckDBPyConnection, day: Day, name: str, segments: Sequence[SegmentFile]) -> None:
    """Merge the lines about one day's decisions into its tables: its events, and the decisions of `segments`."""
    manifest = day.manifest()
    # As the tables in it, which DuckDB writes under a temporary name with the mode that the umask leaves.
    day.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    stems = ", ".join(quoted(file.name.stem) for file in segments) or "NULL"
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW new_decisions AS SELECT {select(schema.DECISIONS)} FROM lines "
        f"WHERE event IS NULL AND request_id IS NOT NULL AND stem IN ({stems})"
    )
    for table, (event, columns) in EVENTS.items():
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW new_{table} AS SELECT {select(columns)} FROM lines "
            f"WHERE event = '{event}' AND left(request_id, 8) = '{name}'"
        )
    parts = dict(manifest.parts)
    for table in EVENTS:
        if (part := _with_events(connection, day, parts, table)) is not None:
            parts[table] = part
    if _has_rows(connection, "new_decisions") or parts.get("undelivered") != manifest.parts.get("undelivered"):
        parts["decisions"] = write_decisions(connection, day, parts, "new_decisions")
    day.commit(DayManifest(parts=parts, segments=manifest.with_segments([file.name for file in segments])))


def _has_rows(connection: duckdb.DuckDBPyConnection, relation: str) -> bool:
    return connection.execute(f"SELECT 1 FROM {relation} LIMIT 1").fetchone() is not None


def _with_events(
    connection: duckdb.DuckDBPyConnection, day: Day, parts: dict[Table, Part], table: Table
) -> Part | None:
    """Write a table of events with the new ones. None: there is no new one."""
    if not _has_rows(connection, f"new_{table}"):
        return None
    query = f"SELECT * FROM new_{table}"
    if table in parts:
        query += f" UNION SELECT * FROM read_parquet({quoted(str(day.verified(parts[table])))})"
    return write_table(connection, day, table, f"SELECT DISTINCT * FROM ({query}) ORDER BY ALL")


def write_decisions(
    connection: duckdb.DuckDBPyConnection, day: Day, parts: dict[Table, Part], added: str | None
) -> Part:
    """Write a day's decisions anew: those that it has, those of the relation `added`, and which arrived."""
    columns, sources = ", ".join(f'"{name}"' for name in schema.DECISIONS), []
    if "decisions" in parts:
        old = schema.decisions_in(f"read_parquet({quoted(str(day.verified(parts['decisions'])))})")
        sources.append(f"SELECT {columns} FROM {old}")
        if added is not None:
            sources.append(f"SELECT {columns} FROM {added} ANTI JOIN (SELECT request_id FROM {old}) USING (request_id)")
    elif added is not None:
        sources.append(f"SELECT {columns} FROM {added}")
    delivered = "true"
    if "undelivered" in parts:
        gone = quoted(str(day.verified(parts["undelivered"])))
        delivered = f"request_id NOT IN (SELECT request_id FROM read_parquet({gone}))"
    query = f"SELECT *, {delivered} AS delivered FROM ({' UNION ALL '.join(sources)}) ORDER BY {schema.ORDER}"
    return write_table(connection, day, "decisions", query)


def write_table(connection: duckdb.DuckDBPyConnection, day: Day, table: Table, query: str) -> Part:
    """Write the rows of a query as a part of the day."""
    temporary = day.folder / f".{table}.parquet"
    copied = connection.execute(
        f"COPY ({query}) TO {quoted(str(temporary))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
    ).fetchone()
    return day.add(table, temporary, int(copied[0]) if copied else 0)


def _delete(home: Home, merged: Sequence[SegmentFile], now: datetime) -> int:
    """Delete merged segments after `KEPT_DAYS`, and what a killed shipper left."""
    last = f"{now - timedelta(days=KEPT_DAYS):%Y%m%d}"
    old = [file for file in merged if file.name.day < last]
    for file in old:
        file.path.unlink(missing_ok=True)
    for path in home.decisions.glob(".*.jsonl.*"):
        with suppress(FileNotFoundError):  # its shipper renamed it meanwhile
            if time.time() - path.stat().st_mtime > GRACE_S:
                path.unlink()
    return len(old)
