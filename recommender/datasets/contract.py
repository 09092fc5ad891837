"""Checks tables against the contract in `recommender.datasets.tables`.

- `check_shape` finds what dropping rows cannot repair: a missing column, another dtype, an empty table, an unreadable
  file.
- `row_problems` lists the rows that break a rule, one query for each table, so that validation can quarantine them.
- `check` raises on the first problem of either kind.
"""

from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recommender.datasets.engine import configuration, prepare
from recommender.datasets.tables import CONTRACT, Table, Tables
from recommender.errors import ContractError, SourceError, suggestion
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings

MAY_BE_EMPTY = ("participations",)
"""A shop may have had no participation yet. Without rows in any other table nothing can be computed."""


def check(tables: Tables) -> None:
    """Check shape and rows, and raise on the first problem.

    Raises:
        ContractError: a missing or renamed table or column, a wrong dtype, an empty table, a null or duplicate key, an
            unknown value, an orphan foreign key, or a window that ends before it starts. Names table, column and row
            (its number and key).
        SourceError: a file cannot be read as Parquet; names it.
    """
    check_shape(tables)
    with open_views(tables) as connection:
        for name in CONTRACT:
            if not tables.has(name):
                continue
            first = row_problems(connection, tables, name).order("_row, _column").limit(1).fetchall()
            if first:
                row, column, reason = first[0]
                key = ", ".join(column for column in CONTRACT[name].key if tables.has(name, column))
                values = connection.execute(f"SELECT {key} FROM {name} WHERE _row = ?", [row]).fetchone() or ()
                named = ", ".join(f"{part} {value}" for part, value in zip(key.split(", "), values, strict=True))
                raise ContractError(name, reason, column=column, row=f"row {row}: {named}")


def check_shape(tables: Tables) -> None:
    """Check tables, columns, dtypes and emptiness, as the files themselves have them.

    Raises:
        ContractError: names table and column, and the closest name where a column seems renamed.
        SourceError: a file cannot be read as Parquet; names it.
    """
    for name, contract in CONTRACT.items():
        files = sorted((tables.folder / name).rglob("*.parquet"))
        if not files:
            raise ContractError(name, f"the table is required, but {tables.folder / name} has no Parquet file")
        rows = 0
        for file in files:
            schema, count = _schema(file)
            _check_columns(name, contract, schema)
            rows += count
        if rows == 0 and name not in MAY_BE_EMPTY:
            raise ContractError(name, f"the table is empty ({tables.folder / name})")


def _schema(file: Path) -> tuple[pa.Schema, int]:
    """Return a Parquet file's schema and its number of rows."""
    try:
        with pq.ParquetFile(file) as parquet:
            return parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{file}: cannot be read as Parquet ({error})") from None


def _check_columns(name: str, contract: Table, schema: pa.Schema) -> None:
    for column, wanted in contract.columns.items():
        if column not in schema.names:
            if wanted.required:
                others = [other for other in schema.names if other not in contract.columns]
                hint = f"; {suggestion(column, others)}" if others else ""
                raise ContractError(name, f"the column is missing{hint}", column=column)
            continue
        found = schema.field(column).type
        if found != wanted.dtype and not pa.types.is_null(found):
            raise ContractError(name, f"dtype must be {wanted.dtype} (got {found})", column=column, row="row 0")
    for column in schema.names:
        if column not in contract.columns:
            problem = f"the contract has no such column; {suggestion(column, contract.columns)}"
            raise ContractError(name, problem, column=column)


