"""Reads one part of a table's mapping into DuckDB: typed rows, rows that cannot be read, and rows left out by a rule.

A part is one file, several files of one shape, or a query. Its rows pass in this order: `where`, then `values` with
"ignore", then the reading of every column, then `scale` and `per_unit`. What a rule leaves out is counted under the
rule's own words.
"""

from collections.abc import Mapping as AnyMapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from recommender.datasets.engine import single_thread
from recommender.datasets.labels import LABEL, check_label_words, label_sql
from recommender.datasets.mapping import IGNORE, LABEL_COLUMNS, SourceMapping, TableMapping
from recommender.datasets.part_checks import PartRows, check_unreadable_share, check_words, cleaned_sql
from recommender.datasets.queries import Open, check_where, keep_rows, run_query
from recommender.datasets.reading import RawTable, open_file, resolve
from recommender.datasets.tables import CONTRACT
from recommender.datasets.values import Readings, column_of, read_columns, rule_of
from recommender.datasets.values.readings import literal, quoted
from recommender.errors import ContractError, SourceError, suggestion

KEY_STEP = 2**40
"""Rows that a part may have, so that the number of a part and of a row make one number."""


@dataclass(frozen=True)
class Part:
    """One part after reading. The names are of DuckDB views.

    Attributes:
        rows: the readable rows that no rule leaves out, with `_key` (a unique BIGINT), `_file`, `_row` and `columns`.
        columns: canonical columns, with `_label` and those of a participation where targets have a label.
        rejected: the rows that cannot be read: `_reason`, `_file`, `_row` and the file's own columns.
        left_out: rule -> rows that it leaves out.
        row_means: what `_row` counts, see `reading.RawTable`.
        files: what `_file` holds, sorted.
    """

    rows: str
    columns: tuple[str, ...]
    rejected: str
    left_out: dict[str, int] = field(default_factory=dict)
    row_means: str = "record"
    files: tuple[str, ...] = ()


def read_part(
    connection: duckdb.DuckDBPyConnection,
    part: TableMapping,
    table: str,
    number: int,
    *,
    mapping_file: Path,
    source: SourceMapping,
    inputs: AnyMapping[str, Open],
    scratch: Path,
) -> Part:
    """Read one part of `table`.

    Args:
        connection: where views and tables are created.
        part: what the mapping says of it.
        table: the canonical table.
        number: which of the table's parts this is.
        mapping_file: the mapping, to whose folder relative paths refer.
        source: what holds for all parts.
        inputs: opens the inputs of a query.
        scratch: a temporary folder that outlives the connection.

    Raises:
        SourceError: a file is missing or corrupt, or SQL of the mapping is wrong; names it.
        ContractError: a mapped column is missing, a word is unknown, or too many values cannot be read; names the file,
            the column, the first row, and what to write.
    """
    name = f"{table}_{number}"
    own = _open(connection, part, name, f"{mapping_file}: tables.{table}", mapping_file, inputs, scratch)
    chosen = _choose_columns(own, part, table)
    left_out = _apply_where(connection, own, part, name)
    _stage(connection, part, name, chosen)
    rules = {
        canonical: rule_of(
            column_of(
                connection,
                f"{name}_staged",
                name=at,
                type=own.raw.types.get(at, "VARCHAR"),
                table=table,
                canonical=canonical,
                part=part,
                row_means=own.raw.row_means,
                trimmed=own.raw.trimmed and at in own.raw.types,
            ),
            part,
            source,
        )
        for canonical, at in chosen.items()
    }
    # A second thread would only wait for the first, and DuckDB's threads wait by asking again and again.
    with single_thread(connection) if own.raw.sequential else nullcontext():
        readings = read_columns(rules)
        if part.label is not None:
            check_label_words(connection, f"{name}_staged", part, own.raw.path)
        check_words(connection, own, table, readings)
        _parse(connection, own, part, name, readings, number, scratch)
    left_out |= _ignored(connection, name)
    unreadable = check_unreadable_share(connection, f"{name}_all", own, table)
    columns = (*readings.of, *((LABEL,) if part.label is not None else ()))
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {name}_all WHERE _reason = '' AND _rule IS NULL")
    _keep_rejected(connection, own, name, unreadable)
    files = connection.execute(f"SELECT DISTINCT _file FROM {name}_all ORDER BY 1").fetchall()
    return Part(name, columns, f"{name}_rejected", left_out, own.raw.row_means, tuple(file for (file,) in files))


