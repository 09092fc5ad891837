"""Row-level rules: set rows that break the contract aside with number and reason, and keep the others.

Everything stays in DuckDB: a log of any length is never held in Arrow or pandas.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recommender.datasets.contract import numbered_rows, row_problems
from recommender.datasets.support import supported_days
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.time_units import utc_day_sql
from recommender.storage.manifest import link_or_copy

PARENTS_FIRST = ("users", "items", "campaigns", "campaign_items", "targets", "events", "participations")
PARTICULARS = (
    r"(has no length or ends before it starts:|has no|unknown value|\(0, 1\], not|later than|earlier than) [^;]*"
)
"""The part of a reason that differs between rows of one kind: a value or an identifier."""
KINDS_SHOWN, EXAMPLES_SHOWN = 50, 50
"""Kinds of reason that are counted, and rows of a table that are shown. Chosen by hand: more is no longer read."""
NOT_AFTER_INGESTION = {"events": "event_time", "participations": "participated_at"}
"""Times of what has happened: none can be later than the moment at which the source was read."""


@dataclass(frozen=True, eq=False)
class Aside:
    """The rows of one table that were set aside. The table `bad_<name>` of the connection lists all of them."""

    rows: int = 0
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Their places in the table, from 0, sorted."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Kind of reason, without the particulars of a row -> number of rows. The commonest first."""
    examples: tuple[dict[str, Any], ...] = ()
    """The first rows, some of each kind: the row's own values, `_row` and `_reason`."""
    hint: str = ""
    """What the rows set aside look like together. Empty where they show nothing in common."""
    orphans: dict[str, int] = field(default_factory=dict)
    """Foreign key -> number of rows whose value has no partner."""


def set_aside(connection: duckdb.DuckDBPyConnection, tables: Tables) -> dict[str, Aside]:
    """Narrow each view of `connection` (`contract.open_views`) to its sound rows, and return the others by table.

    Besides the contract's rules, rows of events and participations are set aside that are later than the moment of
    ingestion (`ingested_at` of the manifest), and events outside the days that the log supports
    (`recommender.datasets.support`). Parents are cleaned first, so that a row that refers to a row set aside is set
    aside too. Duplicate keys stay, because it is unknown which of them is right. The expectations find them and stop
    the run.
    """
    aside: dict[str, Aside] = {}
    for name in PARENTS_FIRST:
        if not tables.has(name):
            continue
        problems = row_problems(connection, tables, name, repeats=False).sql_query()
        rules = " UNION ALL ".join([f"SELECT * FROM ({problems})", *_time_rules(connection, tables, name)])
        connection.execute(
            f"CREATE TABLE bad_{name} AS SELECT _row, string_agg(_column, ', ' ORDER BY _column) AS _column, "
            f"string_agg(_column || ': ' || _reason, '; ' ORDER BY _column) AS _reason FROM ({rules}) GROUP BY _row"
        )
        aside[name] = _summary(connection, tables, name)
        if aside[name].rows:
            connection.execute(f"CREATE VIEW all_{name} AS {numbered_rows(connection, tables, name)}")
            connection.execute(
                f"CREATE OR REPLACE VIEW {name} AS SELECT t.* FROM all_{name} t ANTI JOIN bad_{name} USING (_row)"
            )
    return aside


def _time_rules(connection: duckdb.DuckDBPyConnection, tables: Tables, name: str) -> Iterator[str]:
    """Queries of the rows whose time cannot be, as `contract.row_problems` lists problems."""

    def rule(column: str, condition: str, reason: str) -> str:
        return f"SELECT _row, '{column}', '{reason}, is ' || {column} FROM {name} WHERE {condition}"

    column = NOT_AFTER_INGESTION.get(name)
    ingested = tables.manifest.get("ingested_at")
    if column is not None and ingested is not None:
        moment = datetime.fromisoformat(ingested).astimezone(UTC)
        yield rule(
            column,
            f"{column} > TIMESTAMPTZ '{moment.isoformat()}'",
            f"later than {moment:%Y-%m-%d %H:%M} UTC, when the source was read",
        )
    if name != "events":
        return
    day = utc_day_sql("event_time")
    counts = connection.sql(f"SELECT {day}, count(*) FROM events WHERE event_time IS NOT NULL GROUP BY 1")
    supported = supported_days(dict(counts.fetchall()))
    if supported is not None:
        first, last = (datetime.combine(day, time(), tzinfo=UTC) for day in supported)
        after = last + timedelta(days=1)
        words = f"later than {last:%Y-%m-%d}, the last day that more than a handful of events support"
        beyond = f"event_time >= TIMESTAMPTZ '{after.isoformat()}'"
        if column is not None and ingested is not None:
            beyond += f" AND event_time <= TIMESTAMPTZ '{moment.isoformat()}'"
        yield rule("event_time", beyond, words)
        words = f"earlier than {first:%Y-%m-%d}, long before all other events"
        yield rule("event_time", f"event_time < TIMESTAMPTZ '{first.isoformat()}'", words)


