"""Adds the events that gateways took over HTTP to the tables that a source gave.

Each event counts once: what the source has under the same `event_id` stays. Events of users, items or campaigns that
the tables do not know are left out and counted. The next run looks at them again, because the log keeps them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import duckdb

from recommender import logs
from recommender.datasets import ingest
from recommender.datasets.engine import open_engine
from recommender.datasets.tables import CONTRACT, EVENT_KINDS, LOGGED_BY_DAY, Tables
from recommender.datasets.write import Frame
from recommender.decisions.names import SegmentName
from recommender.event_tables.forgotten_rows import without_forgotten
from recommender.event_tables.returned import with_returns
from recommender.event_tables.rewriting import rewrite
from recommender.event_tables.segments import segments_of
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings, Settings
from recommender.storage.home import Home
from recommender.storage.manifest import digest

log = logs.get(__name__)
_TEXTS = (
    *("event_id", "user_id", "kind", "item_id", "campaign_id", "basket_id", "store_id", "query", "text", "page"),
    *("device", "location", "currency", "coupon_id"),
)
_NUMBERS = ("quantity", "amount", "discount", "coupon_discount", "rating", "dwell_s")


def ingest_with_events(settings: Settings, output: Path, *, ingested_at: datetime) -> Tables:
    """Read the configured source into the folder `output`, without users who were forgotten (`without_forgotten`).

    Then add the events of the home's log (`add_logged_events`).

    Raises:
        SettingsError, SourceError, ContractError: As `recommender.datasets.ingest`.
    """
    made = ingest(settings.source, output, ingested_at=ingested_at, resources=settings.resources)
    made = without_forgotten(made, Home.of(settings), resources=settings.resources)
    return add_logged_events(made, Home.of(settings).events, resources=settings.resources)


def log_identity(folder: Path, identity: str) -> str:
    """The identity of a source together with that of the shipped log. Without a log it is the source's own."""
    names = [path.name for path in segments_of(folder)]
    return digest(identity, names) if names else identity


def add_logged_events(tables: Tables, folder: Path, *, resources: ResourceSettings = DEFAULT_RESOURCES) -> Tables:
    """Write the tables again with the events of the log in `folder`, completely or not at all.

    The manifest gets `events_read`: writer -> number of its last segment that was read, and `LOGGED_BY_DAY`. Without a
    log, nothing changes.

    Raises:
        ContractError: The tables lack a required one; names it.
    """
    segments = segments_of(folder)
    if not segments:
        return tables
    with open_engine(resources, "events") as (connection, _):
        _create_views(connection, tables, segments)
        frames: dict[str, Frame] = {
            name: connection.sql(f"SELECT * FROM {name}") for name in CONTRACT if tables.has(name)
        }
        added, waiting, same = _counts(connection)
        query, decided = with_returns(connection, tables, _with_events(connection, tables))
        frames["events"] = connection.sql(query)
        taken_up = _with_participations(connection, tables)
        if taken_up is not None:
            frames["participations"] = connection.sql(taken_up)
        made = rewrite(
            tables,
            frames,
            decision=f"events: {added} came over HTTP; {waiting} more wait for a user, item or campaign that is not "
            "known"
            + (f"; {same} have an event_id of the source, whose events stay" if same else "")
            + "".join(f". {one}" for one in decided),
            facts={
                "events_read": _read(segments),
                "events_waiting": waiting,
                LOGGED_BY_DAY: {**tables.manifest.get(LOGGED_BY_DAY, {}), **_by_day(connection, tables.time_zone)},
            },
        )
    log.info("events of the log added", events=added, waiting=waiting, segments=len(segments))
    return made


def _read(segments: Sequence[Path]) -> Mapping[str, int]:
    names = [name for path in segments if (name := SegmentName.of(path)) is not None]
    return {name.writer: max(one.number for one in names if one.writer == name.writer) for name in names}


