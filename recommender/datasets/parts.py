"""Reads one part of a table's mapping into DuckDB: typed rows, rows that cannot be read, and rows left out by a rule.

A part is one file, several files of one shape, or a query. Its rows pass in this order: `where`, then `values` with
"ignore", then the reading of every column, then `scale`. What a rule leaves out is counted under the rule's own words.
"""

import glob
import json
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from recommender.datasets.contract import MAY_BE_EMPTY
from recommender.datasets.labels import LABEL, check_label_words, label_sql
from recommender.datasets.mapping import LABEL_COLUMNS, SourceMapping, TableMapping
from recommender.datasets.parsing import RawTable, Reading, open_raw, reading_of
from recommender.datasets.queries import Open, check_where, run_query
from recommender.datasets.tables import CONTRACT
from recommender.errors import ContractError, SourceError, suggestion

MAX_UNREADABLE_SHARE = 0.01
"""Chosen by hand: above one row in a hundred the column's format or dtype is wrong, so reading fails. Below, rows are
set aside."""
SHOWN_WORDS = 20
"""Unknown words that an error lists with their counts, the commonest first. Chosen by hand."""
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
        several: whether the rows are of several files.
    """

    rows: str
    columns: tuple[str, ...]
    rejected: str
    left_out: dict[str, int] = field(default_factory=dict)
    several: bool = False


@dataclass(frozen=True)
class _Own:
    """The part's raw rows and where each canonical column comes from."""

    raw: RawTable
    several: bool
    place: str
    """What an error calls the part's SQL, such as `mapping.toml: tables.events`."""


