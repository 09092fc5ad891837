"""Leaves the rows of forgotten users out of tables, features and other files of rows."""

import shutil
from collections.abc import Container, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recommender import logs
from recommender.datasets.engine import open_engine
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.write import Frame
from recommender.event_tables.rewriting import rewrite
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings
from recommender.storage.forgotten import Forgotten
from recommender.storage.home import Home

log = logs.get(__name__)
USER, REASON = "user_id", "_reason"
"""The column of users, and one that only rows that were set aside have."""
ROWS_AT_ONCE = 5_000
"""Rows that are filtered at once. By hand: 100 MB of the largest rows seen, 20 KB each."""


def without_forgotten(tables: Tables, home: Home, *, resources: ResourceSettings = DEFAULT_RESOURCES) -> Tables:
    """Write the tables again without the rows of users who were forgotten, completely or not at all.

    The manifest gets `forgotten`: the number of these users that the source still has, table -> rows left out, and when
    the last of them was forgotten.
    Where it has none of them nothing changes.

    Raises:
        CorruptFileError: It is not known who was forgotten.
    """
    forgotten = Forgotten.of(home)
    if not forgotten.since:
        return tables
    with open_engine(resources, "forgotten") as (connection, _):
        with_users = [name for name in CONTRACT if tables.has(name) and tables.has(name, USER)]
        users = _found(connection, tables, with_users, forgotten)
        aside = sum(count_rows(path, forgotten) for path in tables.folder.glob("quarantine/*.parquet"))
        if not users and not aside:
            return tables
        connection.execute("CREATE TABLE gone (user_id VARCHAR)")
        if users:
            connection.executemany("INSERT INTO gone VALUES (?)", [[user] for user in users])
        frames: dict[str, Frame] = {}
        left_out: dict[str, int] = {}
        for name in (name for name in CONTRACT if tables.has(name)):
            rows = f"SELECT * FROM {_rows(tables, name)}"
            if name in with_users:
                counted = f"SELECT count(*) FROM {_rows(tables, name)} SEMI JOIN gone USING ({USER})"
                ((left_out[name],),) = connection.execute(counted).fetchall()
                # Not an anti join: rows without a user stay, for the checks to find.
                rows += f" WHERE {USER} IS NULL OR {USER} NOT IN (SELECT {USER} FROM gone)"
            frames[name] = connection.sql(rows)
        if aside:
            left_out["quarantine"] = aside
        num_rows = sum(left_out.values())
        newest = max((moment for user in users if (moment := forgotten.moment_of(user))), default=None)
        made = rewrite(
            tables,
            frames,
            decision=f"forgotten: {num_rows} rows of {len(users)} users who were forgotten are left out",
            facts={"forgotten": {"users": len(users), "rows": left_out, "newest": newest}},
            kept=lambda rows: rows_without(rows, forgotten),
        )
    log.info("rows of forgotten users left out", users=len(users), rows=num_rows)
    return made


def _rows(tables: Tables, name: str) -> str:
    glob = tables.glob(name).replace("'", "''")
    return f"read_parquet('{glob}', hive_partitioning = false)"


def _found(connection: duckdb.DuckDBPyConnection, tables: Tables, names: list[str], forgotten: Forgotten) -> list[str]:
    """The forgotten users of these tables."""
    users: set[str] = set()
    for name in names:
        result = connection.execute(f"SELECT DISTINCT {USER} FROM {_rows(tables, name)} WHERE {USER} IS NOT NULL")
        while rows := result.fetchmany(100_000):
            users.update(forgotten.among(user for (user,) in rows))
    return sorted(users)


def _of_users(
    rows: pa.Table, users: Container[str], names: Sequence[str] = (USER,), seen: set[str] | None = None
) -> pa.Array:
    """For each row whether one of these columns holds the id of one of `users`. Those found are added to `seen`."""
    found = pa.array([False] * rows.num_rows, pa.bool_())
    for name in names:
        column = rows[name].combine_chunks()
        if pa.types.is_dictionary(column.type):  # as the last build keeps purchases
            column = column.cast(column.type.value_type)
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        # A source of Parquet or a database may have numbers as ids, which only tables have as text.
        if is_text or pa.types.is_integer(column.type):
            theirs = [value for value in pc.unique(column).to_pylist() if value is not None and str(value) in users]
            if theirs:
                (set() if seen is None else seen).update(map(str, theirs))
                found = pc.or_(found, pc.fill_null(pc.is_in(column, pa.array(theirs, column.type)), False))
    return found


def _columns(rows: pa.Table) -> Sequence[str]:
    """Where a user may stand. Rows that were set aside have the columns of their source, so it may be any of them."""
    if REASON in rows.column_names:
        return [name for name in rows.column_names if not name.startswith("_")]  # not _file, _row, _reason
    return [USER] if USER in rows.column_names else []


def rows_without(rows: pa.Table, users: Container[str]) -> pa.Table:
    """The rows that are not about `users`."""
    return rows.filter(pc.invert(_of_users(rows, users, _columns(rows))))


def count_rows(path: Path, users: Container[str], seen: set[str] | None = None) -> int:
    """Rows of a Parquet file that are about `users`. 0 where it has no column of users.

    Those of `users` that it has are added to `seen`.
    """
    names = _columns(pq.read_schema(path).empty_table())
    if not names:
        return 0
    batches = pq.ParquetFile(path, pre_buffer=False).iter_batches(ROWS_AT_ONCE * 10, columns=names)
    rows = (pa.Table.from_batches([batch]) for batch in batches)
    return sum(int(pc.sum(_of_users(one, users, names, seen)).as_py() or 0) for one in rows)


def copy_without(source: Path, target: Path, users: Container[str]) -> None:
    """Copy a Parquet file without the rows of `users`. One without a column of users is copied as it is."""
    file = pq.ParquetFile(source, pre_buffer=False)
    if not _columns(file.schema_arrow.empty_table()):
        shutil.copyfile(source, target)
        return
    codec = file.metadata.row_group(0).column(0).compression.lower() if file.num_row_groups else "zstd"
    compression = "none" if codec == "uncompressed" else codec
    with pq.ParquetWriter(target, file.schema_arrow, compression=compression, write_page_checksum=True) as writer:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            kept = rows_without(pa.Table.from_batches([batch]), users)
            if kept.num_rows:
                writer.write_table(kept)
