"""Reads a log of events into a DuckDB table of users, items and times, by the rules of `recommender.datasets.values`.

The log is a file of any kind, whose columns have the usual names or are named (`EventColumns`). A row without user,
item or time is an error: no part of a history is left out.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from recommender.datasets.event_columns import ITEM, KIND, PLACE, TIME, USER, EventColumns, names
from recommender.datasets.mapping import EARLIEST, LATEST, FileFormat
from recommender.datasets.reading import RawTable, open_file
from recommender.datasets.values import (
    Column,
    Identifier,
    Identifiers,
    Readings,
    Rule,
    Text,
    Time,
    collisions,
    read_columns,
)
from recommender.datasets.values.readings import literal, shown
from recommender.errors import ContractError, SourceError
from recommender.storage.manifest import MANIFEST

TABLE = "events"
"""The DuckDB table that is made: `user`, `item` (text), `time_us`, `place`, `n` (the row's number), `_file`, `_row`."""
LONGEST_NAME = 1000
"""Characters. NumPy gives each name the space of the longest, so one runaway text would fill the memory. By hand."""
LARGEST_PLACE = 2**63
"""Places are kept in 64 bits with a sign."""
EXACT_PLACE = 2**53
"""A float64 holds every whole number below this one exactly."""


@dataclass(frozen=True)
class EventRows:
    """The events of a log, in the table `TABLE` of `connection`.

    Attributes:
        connection: Where the table is.
        path: The log, for errors.
        columns: Meaning -> column, for errors.
        row_means: What `_row` counts.
        has_times: Whether every event has a time.
        has_places: Whether `place` orders a user's events. Else the times and then `n` do.
    """

    connection: duckdb.DuckDBPyConnection
    path: Path
    columns: dict[str, str]
    row_means: str
    has_times: bool
    has_places: bool

    def refuse(self, meaning: str, condition: str, problem: str, *, shows_value: bool = True) -> None:
        """Check that `condition` holds in no row.

        Raises:
            ContractError: It does in one; names the file, the column, the first such row and its value.
        """
        first = self.connection.execute(
            f"SELECT _file, _row, {_KEPT[meaning]}::VARCHAR FROM {TABLE} WHERE {condition} ORDER BY n LIMIT 1"
        ).fetchone()
        if first is not None:
            row = f"{'line' if self.row_means == 'line' else 'row'} {first[1]} of {first[0]}"
            value = f" (got {shown(str(first[2]))})" if shows_value else ""
            raise ContractError(self.path.name, f"{problem}{value}", column=self.columns[meaning], row=row)


_KEPT = {USER: "user", ITEM: "item", TIME: "_time_text", PLACE: "_place_text"}


def log_of(path: Path) -> Path:
    """The log that `path` stands for: the folder of events where it is a folder of tables that `ingest` wrote."""
    inside = path / TABLE
    return inside if inside.is_dir() and (path / MANIFEST).is_file() else path


def read_events(connection: duckdb.DuckDBPyConnection, path: Path, asked: EventColumns, *, scratch: Path) -> EventRows:
    """Read a log into the table `TABLE`. Times that cannot be read beside `pos` are left out with a warning.

    Args:
        connection: Where the table is created. Its time zone must be UTC.
        path: A file of events, a folder of such files, or a folder of tables that `ingest` wrote.
        asked: Which columns and kinds are read.
        scratch: A temporary folder that outlives the reading.

    Raises:
        SourceError: The file is missing or unreadable, lacks a column, or has no rows.
        ContractError: A user, item, place or time is empty or cannot be read; names the row.
    """
    path = log_of(path)
    raw = open_file(connection, path, FileFormat(file=str(path)), name="raw_events", scratch=scratch)
    chosen = asked.choose(raw.columns, path)
    columns = {
        meaning: Column(connection, raw.relation, name, raw.types[name], path.name, name, path.name, nulls=(),
                        row_means=raw.row_means, workbook=path.suffix.lower().startswith(".xls"))
        for meaning, name in chosen.items()
    }  # fmt: skip
    rules: dict[str, Rule] = {meaning: Identifier(columns[meaning]) for meaning in (USER, ITEM)}
    if asked.kinds:
        rules[KIND] = Text(columns[KIND])
    readings, problem = _read_times(path, raw, chosen, columns, rules)
    has_times = TIME in readings.of
    if problem is not None:
        warnings.warn(f"{problem}. `pos` orders the events; their times are not used", stacklevel=3)
    kept = of_kinds(readings.of[KIND].value, asked.kinds) if asked.kinds else "true"
    _create(connection, readings, columns, kept)
    rows = EventRows(connection, path, chosen, raw.row_means, has_times, PLACE in chosen)
    _require_rows(rows, asked, columns[KIND] if asked.kinds else None)
    check(rows, columns)
    if has_times and (outside := readings.of[TIME].found.get("outside")):
        warnings.warn(
            f"{path.name}: {outside} times are not between {EARLIEST} and {LATEST}; they only order events",
            stacklevel=3,
        )
    _warn_of_spellings(rows)
    return rows


def _read_times(
    path: Path, raw: RawTable, chosen: dict[str, str], columns: dict[str, Column], rules: dict[str, Rule]
) -> tuple[Readings, Exception | None]:
    """The readings, without times where they cannot be read beside `pos`, and why."""
    if TIME not in chosen:
        return read_columns(rules), None
    try:
        if chosen[TIME].lower() == "time" and "date" in (name.lower() for name in raw.columns):
            raise SourceError(f"{path}: both 'date' and 'time'; join them in one column 'timestamp'")
        readings = read_columns({**rules, TIME: Time(columns[TIME], zone="UTC", only_orders=True)})
        staged = replace(columns[TIME], relation=readings.relation)
        is_missing = f"({readings.of[TIME].value}) IS NULL"
        if PLACE not in chosen or staged.first(is_missing) is None:
            return readings, None
        raise staged.refuse("is empty or cannot be read", is_missing)
    except (SourceError, ContractError) as error:
        if PLACE not in chosen:
            raise
        return read_columns(rules), error


def _create(
    connection: duckdb.DuckDBPyConnection,
    readings: Readings,
    columns: dict[str, Column],
    kept: str,
) -> None:
    parts = [f"{readings.of[meaning].value} AS {_KEPT[meaning]}" for meaning in (USER, ITEM)]
    if TIME in readings.of:
        parts += [f"epoch_us({readings.of[TIME].value}) AS time_us", f"{columns[TIME].raw}::VARCHAR AS _time_text"]
    if PLACE in columns:
        place = columns[PLACE]
        text = place.text if place.is_text else f"{place.raw}"
        parts += [f"TRY_CAST({text} AS DECIMAL(38, 9)) AS place", f"{place.raw}::VARCHAR AS _place_text"]
    try:
        connection.execute(
            f"CREATE TABLE {TABLE} AS SELECT row_number() OVER () AS n, _file, _row, {', '.join(parts)} "
            f"FROM {readings.relation} WHERE {kept}"
        )
    except duckdb.Error as error:
        raise SourceError(f"{columns[USER].path}: cannot be read ({str(error).splitlines()[0]})") from None


def of_kinds(value: str, kinds: Sequence[str]) -> str:
    """SQL of whether a kind is one of `kinds`, letter case aside."""
    return f"lower({value}) IN ({', '.join(literal(kind.lower()) for kind in kinds)})"


def _require_rows(rows: EventRows, asked: EventColumns, kind: Column | None) -> None:
    """Refuse a log without rows, or without rows of a kind that is asked for."""
    if rows.connection.execute(f"SELECT 1 FROM {TABLE} LIMIT 1").fetchone() is not None:
        return
    if kind is None:
        raise SourceError(f"{rows.path}: the file has no rows; give a file with events")
    found = rows.connection.execute(
        f"SELECT DISTINCT {kind.text} FROM {kind.relation} WHERE {kind.text} IS NOT NULL ORDER BY 1 LIMIT 20"
    ).fetchall()
    raise SourceError(
        f"{rows.path}: no event is of the kinds {', '.join(asked.kinds)}; column {kind.name!r} has "
        f"{names([one for (one,) in found])}"
    )


def check(rows: EventRows, columns: dict[str, Column]) -> None:
    """Refuse rows in which something is missing, or a place orders nothing.

    Raises:
        ContractError: There is one; names the file, the column, the row and its value.
    """
    empty = "is empty; fill it in or leave the row out"
    for meaning in (USER, ITEM):
        rows.refuse(meaning, f"coalesce({_KEPT[meaning]}, '') = ''", empty, shows_value=False)
        too_long = f"is longer than {LONGEST_NAME} characters; use a shorter name"
        rows.refuse(meaning, f"length({_KEPT[meaning]}) > {LONGEST_NAME}", too_long)
    if rows.has_places:
        text, number = "_place_text", "TRY_CAST(_place_text AS DOUBLE)"
        rows.refuse(PLACE, f"trim(coalesce({text}, '')) = ''", empty, shows_value=False)
        rows.refuse(
            PLACE,
            f"{number} IS NULL OR isnan({number})",
            "is not a number; write each event's place in its user's history",
        )
        rows.refuse(PLACE, f"NOT isfinite({number})", "is not finite; write whole numbers")
        largest = EXACT_PLACE if columns[PLACE].is_float else LARGEST_PLACE
        too_large = "is too large to tell one place from the next; count from 0"
        rows.refuse(PLACE, f"abs({number}) >= {largest} OR place IS NULL", too_large)
    elif rows.has_times:
        rows.refuse(TIME, "trim(coalesce(_time_text, '')) = ''", empty, shows_value=False)
        unread = "is no time as the others are; write all times in one way, such as 2026-01-31T18:00:00"
        rows.refuse(TIME, "time_us IS NULL", unread)


def _warn_of_spellings(rows: EventRows) -> None:
    """Warn of two spellings of one name. They may be two names: without a mapping nobody has said."""
    try:
        collisions(rows.connection, identifiers_of(rows))
    except ContractError as error:
        warnings.warn(str(error), stacklevel=4)


def identifiers_of(rows: EventRows) -> list[Identifiers]:
    """The users and items of the table, to be compared."""
    return [
        Identifiers(f"{meaning}s", rows.path.name, _KEPT[meaning], TABLE, rows.row_means) for meaning in (USER, ITEM)
    ]
