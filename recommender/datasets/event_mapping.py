"""Reads the events of a mapping TOML for next-item rankers, by the rules that `run --data` reads them by."""

import warnings
from pathlib import Path

import duckdb

from recommender.datasets.event_columns import ITEM, KIND, TIME, USER, EventColumns
from recommender.datasets.event_rows import TABLE, EventRows, check, identifiers_of, of_kinds
from recommender.datasets.files import open_inputs
from recommender.datasets.mapping import read_mapping
from recommender.datasets.parts import Part, read_part
from recommender.datasets.values import collisions
from recommender.errors import ContractError, SourceError

MAPPED = {USER: "user_id", ITEM: "item_id", TIME: "event_time", KIND: "kind"}
"""Meaning -> canonical column of a mapping's events."""


def read_mapped_events(
    connection: duckdb.DuckDBPyConnection, path: Path, asked: EventColumns, scratch: Path
) -> EventRows:
    """Read the events of a mapping TOML into the table `TABLE`.

    Args:
        connection: Where the table is created. Its time zone must be UTC.
        path: The mapping.
        asked: The kinds that count. The mapping names the columns.
        scratch: A temporary folder that outlives the reading.

    Raises:
        SourceError: A file is missing or unreadable, or the mapping has no events.
        ContractError: A column is missing, a kind is unknown, or a time cannot be read; names the row.
    """
    mapping = read_mapping(path)
    if TABLE not in mapping.tables:
        raise SourceError(f"{path}: no [tables.events], from which a log of events is read")
    if asked.columns:
        raise SourceError(f"{path}: the mapping names the columns; leave out --columns")
    inputs = open_inputs(connection, mapping, path, scratch)
    parts = [
        read_part(
            connection, part, TABLE, number, mapping_file=path, source=mapping.source, inputs=inputs, scratch=scratch
        )
        for number, part in enumerate(mapping.tables[TABLE])
    ]
    means = {part.row_means for part in parts}
    row_means = means.pop() if len(means) == 1 else "record"
    queries = [_query(path, part, asked) for part in parts]
    connection.execute(
        f"CREATE TABLE {TABLE} AS SELECT row_number() OVER () AS n, * FROM ({' UNION ALL '.join(queries)})"
    )
    _warn_of_unreadable(connection, path, parts)
    rows = EventRows(connection, path, dict(MAPPED), row_means, True, False)
    if connection.execute(f"SELECT 1 FROM {TABLE} LIMIT 1").fetchone() is None:
        raise SourceError(f"{path}: no event is left; see `where`, `values` and --kinds")
    _leave_out_nameless(connection, path)
    check(rows, {})
    collisions(connection, identifiers_of(rows), identifiers=mapping.source.identifiers)
    return rows


def _leave_out_nameless(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Leave out searches and visits, which name no item, and guests, who have no history. Say how many."""
    for column in ("item", "user"):
        (number,) = connection.execute(f"SELECT count(*) FROM {TABLE} WHERE {column} IS NULL").fetchone() or (0,)
        if number:
            warnings.warn(f"{path.name}: {number:,} events without {column} are left out", stacklevel=5)
            connection.execute(f"DELETE FROM {TABLE} WHERE {column} IS NULL")


def _query(path: Path, part: Part, asked: EventColumns) -> str:
    """SQL of the events of one part."""
    for canonical in MAPPED.values():
        if canonical not in part.columns:
            problem = f"a part of [tables.events] in {path} has no such column; name it in `columns` or `constants`"
            raise ContractError(TABLE, problem, column=canonical)
    kept = f" WHERE {of_kinds('kind', asked.kinds)}" if asked.kinds else ""
    return (
        "SELECT _file, _row, user_id AS user, item_id AS item, epoch_us(event_time) AS time_us, "
        f"event_time::VARCHAR AS _time_text FROM {part.rows}{kept}"
    )


def _warn_of_unreadable(connection: duckdb.DuckDBPyConnection, path: Path, parts: list[Part]) -> None:
    """Say how many rows cannot be read, with the first reason."""
    for part in parts:
        number, reason = connection.execute(f"SELECT count(*), min(_reason) FROM {part.rejected}").fetchone() or (0, "")
        if number:
            warnings.warn(f"{path.name}: {number:,} rows cannot be read and are left out ({reason})", stacklevel=5)
