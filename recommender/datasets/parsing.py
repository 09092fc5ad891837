"""Parses one of a user's own files into rows of a canonical table, and sets rows aside that cannot be parsed.

A time without a zone is local to the shops. What a day without an hour means depends on the column:

- `event_time`, `participated_at`: the last microsecond of the day, so that no feature sees the row too early.
- `ends_at`: the midnight that ends the day, so that the day belongs to the window.
- all others: the midnight that begins the day.
"""

import csv
import gzip
import itertools
import zlib
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from recommender.datasets.contract import MAY_BE_EMPTY
from recommender.datasets.mapping import TableMapping
from recommender.datasets.tables import CONTRACT
from recommender.errors import ContractError, SourceError, suggestion

MAX_UNREADABLE_SHARE = 0.01
"""Chosen by hand: above one row in a hundred the column's format or dtype is wrong, so reading fails. Below, rows are
bad."""
KNOWN_AT_DAYS_END = ("event_time", "participated_at")
EPOCHS = {"unix_s": 1_000_000, "unix_ms": 1_000, "unix_us": 1}
"""Name of a format -> microseconds in its unit."""
ZONE_PATTERN = r"\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
"""A time of day followed by Z or an offset such as +02:00, +0200 or +02."""
DAY_PATTERN = r"^\d{4}-\d{1,2}-\d{1,2}$"
"""A date without a time of day."""


@dataclass(frozen=True)
class ParsedFile:
    """Names of two DuckDB tables: `rows` have the contract's `columns`, `rejected` could not be parsed."""

    rows: str
    columns: tuple[str, ...]
    rejected: str


def open_file(
    connection: duckdb.DuckDBPyConnection, path: Path, *, delimiter: str | None = None
) -> duckdb.DuckDBPyRelation:
    """Open a CSV or Parquet file with its own columns (text, if it is CSV) after `_row`, which counts from 1.

    Raises:
        SourceError: the file is missing or cannot be read; names it.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file; correct `file` in the mapping")
    quoted = str(path).replace("'", "''")
    if path.suffix in (".parquet", ".pq"):
        reader = f"read_parquet('{quoted}', hive_partitioning = false)"
    else:
        header, delimiter = _header(path, delimiter)
        names = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in header)
        reader = (
            f"read_csv('{quoted}', auto_detect = false, columns = {{{names}}}, header = true, strict_mode = true, "
            f"delim = {_literal(delimiter)}, quote = '\"', escape = '\"')"
        )
    try:
        return connection.sql(f"SELECT row_number() OVER () AS _row, * FROM {reader}")
    except duckdb.Error as error:
        raise SourceError(f"{path}: cannot be read ({_first_line(error)})") from None


def _header(path: Path, delimiter: str | None) -> tuple[list[str], str]:
    """Return a CSV file's column names and delimiter.

    Where none is given, the delimiter is the commonest of comma, semicolon, tab and bar in the header. DuckDB's own
    detection reads a file with one short row as a single column. Given both, it names that row in its error.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig") as file
        ):
            line = file.readline()
            delimiter = delimiter or max(",;\t|", key=line.count)
            names = next(csv.reader(itertools.chain([line], file), delimiter=delimiter), [])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from None
    if not names or not all(names):
        raise SourceError(f"{path}: column {names.index('') + 1 if names else 1} of the header has no name; name it")
    # DuckDB compares column names without regard to case.
    lower = [name.lower() for name in names]
    repeated = next((name for place, name in enumerate(names) if name.lower() in lower[:place]), None)
    if repeated is not None:
        raise SourceError(f"{path}: column {repeated!r} occurs twice in the header; rename one of the two")
    return names, delimiter


def parse_file(
    connection: duckdb.DuckDBPyConnection, path: Path, mapping: TableMapping, table: str, *, time_zone: str, number: int
) -> ParsedFile:
    """Read one file of `table` into DuckDB.

    Args:
        connection: where the tables are created.
        path: the file.
        mapping: how its columns are to be read.
        table: the canonical table that it holds.
        time_zone: IANA zone of times without one.
        number: which of the table's files this is; part of the names of the tables created.

    Raises:
        SourceError: the file is missing or corrupt; names it.
        ContractError: a mapped column is not in the file, or its values cannot be read; names file, column and first
            row.
    """
    raw = open_file(connection, path, delimiter=mapping.delimiter)
    types = dict(zip(raw.columns, map(str, raw.types), strict=True))
    chosen = _choose_columns(path, mapping, table, raw.columns)
    parsed, reasons = [], []
    for column, source in chosen.items():
        text = _text_sql(mapping, column, source)
        value = _value_sql(mapping, table, column, source, text, types, time_zone)
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
    _check_unreadable_share(connection, f"{name}_all", path, table)
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {name}_all WHERE _reason = ''")
    connection.execute(
        f"CREATE VIEW {rejected} AS SELECT a._reason, {_literal(path.name)} AS _file, r.* FROM {name}_raw r "
        f"JOIN {name}_all a USING (_row) WHERE a._reason <> ''"
    )
    return ParsedFile(name, tuple(chosen), rejected)