def read_part(
    connection: duckdb.DuckDBPyConnection,
    part: TableMapping,
    table: str,
    number: int,
    *,
    mapping_file: Path,
    source: SourceMapping,
    inputs: AnyMapping[str, Open],
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

    Raises:
        SourceError: a file is missing or corrupt, or SQL of the mapping is wrong; names it.
        ContractError: a mapped column is missing, a word is unknown, or too many values cannot be read; names the file,
            the column, the first row, and what to write.
    """
    name = f"{table}_{number}"
    own = _open(connection, part, name, f"{mapping_file}: tables.{table}", mapping_file.parent, inputs)
    chosen = _choose_columns(own, part, table)
    left_out = _apply_where(connection, own, part, name)
    _stage(connection, part, name, chosen)
    types = own.raw.types
    readings = {
        column: reading_of(part, table, column, at, types.get(at, "VARCHAR"), source.time_zone)
        for column, at in chosen.items()
    }
    if part.label is not None:
        check_label_words(connection, f"{name}_staged", part, own.raw.path)
    _parse(connection, own, part, name, table, readings, chosen, number)
    left_out |= _ignored(connection, name)
    _check_words(connection, own, table, name, tuple(readings))
    _check_unreadable_share(connection, f"{name}_all", own, table)
    columns = (*readings, *((LABEL,) if part.label is not None else ()))
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {name}_all WHERE _reason = '' AND _rule IS NULL")
    place, hidden = ("_file, _row, _part", " EXCLUDE (_part)") if own.several else ("_file, _row", "")
    connection.execute(
        f"CREATE VIEW {name}_rejected AS SELECT a._reason, r.*{hidden} FROM {own.raw.relation} r "
        f"JOIN {name}_all a USING ({place}) WHERE a._reason <> '' AND a._rule IS NULL"
    )
    return Part(name, columns, f"{name}_rejected", left_out, own.several)


def part_files(part: TableMapping, folder: Path) -> list[str]:
    """Paths or addresses of a part's files, in the order of their names. Relative ones are relative to `folder`.

    Raises:
        SourceError: no file matches the pattern.
    """
    if part.file is None:
        return []
    if "://" in part.file:
        return [part.file]
    path = folder / part.file
    if path.exists() or not glob.has_magic(part.file):
        return [str(path)]
    # `Path.glob` takes no absolute pattern and no `**` within a name.
    found = sorted(glob.glob(part.file, root_dir=folder, recursive=True))  # noqa: PTH207
    if not found:
        raise SourceError(f"{path}: no file matches this pattern; correct `file` in the mapping")
    return [str(folder / one) for one in found]


def _open(
    connection: duckdb.DuckDBPyConnection,
    part: TableMapping,
    name: str,
    place: str,
    folder: Path,
    inputs: AnyMapping[str, Open],
) -> _Own:
    """Open the part's file, files or query."""
    if part.query is not None:
        run_query(connection, part.query, inputs, table=f"{name}_raw", place=f"{place}.query")
        rows = connection.sql(f"FROM {name}_raw")
        types = dict(zip(rows.columns, map(str, rows.types), strict=True))
        columns = tuple(column for column in rows.columns if column not in ("_file", "_row"))
        return _Own(RawTable(f"{name}_raw", columns, types, "query"), False, place)
    files = part_files(part, folder)
    if len(files) == 1:
        return _Own(open_raw(connection, files[0], part, name=f"{name}_raw"), False, place)
    opened = [open_raw(connection, file, part, name=f"{name}_raw_{index}") for index, file in enumerate(files)]
    first = opened[0]
    for other in opened[1:]:
        differing = sorted(set(first.columns) ^ set(other.columns))
        if differing:
            problem = (
                f"has other columns than {first.path} ({', '.join(differing)}); give files of another shape an entry "
                "of their own"
            )
            raise SourceError(f"{other.path}: {problem}")
    union = " UNION ALL BY NAME ".join(
        f"SELECT {index}::BIGINT AS _part, * FROM {one.relation}" for index, one in enumerate(opened)
    )
    connection.execute(f"CREATE VIEW {name}_raw AS {union}")
    rows = connection.sql(f"SELECT * EXCLUDE (_file, _row, _part) FROM {name}_raw")
    types = dict(zip(rows.columns, map(str, rows.types), strict=True))
    pattern = str(folder / (part.file or ""))
    return _Own(RawTable(f"{name}_raw", tuple(rows.columns), types, pattern), True, place)


def _choose_columns(own: _Own, part: TableMapping, table: str) -> dict[str, str]:
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
    if part.label is not None and part.label not in found:
        problem = f"{own.raw.path} has no column {part.label!r}, which `label` names; {suggestion(part.label, found)}"
        raise ContractError(table, problem)
    return chosen


def _apply_where(connection: duckdb.DuckDBPyConnection, own: _Own, part: TableMapping, name: str) -> dict[str, int]:
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
        f"{_literal(str(part.constants[column]))} AS {_quoted(at)}"
        for column, at in chosen.items()
        if at == f"constant:{column}"
    ]
    connection.execute(f"CREATE VIEW {name}_staged AS SELECT {', '.join(['*', *constants])} FROM {name}_kept")


def _parse(
    connection: duckdb.DuckDBPyConnection,
    own: _Own,
    part: TableMapping,
    name: str,
    table: str,
    readings: AnyMapping[str, Reading],
    chosen: AnyMapping[str, str],
    number: int,
) -> None:
    """Create the table `<name>_all`: every row with its values, `_reason` (empty where readable) and `_rule`."""
    values = [f"{_scaled(part, column, reading.value)} AS {column}" for column, reading in readings.items()]
    if part.label is not None:
        values.append(f"{label_sql(part)} AS {LABEL}")
    problems = [reading.problem for reading in readings.values() if not reading.problem.startswith("NULL")]
    reason = f"concat_ws('; ', {', '.join(problems)})" if problems else "''"
    rules = [
        f"WHEN {reading.ignored} THEN {_literal(f'values.{column}: ')} || trim({_quoted(chosen[column])}::VARCHAR) "
        "|| ' = ignore'"
        for column, reading in readings.items()
        if reading.ignored != "false"
    ]
    rule = f"CASE {' '.join(rules)} END" if rules else "NULL::VARCHAR"
    key = f"({number}::BIGINT * {KEY_STEP} + row_number() OVER ())"
    file_number = "_part" if own.several else "0::BIGINT"
    try:
        connection.execute(
            f"CREATE TABLE {name}_all AS SELECT {key} AS _key, _file, _row, {file_number} AS _part, "
            f"{', '.join(values)}, {reason} AS _reason, {rule} AS _rule FROM {name}_staged"
        )
    except duckdb.Error as error:
        raise SourceError(f"{own.raw.path}: cannot be read ({str(error).strip().splitlines()[0]})") from None


