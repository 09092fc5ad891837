"""One of a user's own files, read as rows of a canonical table: text becomes text, numbers and times, and what cannot is kept apart.

A time without a zone is local to the shops. A day without an hour in `event_time` or `participated_at` counts as the day's last
microsecond, so that nothing is known before it could be; in `ends_at` it includes that day; elsewhere it is the midnight that begins it.
"""

import csv
import gzip
import itertools
import zlib
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from recommender.datasets.contract import MAY_BE_EMPTY, renamed
from recommender.datasets.mapping import FileMapping
from recommender.datasets.tables import CONTRACT
from recommender.errors import ContractError, SourceError

MAX_UNREADABLE_SHARE = 0.01
"""Where more of a column's values cannot be read, its format or dtype is wrong: an error, not bad rows."""
KNOWN_AT_DAYS_END = ("event_time", "participated_at")
EPOCHS = {"unix_s": 1_000_000, "unix_ms": 1_000, "unix_us": 1}
ZONE_PATTERN = r"\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
DAY_PATTERN = r"^\d{4}-\d{1,2}-\d{1,2}$"


@dataclass(frozen=True)
class ParsedFile:
    """Names of two DuckDB tables: rows with the contract's columns, and rows that could not be read."""

    rows: str
    columns: tuple[str, ...]
    rejected: str


def open_file(
    connection: duckdb.DuckDBPyConnection, path: Path, *, delimiter: str | None = None
) -> duckdb.DuckDBPyRelation:
    """The file's own columns (text, if it is CSV) behind `_row`, which counts from 1.

    Raises:
        SourceError: the file is missing or cannot be read; names it.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    quoted = str(path).replace("'", "''")
    if path.suffix in (".parquet", ".pq"):
        reader = f"read_parquet('{quoted}', hive_partitioning = false)"
    else:
        header, found = _header(path, delimiter)
        names = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in header)
        reader = (
            f"read_csv('{quoted}', auto_detect = false, columns = {{{names}}}, header = true, strict_mode = true, "
            f"delim = {_literal(found)}, quote = '\"', escape = '\"')"
        )
    try:
        return connection.sql(f"SELECT row_number() OVER () AS _row, * FROM {reader}")
    except duckdb.Error as error:
        raise SourceError(f"{path}: cannot be read ({_first_line(error)})") from None


def _header(path: Path, delimiter: str | None) -> tuple[list[str], str]:
    """A CSV file's column names and its delimiter: the given one, or the commonest of comma, semicolon, tab and bar in the header.

    DuckDB's own guess turns a file with one short row into a single column; with these two given it names that row.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig") as file
        ):
            line = file.readline()
            found = delimiter or max(",;\t|", key=line.count)
            names = next(csv.reader(itertools.chain([line], file), delimiter=found), [])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from None
    if not names or not all(names):
        raise SourceError(f"{path}: its first line has an empty column name; it must be a header")
    if len({name.lower() for name in names}) < len(names):
        raise SourceError(f"{path}: two columns of its header have the same name")
    return names, found


def parse_file(
    connection: duckdb.DuckDBPyConnection, path: Path, mapping: FileMapping, table: str, *, time_zone: str, number: int
) -> ParsedFile:
    """Read one file of `table` into DuckDB.

    Raises:
        SourceError: the file is missing or corrupt; names it.
        ContractError: a mapped column is not in the file, or its values cannot be read; names file, column and first row.
    """
    raw = open_file(connection, path, delimiter=mapping.delimiter)
    types = dict(zip(raw.columns, map(str, raw.types), strict=True))
    chosen = _columns(path, mapping, table, raw.columns)
    parsed, reasons = [], []
    for column, source in chosen.items():
        text = _text(mapping, column, source)
        value = _value(mapping, table, column, source, text, types, time_zone)
        parsed.append(f"{value} AS {column}")
        if not pa.types.is_string(CONTRACT[table].columns[column].dtype):
            reasons.append(
                f"CASE WHEN {text} IS NOT NULL AND {value} IS NULL THEN '{column}: cannot read ' || {text} END"
            )
    name, rejected = f"{table}_{number}", f"{table}_{number}_rejected"
    bad = f"concat_ws('; ', {', '.join(reasons)})" if reasons else "''"
    try:
        raw.create_view(f"{name}_raw")
        connection.execute(
            f"CREATE TABLE {name}_all AS SELECT _row, {', '.join(parsed)}, {bad} AS _reason FROM {name}_raw"
        )
    except duckdb.Error as error:
        raise SourceError(f"{path}: cannot be read ({_first_line(error)})") from None
    _refuse_wrong_columns(connection, f"{name}_all", path, table, list(chosen))
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {name}_all WHERE _reason = ''")
    connection.execute(
        f"CREATE VIEW {rejected} AS SELECT a._reason, {_literal(path.name)} AS _file, r.* FROM {name}_raw r "
        f"JOIN {name}_all a USING (_row) WHERE a._reason <> ''"
    )
    return ParsedFile(name, tuple(chosen), rejected)