def _summary(connection: duckdb.DuckDBPyConnection, tables: Tables, name: str) -> Aside:
    listed = connection.sql(f"SELECT _row FROM bad_{name} ORDER BY 1").fetchnumpy()["_row"]
    numbers = np.asarray(listed, dtype=np.int64)
    if not len(numbers):
        return Aside()
    kind = f"regexp_replace(_reason, '{PARTICULARS}', '\\1 …', 'g')"
    reasons = connection.sql(
        f"SELECT {kind} AS kind, count(*) FROM bad_{name} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {KINDS_SHOWN}"
    ).fetchall()
    examples = connection.sql(
        f"SELECT t.*, b._reason FROM {name} t JOIN (SELECT *, row_number() OVER (PARTITION BY {kind} ORDER BY _row) AS "
        f"place FROM bad_{name}) b USING (_row) WHERE place <= 10 ORDER BY place, _row LIMIT {EXAMPLES_SHOWN}"
    )
    rows = [dict(zip(examples.columns, row, strict=True)) for row in examples.fetchall()]
    orphans = {
        column: connection.execute(
            f"SELECT count(*) FROM bad_{name} WHERE contains(_reason, ?)", [f"{column}: {parent} has no"]
        ).fetchall()[0][0]
        for column, parent in CONTRACT[name].foreign_keys.items()
        if tables.has(name, column)
    }
    hint = _swap_hint(connection, name) if name == "events" else ""
    return Aside(len(numbers), numbers, dict(reasons), tuple(rows), hint, orphans)


def _swap_hint(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """Late rows on many days that all have a number of 12 or less: their day was a month."""
    (days, early) = connection.sql(
        f"SELECT count(DISTINCT event_time::DATE), coalesce(bool_and(day(event_time) <= 12), false) FROM {name} "
        f"JOIN bad_{name} USING (_row) WHERE contains(_reason, 'later than')"
    ).fetchall()[0]
    # Eight days, by hand: that all of them are 12 or less by chance has a probability of one in two thousand.
    return "all of them on days 1 to 12 of a month: day and month swapped?" if early and days >= 8 else ""


def write_clean(
    connection: duckdb.DuckDBPyConnection, tables: Tables, aside: dict[str, Aside], folder: Path
) -> dict[str, int]:
    """Write the sound rows of every table below `folder`, the others to `quarantine/`, and return the counts kept.

    Files without a bad row are linked and not rewritten, so that unchanged tables keep their bytes and their data hash.
    """
    for name in tables.manifest["files"]:  # no other file says anything about the content
        if PurePosixPath(name).parts[0] not in CONTRACT:
            _link(tables.folder / name, folder / name)
    kept: dict[str, int] = {}
    for name in CONTRACT:
        rejected = aside[name].numbers if name in aside else np.zeros(0, np.int64)
        offset = kept[name] = 0
        for source in sorted((tables.folder / name).rglob("*.parquet")):
            count = pq.read_metadata(source).num_rows
            first, end = np.searchsorted(rejected, [offset, offset + count])
            target = folder / source.relative_to(tables.folder)
            if end > first:
                _without(source, target, rejected[first:end] - offset)
            else:
                _link(source, target)
            kept[name] += count - int(end - first)
            offset += count
    for name, one in aside.items():
        if one.rows:
            _quarantine(connection, name, folder / "quarantine" / f"{name}.parquet")
    return kept


def _without(source: Path, target: Path, numbers: NDArray[np.int64]) -> None:
    """Copy a Parquet file without some of its rows, one row group at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetFile(source) as parquet:
        writer = pq.ParquetWriter(target, parquet.schema_arrow, compression="zstd", write_page_checksum=True)
        with writer:
            offset = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group)
                sound = np.ones(rows.num_rows, dtype=bool)
                inside = numbers[(numbers >= offset) & (numbers < offset + rows.num_rows)]
                sound[inside - offset] = False
                writer.write_table(rows.filter(pa.array(sound)))
                offset += rows.num_rows


def _quarantine(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    """Add the rows set aside to what ingestion set aside already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = "t.*, b._reason"
    query = f"SELECT {columns} FROM all_{name} t JOIN bad_{name} b USING (_row)"
    if path.exists():
        # The file is a link to the source's, which stays as it is.
        earlier = path.rename(path.with_suffix(".earlier"))
        literal = str(earlier).replace("'", "''")
        query = f"SELECT * FROM read_parquet('{literal}') UNION ALL BY NAME SELECT * FROM ({query} ORDER BY _row)"
    else:
        earlier, query = None, f"{query} ORDER BY _row"
    literal = str(path).replace("'", "''")
    connection.execute(f"COPY ({query}) TO '{literal}' (FORMAT parquet, COMPRESSION zstd)")
    if earlier is not None:
        earlier.unlink()


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    link_or_copy(source, target)
