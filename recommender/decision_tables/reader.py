"""The one reader of logged decisions: over compacted days and over segments that are not compacted yet.

decisions        delivered decisions, with the columns of `recommender.decision_tables.schema.DECISIONS`
every_decision   also those whose caller hung up, with `delivered`
                 both have `by_assigned_version`: whether the version of the user's variant made the answer. Only such
                 decisions say anything about a version: the others are popular lists, or the champion's answers for a
                 canary that was away
exposures        request_id, exposed_at, campaign_ids: which campaigns of a delivered decision were shown
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from recommender.datasets.engine import open_engine
from recommender.decision_tables import schema
from recommender.decision_tables.days import Day, DayManifest, Table, days_of, merged_segments
from recommender.decision_tables.removed import RemovedUsers, removed_users, without_removed
from recommender.decision_tables.schema import quoted, select
from recommender.decision_tables.segments import SegmentFile, create_lines, segment_files
from recommender.decisions.log import EXPOSED, UNDELIVERED, folders_of
from recommender.settings import Settings
from recommender.storage.home import Home

ROWS = 10_000
"""Rows that are fetched at once. By hand: a few megabytes."""


@contextmanager
def open_decisions(
    settings: Settings, *, first_day: date | None = None, last_day: date | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the views over all logged decisions, or those of some days (UTC, both ends belong to them).

    What is logged or compacted meanwhile is not seen, and is not counted twice.

    Raises:
        CorruptFileError: A day's manifest is damaged.
    """
    home = Home.of(settings)
    # Segments first: one that is compacted in between is then found in a manifest, and left out here.
    files = segment_files(folders_of(settings))
    days = {day: day.manifest() for day in days_of(home) if _within(day.date, first_day, last_day)}
    merged = merged_segments(home, days, (file.name for file in files))
    live = [file for file in files if file.name not in merged]
    with open_engine(settings.resources, "decisions") as (connection, scratch):
        create_lines(connection, [_still(file, home, scratch) for file in live], as_table=False)
        _create_views(connection, days, _between(first_day, last_day), removed_users(home))
        yield connection


def _still(file: SegmentFile, home: Home, scratch: Path) -> SegmentFile:
    """A segment that does not change: the shared folder's are complete, the replica's own ones are copied."""
    if file.path.parent == home.decisions:
        return file
    try:
        return SegmentFile(file.name, Path(shutil.copy2(file.path, scratch)))
    except FileNotFoundError:  # shipped meanwhile
        return SegmentFile(file.name, home.decisions / file.path.name)


def _within(day: date, first: date | None, last: date | None) -> bool:
    return (first is None or day >= first) and (last is None or day <= last)


def _between(first: date | None, last: date | None) -> str:
    """The condition on the column `day`."""
    bounds = [f"day {sign} DATE '{day}'" for sign, day in ((">=", first), ("<=", last)) if day is not None]
    return " AND ".join(bounds) or "true"


def _create_views(
    connection: duckdb.DuckDBPyConnection, days: dict[Day, DayManifest], between: str, removed: RemovedUsers
) -> None:
    # Events are few and are asked for often, so they are read once.
    connection.execute(
        f"CREATE TABLE live_events AS SELECT event, {select(schema.EXPOSURES)} FROM lines "
        f"WHERE event IN ('{EXPOSED}', '{UNDELIVERED}') AND request_id IS NOT NULL"
    )
    connection.execute(f"CREATE TABLE hung_up AS SELECT request_id FROM live_events WHERE event = '{UNDELIVERED}'")
    compacted = _parts(days, "decisions")
    compacted = compacted and schema.decisions_in(compacted)
    shown = _parts(days, "exposures")
    # Request ids of compacted days are read only where an answer that did not arrive is not compacted yet.
    days_hung_up = connection.execute(
        "SELECT DISTINCT strptime(left(request_id, 8), '%Y%m%d')::DATE FROM hung_up"
    ).fetchall()
    touched = [f"DATE '{day}'" for (day,) in days_hung_up if any(one.date == day for one in days)]
    delivered = (
        f"delivered AND NOT (day IN ({', '.join(touched)}) AND request_id IN (SELECT request_id FROM hung_up))"
        if touched
        else "delivered"
    )
    columns = ", ".join(f'"{name}"' for name in schema.DECISIONS)
    live = (
        f"SELECT * FROM (SELECT {select(schema.DECISIONS)}, request_id NOT IN (SELECT request_id FROM hung_up) "
        f"AS delivered FROM lines WHERE event IS NULL AND request_id IS NOT NULL) WHERE {without_removed(removed)}"
    )
    both = [live] if not compacted else [f"SELECT {columns}, {delivered} AS delivered FROM {compacted}", live]
    connection.execute(
        "CREATE VIEW every_decision AS SELECT *, model_version IS NOT DISTINCT FROM assigned_version "
        f"AS by_assigned_version FROM ({' UNION ALL '.join(both)}) WHERE {between}"
    )
    connection.execute("CREATE VIEW decisions AS SELECT * EXCLUDE (delivered) FROM every_decision WHERE delivered")
    events = f"SELECT request_id, exposed_at, campaign_ids FROM live_events WHERE event = '{EXPOSED}'"
    if shown:
        events += f" UNION SELECT request_id, exposed_at, campaign_ids FROM {shown}"
    # An event that names no campaign of its decision is none: a gateway takes one without seeing the decision.
    connection.execute(
        "CREATE VIEW exposures AS SELECT request_id, exposed_at, campaign_ids FROM (SELECT e.request_id, e.exposed_at, "
        "len(d.campaigns) AS answered, list_filter(list_transform(d.campaigns, lambda c: c.campaign_id), "
        "lambda answered: e.campaign_ids IS NULL OR list_contains(e.campaign_ids, answered)) AS campaign_ids "
        f"FROM (SELECT DISTINCT * FROM ({events})) e JOIN decisions d USING (request_id)) "
        "WHERE len(campaign_ids) > 0 OR answered = 0"
    )


def _parts(days: dict[Day, DayManifest], table: Table) -> str:
    """The expression that reads a table of all days. Empty if no day has one."""
    paths = [quoted(str(day.path(manifest.parts[table]))) for day, manifest in days.items() if table in manifest.parts]
    return f"read_parquet([{', '.join(paths)}], union_by_name = true)" if paths else ""


def read_decisions(settings: Settings) -> Iterator[dict[str, Any]]:
    """Every delivered decision, by day and writer, and each writer's in the order of its answers."""
    # An id is <day>-<writer>-<number>.<place, hexadecimal>.<token>.
    order = (
        "day, split_part(request_id, '-', 2), split_part(split_part(request_id, '-', 3), '.', 1)::BIGINT, "
        "('0x' || split_part(request_id, '.', 2))::BIGINT"
    )
    return _rows(settings, f"SELECT * FROM decisions ORDER BY {order}")


def read_exposures(settings: Settings) -> Iterator[dict[str, Any]]:
    """Every confirmation (`request_id`, `exposed_at`, `campaign_ids`), of which a decision may have more than one."""
    return _rows(settings, "SELECT * FROM exposures ORDER BY exposed_at, request_id")


def _rows(settings: Settings, query: str) -> Iterator[dict[str, Any]]:
    with open_decisions(settings) as connection:
        result = connection.execute(query)
        names = [column[0] for column in result.description or ()]
        while rows := result.fetchmany(ROWS):
            for row in rows:
                yield dict(zip(names, row, strict=True))
