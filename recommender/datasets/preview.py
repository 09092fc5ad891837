"""Shows what a mapping makes of a shop's files in seconds, without writing anything."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from recommender.datasets.contract import MAY_BE_EMPTY
from recommender.datasets.files import ReadTables, read_tables
from recommender.datasets.tables import CONTRACT
from recommender.errors import ContractError

FIRST_ROWS = 3
"""Rows of each table that are shown. Chosen by hand: with seven tables they fill a terminal."""
QUARANTINE_SHOWN = 5
"""Rows of each table that cannot be read, with their reasons."""


@dataclass(frozen=True)
class KeyMatch:
    """How many rows of `table` have a value of `column` that the table `other` knows."""

    table: str
    column: str
    other: str
    rows: int
    matched: int
    example: str | None
    """A value without a partner."""

    @property
    def share(self) -> float:
        """Matched rows of all rows with a value."""
        return self.matched / self.rows if self.rows else 1.0


@dataclass(frozen=True)
class TablePreview:
    """One table as it would be written."""

    name: str
    rows: int
    columns: tuple[str, ...]
    first: tuple[dict[str, Any], ...]
    kinds: dict[str, int] = field(default_factory=dict)
    """Word of `kind` -> rows, the commonest first."""
    times: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Column -> earliest and latest time, UTC."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rule of the mapping -> rows that it leaves out."""
    quarantined: int = 0
    reasons: tuple[tuple[str, int, str], ...] = ()
    """File, row and reason of the first rows that cannot be read."""


@dataclass(frozen=True)
class Preview:
    """All tables, how their keys match, and the decisions made on the way."""

    tables: tuple[TablePreview, ...]
    keys: tuple[KeyMatch, ...]
    decisions: tuple[str, ...]


def preview(mapping_file: Path) -> Preview:
    """Read the files of a mapping, and describe the tables that they would become.

    Raises:
        SourceError, ContractError: as ingestion does, where a run would stop.
    """
    with read_tables(mapping_file) as read:
        tables = tuple(_table(read, name) for name in CONTRACT if name in read.present)
        return Preview(tables, tuple(_keys(read)), tuple(read.decisions))


def _table(read: ReadTables, name: str) -> TablePreview:
    columns = read.present[name]
    rows = read.table(name)
    (count,) = rows.aggregate("count(*)").fetchone() or (0,)
    if count == 0 and name not in MAY_BE_EMPTY:
        raise ContractError(name, "the table is empty")
    first = rows.limit(FIRST_ROWS)
    kinds = {}
    if "kind" in columns:
        counted = f"SELECT kind, count(*) FROM {name} WHERE kind IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
        kinds = dict(read.connection.execute(counted).fetchall())
    times = {}
    for column in columns:
        if pa.types.is_timestamp(CONTRACT[name].columns[column].dtype):
            query = f"SELECT min({column}), max({column}) FROM {name}"
            times[column] = read.connection.execute(query).fetchone() or (None, None)
    quarantined, reasons = 0, []
    if name in read.rejected:
        rejected = read.rejected[name]
        (quarantined,) = read.connection.execute(f"SELECT count(*) FROM ({rejected})").fetchone() or (0,)
        reasons = read.connection.execute(
            f"SELECT _file, _row, _reason FROM ({rejected}) ORDER BY _file, _row LIMIT {QUARANTINE_SHOWN}"
        ).fetchall()
    return TablePreview(
        name=name,
        rows=count,
        columns=tuple(columns),
        first=tuple(dict(zip(first.columns, row, strict=True)) for row in first.fetchall()),
        kinds=kinds,
        times=times,
        left_out=read.left_out.get(name, {}),
        quarantined=quarantined,
        reasons=tuple(reasons),
    )


def _keys(read: ReadTables) -> list[KeyMatch]:
    """Matches of every foreign key, and of what a run needs besides: targeted users and promoted items with events."""
    wanted = [
        (name, column, other, CONTRACT[other].key[0])
        for name, table in CONTRACT.items()
        for column, other in table.foreign_keys.items()
    ]
    wanted += [("targets", "user_id", "events", "user_id"), ("campaign_items", "item_id", "events", "item_id")]
    return [
        _match(read, name, column, other, key)
        for name, column, other, key in wanted
        if column in read.present.get(name, ()) and key in read.present.get(other, ())
    ]


def _match(read: ReadTables, name: str, column: str, other: str, key: str) -> KeyMatch:
    known = f"{column} IN (SELECT {key} FROM {other} WHERE {key} IS NOT NULL)"
    rows, matched, example = read.connection.execute(
        f"SELECT count(*), count(*) FILTER ({known}), min({column}) FILTER (NOT {known}) "
        f"FROM {name} WHERE {column} IS NOT NULL"
    ).fetchone() or (0, 0, None)
    return KeyMatch(name, column, other, rows, matched, example)