def _open(
    connection: duckdb.DuckDBPyConnection,
    part: TableMapping,
    name: str,
    place: str,
    mapping_file: Path,
    inputs: AnyMapping[str, Open],
    scratch: Path,
) -> PartRows:
    """Open the part's file, files or query."""
    if part.file is not None:
        raw = open_file(connection, resolve(part.file, mapping_file), part, name=f"{name}_raw", scratch=scratch)
        return PartRows(raw, place)
    run_query(connection, part.query or "", inputs, table=f"{name}_raw", place=f"{place}.query", scratch=scratch)
    rows = connection.sql(f"FROM {name}_raw")
    types = dict(zip(rows.columns, map(str, rows.types), strict=True))
    own = {column: types[column] for column in rows.columns if column not in ("_file", "_row")}
    return PartRows(RawTable(f"{name}_raw", tuple(own), own, "query", "record"), place)


def _choose_columns(own: PartRows, part: TableMapping, table: str) -> dict[str, str]:
    """Map canonical columns to columns of the part. A constant's is named `constant:<column>`."""
    found = own.raw.columns
    chosen: dict[str, str] = {}
    columns = [*CONTRACT[table].columns, *(LABEL_COLUMNS if part.label is not None else ())]
    for column in columns:
        source = part.columns.get(column)
        if source is not None and source not in found:
            problem = f"{own.raw.path} has no column {source!r}; {suggestion(source, found)}"
            raise ContractError(table, problem, column=column)
        if source is not None or column in found:
            chosen[column] = source or column
        elif column in part.constants:
            chosen[column] = f"constant:{column}"
    unread = next(
        (
            column
            for column in part.values
            if chosen.get(column, "constant:") == f"constant:{column}" or column not in chosen
        ),
        None,
    )
    if unread is not None:
        problem = f"{own.raw.path}: `values` has words for it, but no column is mapped to it; name it in `columns`"
        raise ContractError(table, problem, column=unread)
    if part.per_unit and "quantity" not in chosen:
        problem = f"{own.raw.path}: `per_unit` needs the number of units; name its column in `columns`"
        raise ContractError(table, problem, column="quantity")
    if part.label is not None and part.label not in found:
        problem = f"{own.raw.path} has no column {part.label!r}, which `label` names; {suggestion(part.label, found)}"
        raise ContractError(table, problem)
    return chosen


def _apply_where(connection: duckdb.DuckDBPyConnection, own: PartRows, part: TableMapping, name: str) -> dict[str, int]:
    """Create the view `<name>_kept` of the rows where `where` holds, and count the others."""
    if part.where is None:
        connection.execute(f"CREATE VIEW {name}_kept AS FROM {own.raw.relation}")
        return {}
    place = f"{own.place}.where"
    check_where(connection, part.where, place)
    try:
        connection.execute(
            f"CREATE VIEW {name}_kept AS SELECT * FROM {own.raw.relation} WHERE coalesce(({part.where}\n), false)"
        )
        kept, everything = connection.execute(
            f"SELECT (SELECT count(*) FROM {name}_kept), (SELECT count(*) FROM {own.raw.relation})"
        ).fetchone() or (0, 0)
    except duckdb.Error as error:
        texts = "columns of a CSV are texts, so write for example TRY_CAST(quantity AS DOUBLE) > 0"
        problem = f"{str(error).strip().splitlines()[0]}; it may name {', '.join(own.raw.columns)}; {texts}"
        raise SourceError(f"{place}: {problem}") from None
    if everything and not kept:
        raise SourceError(f"{place}: leaves out all {everything:,} rows of {own.raw.path} ({part.where})")
    return {f"where: {part.where}": everything - kept} if kept < everything else {}