def _columns(path: Path, mapping: FileMapping, table: str, found: list[str]) -> dict[str, str | None]:
    """Canonical column -> column of the file; None: a constant."""
    chosen: dict[str, str | None] = {}
    for column in CONTRACT[table].columns:
        source = mapping.columns.get(column)
        if source is not None and source not in found:
            problem = f"{path} has no column {source}{renamed(source, [name for name in found if name != '_row'])}"
            raise ContractError(table, problem, column=column)
        if source is not None or column in found:
            chosen[column] = source or column
        elif column in mapping.constants:
            chosen[column] = None
    return chosen


def _text(mapping: FileMapping, column: str, source: str | None) -> str:
    """SQL of the value as text; an empty one is missing."""
    if source is None:
        return _literal(str(mapping.constants[column]))
    text = f"nullif(trim({_quoted(source)}::VARCHAR), '')"
    words = mapping.values.get(column)
    if words:
        cases = " ".join(f"WHEN {_literal(theirs)} THEN {_literal(ours)}" for theirs, ours in words.items())
        text = f"CASE {text} {cases} ELSE {text} END"
    return text


def _value(
    mapping: FileMapping, table: str, column: str, source: str | None, text: str, types: dict[str, str], time_zone: str
) -> str:
    dtype = CONTRACT[table].columns[column].dtype
    if pa.types.is_string(dtype):
        return text
    if pa.types.is_floating(dtype):
        return f"TRY_CAST({text if mapping.decimal == '.' else f'replace({text}, {_literal(mapping.decimal)}, {_literal(chr(46))})'} AS DOUBLE)"
    zone = _literal(time_zone)
    known = mapping.formats.get(column)
    if known in EPOCHS:
        return f"make_timestamptz(TRY_CAST({text} AS BIGINT) * {EPOCHS[known]})"
    if known:
        local = f"try_strptime({text}, {_literal(known)})"
        if "%z" in known or "%Z" in known:
            return f"TRY_CAST({local} AS TIMESTAMPTZ)"
        return (
            _day(column, f"{local}::TIMESTAMP", zone) if not set("HIcfs") & set(known) else f"timezone({zone}, {local})"
        )
    kind = types.get(source, "VARCHAR") if source is not None else "VARCHAR"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return _quoted(source or "")
    if kind.startswith("TIMESTAMP"):
        return f"timezone({zone}, {_quoted(source or '')}::TIMESTAMP)"
    local = f"TRY_CAST({text} AS TIMESTAMP)"
    return (
        f"CASE WHEN regexp_matches({text}, '{ZONE_PATTERN}') THEN TRY_CAST({text} AS TIMESTAMPTZ) "
        f"WHEN regexp_matches({text}, '{DAY_PATTERN}') THEN {_day(column, local, zone)} ELSE timezone({zone}, {local}) END"
    )


def _day(column: str, day: str, zone: str) -> str:
    """SQL of a day without an hour as a moment."""
    if column == "ends_at":
        return f"timezone({zone}, {day} + INTERVAL 1 DAY)"
    if column in KNOWN_AT_DAYS_END:
        return f"timezone({zone}, {day} + INTERVAL 1 DAY) - INTERVAL 1 MICROSECOND"
    return f"timezone({zone}, {day})"


def _refuse_wrong_columns(
    connection: duckdb.DuckDBPyConnection, rows: str, path: Path, table: str, columns: list[str]
) -> None:
    counted = connection.execute(f"SELECT count(*), count(*) FILTER (_reason <> '') FROM {rows}").fetchone() or (0, 0)
    if counted[0] == 0 and table not in MAY_BE_EMPTY:
        raise ContractError(table, f"{path} has no rows")
    if counted[1] > MAX_UNREADABLE_SHARE * counted[0]:
        row, reason = connection.execute(
            f"SELECT _row, _reason FROM {rows} WHERE _reason <> '' ORDER BY _row"
        ).fetchone() or (0, "")
        column, _, problem = str(reason).partition(": ")
        wanted = CONTRACT[table].columns[column].dtype
        problem = f"{problem} as {wanted}; {counted[1]:,} of {counted[0]:,} rows of {path} are unreadable, see `formats` in the mapping"
        raise ContractError(table, problem, column=column, row=f"row {row} of {path.name}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