def _scaled(part: TableMapping, column: str, value: str) -> str:
    """SQL of a number times its scale. A scale that is one over a whole number divides, so that cents are exact."""
    scale = part.scale.get(column)
    if scale is None:
        return value
    inverse = round(1 / scale) if scale else 0
    if inverse and abs(scale * inverse - 1) < 1e-12:
        return f"({value}) / {float(inverse)!r}::DOUBLE"
    return f"({value}) * {scale!r}::DOUBLE"


def _ignored(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, int]:
    query = f"SELECT _rule, count(*) FROM {name}_all WHERE _rule IS NOT NULL GROUP BY 1 ORDER BY 1"
    return dict(connection.execute(query).fetchall())


def _check_words(
    connection: duckdb.DuckDBPyConnection, own: _Own, table: str, name: str, columns: tuple[str, ...]
) -> None:
    """Raise where a column with a fixed set of words holds another: such rows must not vanish."""
    for column in columns:
        wanted = CONTRACT[table].columns.get(column)
        if wanted is None or not wanted.values:
            continue
        known = ", ".join(map(_literal, wanted.values))
        unknown = connection.execute(
            f"SELECT {column}, count(*), min(_row), any_value(_file ORDER BY _row) FROM {name}_all "
            f"WHERE _rule IS NULL AND {column} NOT IN ({known}) GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        if unknown:
            listed = ", ".join(f"{word!r} ({rows:,} rows)" for word, rows, _, _ in unknown[:SHOWN_WORDS])
            more = f" and {len(unknown) - SHOWN_WORDS} more" if len(unknown) > SHOWN_WORDS else ""
            pairs = ", ".join(_pair(word, wanted.values) for word, *_ in unknown[:SHOWN_WORDS])
            problem = (
                f"{own.raw.path} has words that the contract lacks: {listed}{more}. Say what each means in the "
                f"mapping: values = {{ {column} = {{ {pairs} }} }}, each one of {', '.join(wanted.values)}, or "
                '"ignore" to leave its rows out'
            )
            raise ContractError(table, problem, column=column, row=f"row {unknown[0][2]} of {unknown[0][3]}")


def _pair(word: str, known: Sequence[str]) -> str:
    """A line of `values` for an unknown word, with the contract's word where one looks alike."""
    alike = [one for one in known if one.startswith(word.lower()[:3]) or word.lower().startswith(one)]
    return f"{json.dumps(word, ensure_ascii=False)} = {json.dumps((alike or ['…'])[0], ensure_ascii=False)}"


def _check_unreadable_share(connection: duckdb.DuckDBPyConnection, rows: str, own: _Own, table: str) -> None:
    """Raise if the part has no rows, or too many that cannot be read."""
    counts = "count(*), count(*) FILTER (_rule IS NULL), count(*) FILTER (_reason <> '' AND _rule IS NULL)"
    num_read, num_rows, num_unreadable = connection.execute(f"SELECT {counts} FROM {rows}").fetchone() or (0, 0, 0)
    if num_rows == 0 and table not in MAY_BE_EMPTY:
        problem = f'"ignore" leaves out all {num_read:,} rows of' if num_read else "no rows in"
        raise ContractError(table, f"{problem} {own.raw.path}")
    if num_unreadable > MAX_UNREADABLE_SHARE * num_rows:
        row, file, reason = connection.execute(
            f"SELECT _row, _file, _reason FROM {rows} WHERE _reason <> '' AND _rule IS NULL ORDER BY _part, _row"
        ).fetchone() or (0, "", "")
        column, _, problem = str(reason).partition(": ")
        wanted = CONTRACT[table].columns.get(column) or CONTRACT["participations"].columns[column]
        problem = (
            f"{problem} as {wanted.dtype}; {num_unreadable:,} of {num_rows:,} rows of {own.raw.path} cannot be read. "
            "Set `formats`, `decimal` or `values` in the mapping"
        )
        raise ContractError(table, problem, column=column, row=f"row {row} of {file}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
