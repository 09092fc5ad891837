"""Opens a user's own files and reads their texts as canonical values, in DuckDB's SQL.

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

from recommender.datasets.mapping import IGNORE, FileFormat, TableMapping
from recommender.datasets.tables import CONTRACT
from recommender.errors import SourceError

KNOWN_AT_DAYS_END = ("event_time", "participated_at")
EPOCHS = {"unix_s": 1_000_000, "unix_ms": 1_000, "unix_us": 1}
"""Name of a format -> microseconds in its unit."""
ZONE_PATTERN = r"\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
"""A time of day followed by Z or an offset such as +02:00, +0200 or +02."""
DAY_PATTERN = r"^\d{4}-\d{1,2}-\d{1,2}$"
"""A date without a time of day."""


@dataclass(frozen=True)
class RawTable:
    """A file's rows as they stand in it: a DuckDB view with `_file`, `_row` and the file's own `columns`."""

    relation: str
    columns: tuple[str, ...]
    types: dict[str, str]
    path: str


@dataclass(frozen=True)
class Reading:
    """What a column becomes, as SQL: its value, a sentence where it cannot be read, and whether the row is ignored."""

    value: str
    problem: str = "NULL::VARCHAR"
    ignored: str = "false"


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


def open_raw(connection: duckdb.DuckDBPyConnection, path: str, form: FileFormat, *, name: str) -> RawTable:
    """Open a file as the view `name`."""
    rows = open_file(connection, Path(path), delimiter=form.delimiter)
    columns = tuple(column for column in rows.columns if column != "_row")
    types = dict(zip(rows.columns, map(str, rows.types), strict=True))
    rows.create_view(f"{name}_opened")
    connection.execute(f"CREATE VIEW {name} AS SELECT {_literal(Path(path).name)} AS _file, * FROM {name}_opened")
    return RawTable(name, columns, {column: types[column] for column in columns}, path)


def reading_of(part: TableMapping, table: str, column: str, own: str, own_type: str, time_zone: str) -> Reading:
    """How the column `own` of a part is read as `column` of `table`."""
    cleaned = f"trim({_quoted(own)}::VARCHAR)"
    nulls = ", ".join(_literal(word) for word in sorted({"", *(word.lower() for word in part.nulls)}))
    text = f"CASE WHEN lower({cleaned}) IN ({nulls}) THEN NULL ELSE {cleaned} END"
    words = part.values.get(column, {})
    if words:
        cases = " ".join(f"WHEN {_literal(theirs)} THEN {_literal(ours)}" for theirs, ours in words.items())
        text = f"CASE {cleaned} {cases} ELSE {text} END"
    left_out = ", ".join(_literal(theirs) for theirs, ours in words.items() if ours == IGNORE)
    ignored = f"coalesce({cleaned} IN ({left_out}), false)" if left_out else "false"
    value = _value_sql(part, table, column, text, own_type, own, time_zone)
    problem = "NULL::VARCHAR"
    if not pa.types.is_string(_dtype(table, column)):
        problem = f"CASE WHEN {text} IS NOT NULL AND {value} IS NULL THEN '{column}: cannot read ' || {text} END"
    return Reading(value, problem, ignored)


def _dtype(table: str, column: str) -> pa.DataType:
    """The contract's dtype, also of a participation's columns in a file of targets with labels."""
    columns = CONTRACT[table].columns
    return (columns if column in columns else CONTRACT["participations"].columns)[column].dtype


def _value_sql(part: TableMapping, table: str, column: str, text: str, own_type: str, own: str, time_zone: str) -> str:
    """SQL for the value in the contract's dtype, null where `text` cannot be read as one."""
    dtype = _dtype(table, column)
    if pa.types.is_string(dtype):
        return text
    if pa.types.is_floating(dtype):
        number = f"replace({text}, {_literal(part.thousands)}, '')" if part.thousands else text
        number = f"replace({number}, ',', '.')" if part.decimal == "," else number
        return f"TRY_CAST({number} AS DOUBLE)"
    zone = _literal(time_zone)
    time_format = part.formats.get(column)
    if time_format == "day":
        day = f"DATE '{part.first_day}' + TRY_CAST({text} AS INTEGER) - 1"
        return _day_sql(column, f"({day})::TIMESTAMP", zone)
    if time_format:
        return _formatted_time_sql(column, text, time_format, zone)
    if own_type == "TIMESTAMP WITH TIME ZONE":
        return _quoted(own)
    if own_type.startswith("TIMESTAMP"):
        return f"timezone({zone}, {_quoted(own)}::TIMESTAMP)"
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


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