def _stage(connection: duckdb.DuckDBPyConnection, part: TableMapping, name: str, chosen: AnyMapping[str, str]) -> None:
    """Create the view `<name>_staged`: the kept rows with the mapping's constants as columns."""
    constants = [
        f"{literal(str(part.constants[column]))} AS {quoted(at)}"
        for column, at in chosen.items()
        if at == f"constant:{column}"
    ]
    label = [f"{label_sql(part)} AS {LABEL}"] if part.label is not None else []
    connection.execute(f"CREATE VIEW {name}_staged AS SELECT {', '.join(['*', *constants, *label])} FROM {name}_kept")


def _parse(
    connection: duckdb.DuckDBPyConnection,
    own: PartRows,
    part: TableMapping,
    name: str,
    readings: Readings,
    number: int,
    scratch: Path,
) -> None:
    """Create the view `<name>_all`: every row with its values, `_reason` (empty where readable) and `_rule`.

    The rows lie in a Parquet file. A table of DuckDB would lie in memory, and one in a database on the disk takes
    three times as long to write.
    """
    values = [f"{_scaled(part, column)} AS {column}" for column in readings.of]
    kept = ["_file", "_row", *([LABEL] if part.label is not None else [])]
    rules = {column: _ignored_words(part, column) for column in readings.of}
    words = [cleaned_sql(column) for column, ignored in rules.items() if ignored]
    cases = [
        f"WHEN _ignored AND lower({cleaned_sql(column)}) IN ({ignored}) "
        f"THEN {literal(f'values.{column}: ')} || {cleaned_sql(column)} || ' = ignore'"
        for column, ignored in rules.items()
        if ignored
    ]
    rule = f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR"
    # To number rows anew takes a single thread.
    row = "_row" if own.raw.num_files == 1 else "row_number() OVER ()"
    key = f"({number}::BIGINT * {KEY_STEP} + {row})"
    rows = (
        f"SELECT {key} AS _key, {', '.join([*kept, *values])}, _reason, {rule} AS _rule "
        f"FROM ({readings.query(*kept, *words)})"
    )
    try:
        keep_rows(connection, rows, f"{name}_all", scratch)
    except duckdb.Error as error:
        raise SourceError(f"{own.raw.path}: cannot be read ({str(error).strip().splitlines()[0]})") from None


def _keep_rejected(connection: duckdb.DuckDBPyConnection, own: PartRows, name: str, unreadable: int) -> None:
    """Create the view `<name>_rejected` of the rows that cannot be read, as they stand in the source."""
    if not unreadable:  # Without this the whole source would be read once more.
        connection.execute(f"CREATE VIEW {name}_rejected AS SELECT '' AS _reason, * FROM {own.raw.relation} LIMIT 0")
        return
    connection.execute(
        f"CREATE TABLE {name}_reasons AS SELECT _file, _row, _reason FROM {name}_all "
        "WHERE _reason <> '' AND _rule IS NULL"
    )
    connection.execute(
        f"CREATE VIEW {name}_rejected AS SELECT a._reason, r.* FROM {own.raw.relation} r "
        f"JOIN {name}_reasons a USING (_file, _row)"
    )


def _ignored_words(part: TableMapping, column: str) -> str:
    """SQL of the words of a column that leave a row out, in lower case. Empty if there is none."""
    words = [theirs.lower() for theirs, ours in part.values.get(column, {}).items() if ours == IGNORE]
    return ", ".join(map(literal, words))


def _scaled(part: TableMapping, column: str) -> str:
    """SQL of a number times its scale. A scale that is one over a whole number divides, so that cents are exact."""
    scale = part.scale.get(column)
    inverse = round(1 / scale) if scale else 0
    if scale is None:
        scaled = column
    elif inverse and abs(scale * inverse - 1) < 1e-12:
        scaled = f"({column} / {float(inverse)!r}::DOUBLE + 0.0)"  # plus 0, since -1 times 0 is a zero with a sign
    else:
        scaled = f"({column} * {scale!r}::DOUBLE + 0.0)"
    if column in part.per_unit:
        quantity = _scaled(part, "quantity")
        return f"{scaled} * coalesce({quantity}, 1)"
    return scaled


def _ignored(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, int]:
    query = f"SELECT _rule, count(*) FROM {name}_all WHERE _rule IS NOT NULL GROUP BY 1 ORDER BY 1"
    return dict(connection.execute(query).fetchall())