def _create_views(connection: duckdb.DuckDBPyConnection, tables: Tables, segments: Sequence[Path]) -> None:
    for name in CONTRACT:
        if tables.has(name):
            glob = tables.glob(name).replace("'", "''")
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{glob}', hive_partitioning = false)")
    paths = "[" + ", ".join("'" + str(path).replace("'", "''") + "'" for path in segments) + "]"
    columns = {**dict.fromkeys(_TEXTS, "VARCHAR"), **dict.fromkeys(_NUMBERS, "DOUBLE")}
    columns |= {"time_us": "BIGINT", "received_us": "BIGINT"}
    types = ", ".join(f"{name}: '{kind}'" for name, kind in columns.items())
    # A line without an id is a segment's seal, or was cut off by a kill and never acknowledged.
    connection.execute(
        f"CREATE TABLE logged AS SELECT * REPLACE ('{tables.logged_id}' || event_id AS event_id) "
        f"FROM read_json({paths}, format = 'newline_delimited', ignore_errors = true, columns = {{{types}}}) "
        "WHERE event_id IS NOT NULL AND time_us IS NOT NULL "
        "QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY received_us) = 1"
    )
    connection.execute(
        "CREATE TABLE known AS SELECT logged.*, make_timestamptz(time_us) AS event_time FROM logged "
        "WHERE event_id NOT IN (SELECT event_id FROM events) AND user_id IN (SELECT user_id FROM users) "
        "AND (item_id IS NULL OR item_id IN (SELECT item_id FROM items)) "
        "AND (campaign_id IS NULL OR campaign_id IN (SELECT campaign_id FROM campaigns))"
    )


def _counts(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    """How many events of the log are added, wait, and are in the source already."""
    added, new, everything = connection.execute(
        "SELECT (SELECT count(*) FROM known), "
        "(SELECT count(*) FROM logged WHERE event_id NOT IN (SELECT event_id FROM events)), "
        "(SELECT count(*) FROM logged)"
    ).fetchall()[0]
    return int(added), int(new) - int(added), int(everything) - int(new)


def _by_day(connection: duckdb.DuckDBPyConnection, time_zone: str) -> dict[str, int]:
    """Day of the shop -> events of the log that are added to it."""
    rows = connection.execute(
        "SELECT timezone($zone, event_time)::DATE AS day, count(*) FROM known GROUP BY 1 ORDER BY 1",
        {"zone": time_zone},
    ).fetchall()
    return {day.isoformat(): count for day, count in rows}


def _with_events(connection: duckdb.DuckDBPyConnection, tables: Tables) -> str:
    kinds = ", ".join(f"'{kind}'" for kind in EVENT_KINDS)
    own = [name for name in (*_TEXTS, *_NUMBERS, "event_time") if name in CONTRACT["events"].columns]
    # A column that the source lacks is added only where an event has a value for it.
    kept = [name for name in own if tables.has("events", name) or _has_value(connection, name)]
    return f"SELECT * FROM events UNION ALL BY NAME SELECT {', '.join(kept)} FROM known WHERE kind IN ({kinds})"


def _with_participations(connection: duckdb.DuckDBPyConnection, tables: Tables) -> str | None:
    (number,) = connection.execute("SELECT count(*) FROM known WHERE kind = 'participation'").fetchall()[0]
    if not number:
        return None
    columns = ["campaign_id", "user_id", "event_time AS participated_at"]
    if tables.has("participations", "coupon_id") or _has_value(connection, "coupon_id"):
        columns.append("coupon_id")
    new = f"SELECT DISTINCT {', '.join(columns)} FROM known WHERE kind = 'participation'"
    again = " AND ".join(f"again.{name} = new.{name}" for name in ("campaign_id", "user_id", "participated_at"))
    return (
        f"SELECT * FROM participations UNION ALL BY NAME SELECT * FROM ({new}) AS new "
        f"WHERE NOT EXISTS (SELECT 1 FROM participations AS again WHERE {again})"
    )


def _has_value(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    return connection.execute(f"SELECT 1 FROM known WHERE {name} IS NOT NULL LIMIT 1").fetchone() is not None
