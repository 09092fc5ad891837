"""Finds and removes all decisions of users, in tables and segments alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from recommender import logs
from recommender.datasets.engine import open_engine
from recommender.decision_tables.compaction import EVENTS, compact, write_decisions, write_table
from recommender.decision_tables.days import Day, DayManifest, days_of, locked, merged_segments
from recommender.decision_tables.reader import open_decisions
from recommender.decision_tables.removed import note_removed
from recommender.decision_tables.schema import decisions_in, quoted
from recommender.decision_tables.segments import create_lines, segment_files
from recommender.settings import Settings
from recommender.storage.home import Home

log = logs.get(__name__)


@dataclass(frozen=True)
class Forgotten:
    """What a removal did."""

    decisions: int
    refused: dict[Path, str]
    """Segments that are left as they are, and why. They may hold records of the removed users."""


def records_of(settings: Settings, user_id: str) -> list[dict[str, Any]]:
    """Every decision about a user, also those that did not arrive, each with the campaigns that were shown of it."""
    with open_decisions(settings) as connection:
        result = connection.execute(
            "SELECT d.*, coalesce((SELECT list_sort(list_distinct(flatten(list(campaign_ids)))) FROM exposures e "
            "WHERE e.request_id = d.request_id), []) AS shown "
            "FROM every_decision d WHERE user_id = ? ORDER BY decided_at, request_id",
            [user_id],
        )
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def forget(settings: Settings, user_ids: Sequence[str], *, now: datetime | None = None) -> Forgotten:
    """Remove all decisions of users up to now, with their events.

    They are noted first (`recommender.decision_tables.removed`), so that readers leave them out from then on, and so
    does the compaction of segments that arrive later. A killed removal is completed by repeating it.

    Raises:
        CorruptFileError: A manifest or a table is damaged.
    """
    home, now = Home.of(settings), now or datetime.now(UTC)
    users = sorted(set(user_ids))
    with locked(home):
        note_removed(home, users, now)
    compacted = compact(settings, now=now)
    with locked(home), open_engine(settings.resources, "removal") as (connection, _):
        connection.execute("CREATE TABLE users (user_id VARCHAR)")
        connection.executemany("INSERT INTO users VALUES (?)", [[user] for user in users])
        moment = now.astimezone(UTC).isoformat()
        connection.execute(f"CREATE VIEW until AS SELECT TIMESTAMPTZ {quoted(moment)} AS until")
        num_removed = sum(_forget_day(connection, day) for day in days_of(home))
        for day in days_of(home):
            # Replaced files, also those of earlier compactions, hold the removed records: they wait for no reader.
            day.sweep(at_once=True)
        _delete_segments(connection, home)
    log.info("decisions removed", users=len(users), decisions=num_removed)
    return Forgotten(num_removed, compacted.refused)


def _forget_day(connection: duckdb.DuckDBPyConnection, day: Day) -> int:
    manifest = day.manifest()
    if "decisions" not in manifest.parts:
        return 0
    path = quoted(str(day.verified(manifest.parts["decisions"])))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE gone AS SELECT request_id FROM read_parquet({path}) SEMI JOIN users "
        "USING (user_id) WHERE decided_at <= (SELECT until FROM until)"
    )
    ((num_gone,),) = connection.execute("SELECT count(*) FROM gone").fetchall()
    if not num_gone:
        return 0
    parts, table_of_day = dict(manifest.parts), decisions_in(f"read_parquet({path})")
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW rest AS SELECT * EXCLUDE (delivered) FROM {table_of_day} "
        "ANTI JOIN gone USING (request_id)"
    )
    for table in EVENTS:
        if table in parts:
            events = quoted(str(day.verified(parts[table])))
            parts[table] = write_table(
                connection, day, table, f"SELECT * FROM read_parquet({events}) ANTI JOIN gone USING (request_id)"
            )
    parts["decisions"] = write_decisions(
        connection, day, {table: part for table, part in parts.items() if table != "decisions"}, "rest"
    )
    day.commit(DayManifest(parts=parts, segments=manifest.segments))
    return int(num_gone)


def _delete_segments(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    """Delete merged segments with a record of these users. Their other records are in the tables."""
    found = segment_files([home.decisions])
    manifests = {day: day.manifest() for day in days_of(home)}
    names = merged_segments(home, manifests, (file.name for file in found))
    files = [file for file in found if file.name in names]
    create_lines(connection, files, as_table=False)
    rows = connection.execute("SELECT DISTINCT stem FROM lines SEMI JOIN users USING (user_id)").fetchall()
    stems = {stem for (stem,) in rows}
    for file in files:
        if file.name.stem in stems:
            file.path.unlink(missing_ok=True)