def open_views(tables: Tables, resources: ResourceSettings = DEFAULT_RESOURCES) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB connection with one view for each table, named after the table.

    The first column of a view, `_row`, numbers the table's rows from 0 in file order.
    """
    connection = duckdb.connect(config=configuration(resources))
    prepare(connection)
    for name in CONTRACT:
        if tables.has(name):
            connection.execute(f"CREATE VIEW {name} AS {numbered_rows(connection, tables, name)}")
    return connection


def numbered_rows(connection: duckdb.DuckDBPyConnection, tables: Tables, name: str) -> str:
    """SQL of a table's rows with `_row`, their numbers from 0 in file order, in front."""
    glob = tables.glob(name)
    files = [file for (file,) in connection.execute("SELECT file FROM glob(?)", [glob]).fetchall()]
    before = ", ".join(map(str, accumulate((pq.read_metadata(file).num_rows for file in files), initial=0)))
    # row_number() would make every scan a single thread's, even where nobody asks for the number.
    number = (
        f"([{before}]::BIGINT[])[file_index::BIGINT + 1] + file_row_number" if len(files) > 1 else "file_row_number"
    )
    literal = glob.replace("'", "''")
    return f"SELECT {number} AS _row, * FROM read_parquet('{literal}', hive_partitioning = false)"


def row_problems(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, *, repeats: bool = True
) -> duckdb.DuckDBPyRelation:
    """List the rows of the table `name` that break a rule, one line for each row and rule.

    The columns are `_row` (BIGINT), `_column` and `_reason` (text). Of rows that share a key, all but the first are
    listed.

    Args:
        connection: a connection from `open_views`.
        tables: the tables that it shows.
        name: the table to check.
        repeats: whether rows that share a key are looked for, which takes longer than all else.
    """
    rules = [*_rules(tables, name), *([_repeats(tables, name)] if repeats else [])]
    return connection.sql(" UNION ALL ".join(rules))


def _rules(tables: Tables, name: str) -> Iterator[str]:
    contract = CONTRACT[name]

    def rule(column: str, condition: str, reason: str) -> str:
        return f"SELECT _row, '{column}' AS _column, {reason} AS _reason FROM {name} WHERE {condition}"

    for column, wanted in contract.columns.items():
        if not tables.has(name, column):
            continue
        if not wanted.nullable:
            yield rule(column, f"{column} IS NULL", "'null, where a value is needed'")
        if wanted.values:
            literals = ", ".join(f"'{value}'" for value in wanted.values)
            allowed = ", ".join(wanted.values)
            yield rule(column, f"{column} NOT IN ({literals})", f"'unknown value ' || {column} || '; one of {allowed}'")
        if pa.types.is_floating(wanted.dtype):
            yield rule(column, f"NOT isfinite({column})", "'not a finite number'")
    for column, other in contract.foreign_keys.items():
        if tables.has(name, column) and tables.has(other):
            target = CONTRACT[other].key[0]
            orphan = (
                f"{column} IS NOT NULL AND {column} NOT IN (SELECT {target} FROM {other} WHERE {target} IS NOT NULL)"
            )
            yield rule(column, orphan, f"'{other} has no ' || {column}")
    if name == "campaigns":
        yield rule(
            "ends_at",
            "ends_at <= starts_at",
            "'the window has no length or ends before it starts: ' || starts_at || ' to ' || ends_at",
        )
    if name == "targets" and tables.has(name, "propensity"):
        yield rule(
            "propensity", "propensity <= 0 OR propensity > 1", "'a propensity lies in (0, 1], not ' || propensity"
        )


def _repeats(tables: Tables, name: str) -> str:
    """SQL of the rows that share a key with an earlier one."""
    key = [column for column in CONTRACT[name].key if tables.has(name, column)]
    listed = ", ".join(key)
    # A key with a null is reported by the rule for nulls above where it has one column.
    several = f"{key[0]} IS NOT NULL AND " if len(key) == 1 else ""
    return (
        f"SELECT _row, '{key[0]}' AS _column, 'duplicate key' AS _reason FROM {name} "
        f"WHERE {several}{may_repeat(name, listed)} "
        f"QUALIFY row_number() OVER (PARTITION BY {listed} ORDER BY _row) > 1"
    )


def may_repeat(name: str, key: str) -> str:
    """SQL of whether a row's key is one of the few that may occur in several rows of the table.

    What follows sorts or compares keys, which is slow on a whole log. The hashes are numbers of 64 bits, so they fit in
    memory where the keys of a log do not.

    Args:
        name: the table.
        key: the columns of the key, with commas.
    """
    return f"hash({key}) IN (SELECT hash({key}) FROM {name} GROUP BY 1 HAVING count(*) > 1)"
