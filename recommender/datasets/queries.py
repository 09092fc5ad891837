"""SQL that a mapping contains: `query` over its [inputs], and `where` over one file's columns.

A query runs in a DuckDB database of its own, which holds the inputs that it names and can open no file, no address and
no Python object: `enable_external_access` is off and the configuration is locked. A `where` is one expression without
subqueries, so it reads nothing but the row.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from recommender.datasets.engine import prepare
from recommender.errors import SourceError
from recommender.storage.scratch import scratch_folder

BATCH_ROWS = 122_880
"""Rows that are copied at a time: DuckDB's row group, so that a whole log is never in memory as Arrow."""

Open = Callable[[str], duckdb.DuckDBPyRelation]
"""Name of an input -> its rows, without `_file` and `_row`."""


def run_query(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    inputs: Mapping[str, Open],
    *,
    table: str,
    place: str,
    scratch: Path,
) -> None:
    """Create the view `table` of the result of a mapping's query, its rows numbered from 1 as `_row`.

    The rows are put in the order of their values first, because a join has no order: so the same inputs give the same
    numbers.

    Args:
        connection: where the view is created. The query gets as much memory and as many threads.
        query: one SELECT statement of DuckDB's SQL.
        inputs: name -> opens an input. Only those that the query mentions are opened.
        table: the name of the view to create. It has `_file` (`query`), `_row`, and the query's columns.
        place: what an error calls the query, such as `mapping.toml: tables.events.query`.
        scratch: a temporary folder that must outlive the view: the rows lie there.

    Raises:
        SourceError: the query is no single SELECT, names what is no input, or fails; holds DuckDB's reason.
    """
    _only_select(connection, query, place)
    limits = {
        name: (connection.execute("SELECT current_setting(?)", [name]).fetchone() or ("",))[0]
        for name in ("threads", "memory_limit")
    }
    with (
        scratch_folder("query", scratch) as folder,
        duckdb.connect(config={**limits, "temp_directory": str(folder)}) as apart,
    ):
        prepare(apart)
        for name, open_input in inputs.items():
            if re.search(rf"\b{re.escape(name)}\b", query, re.IGNORECASE):
                _copy(open_input(name), apart, name)
        apart.execute("SET enable_external_access = false")
        apart.execute("SET python_enable_replacements = false")
        apart.execute("SET lock_configuration = true")
        try:
            apart.execute(f"CREATE TABLE _result AS SELECT * FROM ({query.rstrip().rstrip(';')}\n)")
        except duckdb.Error as error:
            known = ", ".join(inputs) or "none"
            raise SourceError(f"{place}: {_reason(error)}; the inputs are: {known}") from None
        numbered = "SELECT 'query' AS _file, row_number() OVER () AS _row, * FROM (FROM _result ORDER BY ALL)"
        reader = apart.sql(numbered).to_arrow_reader(BATCH_ROWS)
        connection.register("rows_of_query", reader)
        try:
            keep_rows(connection, "FROM rows_of_query", table, scratch)
        finally:
            connection.unregister("rows_of_query")


def keep_rows(connection: duckdb.DuckDBPyConnection, query: str, view: str, scratch: Path) -> None:
    """Write the rows of a query to a Parquet file in `scratch`, in their order, and create a view of it."""
    file = _literal(str(scratch / f"{uuid.uuid4().hex}.parquet"))
    # Few rows pass through memory at once, and LZ4 costs next to nothing.
    connection.execute(f"COPY ({query}) TO {file} (FORMAT parquet, COMPRESSION lz4)")
    connection.execute(f'CREATE VIEW "{view}" AS FROM read_parquet({file})')


def check_where(connection: duckdb.DuckDBPyConnection, where: str, place: str) -> None:
    """Check that `where` is one condition on a row, without subqueries.

    Raises:
        SourceError: it is not; holds DuckDB's reason.
    """
    statement = _only_select(connection, f"SELECT 1 WHERE ({where}\n)", place)
    node = statement.get("node", {})
    alone = node.get("type") == "SELECT_NODE" and not node.get("modifiers") and not node.get("group_expressions")
    if not alone or _has_subquery(node):
        raise SourceError(f"{place}: must be one condition on the columns of the row, without SELECT (got {where!r})")


def _only_select(connection: duckdb.DuckDBPyConnection, query: str, place: str) -> dict[str, Any]:
    """The parsed statement."""
    (text,) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchone() or ("{}",)
    parsed = json.loads(text)
    if parsed.get("error"):
        raise SourceError(f"{place}: not one SELECT in DuckDB's SQL ({parsed.get('error_message')})")
    if len(parsed["statements"]) != 1:
        raise SourceError(f"{place}: must be one SELECT (got {len(parsed['statements'])} statements)")
    statement: dict[str, Any] = parsed["statements"][0]
    return statement


def _has_subquery(node: Any) -> bool:
    if isinstance(node, dict):
        return node.get("class") == "SUBQUERY" or any(_has_subquery(part) for part in node.values())
    return isinstance(node, list) and any(_has_subquery(part) for part in node)


def _copy(rows: duckdb.DuckDBPyRelation, connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Copy rows of one database into a new table of another, some at a time."""
    reader = rows.to_arrow_reader(BATCH_ROWS)
    connection.register("copied_rows", reader)
    try:
        connection.execute(f'CREATE TABLE "{table}" AS FROM copied_rows')
    finally:
        connection.unregister("copied_rows")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