def _choose_columns(path: Path, mapping: TableMapping, table: str, found: list[str]) -> dict[str, str | None]:
    """Map canonical columns to columns of the file, or to None for a constant."""
    chosen: dict[str, str | None] = {}
    for column in CONTRACT[table].columns:
        source = mapping.columns.get(column)
        if source is not None and source not in found:
            hint = suggestion(source, [name for name in found if name != "_row"])
            raise ContractError(table, f"{path} has no column {source!r}; {hint}", column=column)
        if source is not None or column in found:
            chosen[column] = source or column
        elif column in mapping.constants:
            chosen[column] = None
    return chosen


def _text_sql(mapping: TableMapping, column: str, source: str | None) -> str:
    """Return SQL for the value as text, null where it is empty."""
    if source is None:
        return _literal(str(mapping.constants[column]))
    text = f"nullif(trim({_quoted(source)}::VARCHAR), '')"
    words = mapping.values.get(column)
    if words:
        cases = " ".join(f"WHEN {_literal(theirs)} THEN {_literal(ours)}" for theirs, ours in words.items())
        text = f"CASE {text} {cases} ELSE {text} END"
    return text


def _value_sql(
    mapping: TableMapping, table: str, column: str, source: str | None, text: str, types: dict[str, str], time_zone: str
) -> str:
    """Return SQL for the value in the contract's dtype, null where `text` cannot be read as one."""
    dtype = CONTRACT[table].columns[column].dtype
    if pa.types.is_string(dtype):
        return text
    if pa.types.is_floating(dtype):
        number = text if mapping.decimal in (None, ".") else f"replace({text}, {_literal(mapping.decimal)}, '.')"
        return f"TRY_CAST({number} AS DOUBLE)"
    zone = _literal(time_zone)
    time_format = mapping.formats.get(column)
    if time_format:
        return _formatted_time_sql(column, text, time_format, zone)
    source_type = types.get(source, "VARCHAR") if source is not None else "VARCHAR"
    if source_type == "TIMESTAMP WITH TIME ZONE":
        return _quoted(source or "")
    if source_type.startswith("TIMESTAMP"):
        return f"timezone({zone}, {_quoted(source or '')}::TIMESTAMP)"
    local = f"TRY_CAST({text} AS TIMESTAMP)"
    return (
        f"CASE WHEN regexp_matches({text}, '{ZONE_PATTERN}') THEN TRY_CAST({text} AS TIMESTAMPTZ) "
        f"WHEN regexp_matches({text}, '{DAY_PATTERN}') THEN {_day_sql(column, local, zone)} "
        f"ELSE timezone({zone}, {local}) END"
    )


def _formatted_time_sql(column: str, text: str, time_format: str, zone: str) -> str:
    """Return SQL for a time that is written in a format of the mapping."""
    if time_format in EPOCHS:
        return f"make_timestamptz(TRY_CAST({text} AS BIGINT) * {EPOCHS[time_format]})"
    local = f"try_strptime({text}, {_literal(time_format)})"
    if "%z" in time_format or "%Z" in time_format:
        return f"TRY_CAST({local} AS TIMESTAMPTZ)"
    # Letters of strptime codes that hold a time of day: %H, %I (hours), %c, %f, %s; a format without them is a day.
    if not set("HIcfs") & set(time_format):
        return _day_sql(column, f"{local}::TIMESTAMP", zone)
    return f"timezone({zone}, {local})"


def _day_sql(column: str, day: str, zone: str) -> str:
    """Return SQL for a day without an hour as a time."""
    if column == "ends_at":
        return f"timezone({zone}, {day} + INTERVAL 1 DAY)"
    if column in KNOWN_AT_DAYS_END:
        return f"timezone({zone}, {day} + INTERVAL 1 DAY) - INTERVAL 1 MICROSECOND"
    return f"timezone({zone}, {day})"


def _check_unreadable_share(connection: duckdb.DuckDBPyConnection, rows: str, path: Path, table: str) -> None:
    """Raise if the file has no rows, or too many that cannot be read."""
    query = f"SELECT count(*), count(*) FILTER (_reason <> '') FROM {rows}"
    num_rows, num_unreadable = connection.execute(query).fetchone() or (0, 0)
    if num_rows == 0 and table not in MAY_BE_EMPTY:
        raise ContractError(table, f"{path} has no rows")
    if num_unreadable > MAX_UNREADABLE_SHARE * num_rows:
        row, reason = connection.execute(
            f"SELECT _row, _reason FROM {rows} WHERE _reason <> '' ORDER BY _row"
        ).fetchone() or (0, "")
        column, _, problem = str(reason).partition(": ")
        wanted = CONTRACT[table].columns[column].dtype
        problem = (
            f"{problem} as {wanted}; {num_unreadable:,} of {num_rows:,} rows of {path} cannot be read. "
            "Set `formats`, `decimal` or `values` in the mapping"
        )
        raise ContractError(table, problem, column=column, row=f"row {row} of {path.name}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
