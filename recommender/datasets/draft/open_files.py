"""Opens the files of a draft, and lays open what a table cannot show: records in columns, lists of lines, no header."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
from duckdb.sqltypes import DuckDBPyType

from recommender.datasets.draft.evidence import LINE, SAMPLE_ROWS, FileEvidence, meanings_of
from recommender.datasets.draft.headerless import header_of
from recommender.datasets.draft.headers import tokens
from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading import RawTable, open_file, sheet_names
from recommender.datasets.reading.problems import NoHeaderError, NotUtf8Error
from recommender.datasets.reading.raw import quoted
from recommender.errors import SourceError

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
SAMPLE_SEED = 17
"""Seed of the sample, so that the same files give the same draft."""


def look_at_sheets(
    connection: duckdb.DuckDBPyConnection, path: Path, taken: set[str], scratch: Path
) -> tuple[list[FileEvidence], list[str]]:
    """Open a file, or each sheet of a workbook. Also returns what sheets cannot be read, and why.

    Raises:
        SourceError: the file is missing, or no part of it can be read.
    """
    sheets = sheet_names(path) if path.suffix.lower() in WORKBOOKS else []
    if len(sheets) < 2:
        return [look_at(connection, path, taken, scratch)], []
    seen, unread = [], []
    for sheet in sheets:
        try:
            seen.append(look_at(connection, path, taken, scratch, sheet=sheet))
        except SourceError as error:
            unread.append(f"{path.name}, sheet {sheet}: {error}")
    if not seen:
        raise SourceError("; ".join(unread))
    return seen, unread


def look_at(
    connection: duckdb.DuckDBPyConnection, path: Path, taken: set[str], scratch: Path, *, sheet: str | None = None
) -> FileEvidence:
    """Open one file. `taken` holds the names of earlier files, and grows.

    Raises:
        SourceError: the file is missing or cannot be read, whatever the mapping says.
    """
    name = _name_for(path, taken)
    raw, form, comments = _opened(connection, path, f"file_{name}", scratch, sheet)
    # Every question reads the rows, so they are parsed once and kept in columns on disk.
    connection.execute(f"CREATE TABLE kept_{name} AS FROM {raw.relation}")
    raw = replace(raw, relation=f"kept_{name}")
    paths, lists = _inside(connection, raw)
    lines = next((one for one in lists if _has(one, "item")), None)
    both = lines is not None and any("item" in meanings_of(field) for field in paths)
    file = _evidence(connection, path, name, raw, paths, None if both else lines)
    file.form, file.comments = form, comments
    if both and lines is not None:
        # Some events name one item themselves, such as a view, and others a list of them, such as an order.
        file.acts = _evidence(connection, path, name, raw, paths, lines)
        file.acts.form, file.has_lists = form, True
        return file
    acts = next((one for one in lists if lines is None and _has(one, "kind") and _has(one, "event_time")), None)
    if acts is not None:
        file.acts = _evidence(connection, path, name, raw, paths, acts)
        file.acts.form = form
    return file


@dataclass(frozen=True)
class _List:
    """A column that holds a list of records: its name, its SQL and the fields of a record."""

    name: str
    sql: str
    fields: tuple[str, ...]


def _has(one: _List, meaning: str) -> bool:
    return any(meaning in meanings_of(field) for field in one.fields)


def _evidence(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    name: str,
    raw: RawTable,
    paths: dict[str, str],
    lines: _List | None,
) -> FileEvidence:
    """The evidence of a file, with a row for each record of a list if one is given."""
    view, columns = raw.relation, dict(paths)
    if lines is not None:
        columns |= {f"{lines.name}.{field}": f"{LINE}.{quoted(field)}" for field in lines.fields}
    if columns.keys() != set(raw.columns) or lines is not None:
        view = f"{raw.relation}_{'lines' if lines is not None else 'fields'}"
        laid = ", ".join(f"{sql} AS {quoted(column)}" for column, sql in columns.items())
        inner = (
            f"SELECT *, unnest({lines.sql}) AS {LINE} FROM {raw.relation}"
            if lines is not None
            else f"FROM {raw.relation}"
        )
        connection.execute(
            f"CREATE OR REPLACE VIEW {view} AS SELECT _file, row_number() OVER () AS _row, {laid} FROM ({inner})"
        )
    sample = f"{view}_sample"
    connection.execute(
        f"CREATE TABLE {sample} AS FROM {view} USING SAMPLE reservoir({SAMPLE_ROWS} ROWS) REPEATABLE ({SAMPLE_SEED})"
    )
    (rows,) = connection.execute(f"SELECT count(*) FROM {view}").fetchone() or (0,)
    relation = connection.sql(f"SELECT * EXCLUDE (_file, _row) FROM {view}")
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    plain = {column: sql for column, sql in columns.items() if sql != quoted(column)}
    return FileEvidence(connection, path, name, view, sample, types, rows, plain, None if lines is None else lines.sql)


def _name_for(path: Path, taken: set[str]) -> str:
    """A name for SQL from a file's name, in letters of ASCII."""
    stem = path.name.split(".")[0]
    name = "_".join(part for part in re.split(r"[^a-z0-9]+", "_".join(tokens(stem)).lower()) if part)
    if not name or name[0].isdigit() or len(name) < len(stem) / 2:
        name = f"file_{name or len(taken) + 1}"
    while name in taken:
        name += "_2"
    taken.add(name)
    return name


def _opened(
    connection: duckdb.DuckDBPyConnection, path: Path, view: str, scratch: Path, sheet: str | None
) -> tuple[RawTable, dict[str, object], list[str]]:
    """Open the file as it is, or with the encoding and the header that it turns out to need."""
    form: dict[str, object] = {} if sheet is None else {"sheet": sheet}
    comments: list[str] = []
    while True:
        try:
            raw = open_file(connection, path, FileFormat.model_validate(form), name=view, scratch=scratch)
        except NotUtf8Error as error:
            if error.probable is None or "encoding" in form:
                raise
            form["encoding"] = error.probable
            comments.append(f"CHECK: the file is not UTF-8; it reads as {error.probable}")
        except NoHeaderError as error:
            if "header" in form:
                raise
            form["header"] = tuple(f"column_{place + 1}" for place in range(len(error.first)))
        else:
            break
    if "header" in form:
        names, comment = header_of(connection, raw)
        form["header"] = names
        comments.append(comment)
        connection.execute(f"DROP VIEW {view}")
        raw = open_file(connection, path, FileFormat.model_validate(form), name=view, scratch=scratch)
    return raw, form, comments


def _inside(connection: duckdb.DuckDBPyConnection, raw: RawTable) -> tuple[dict[str, str], list[_List]]:
    """The fields of a file, also those inside records, with their SQL, and the lists of records."""
    fields: dict[str, str] = {}
    lists: list[_List] = []
    relation = connection.sql(f"FROM {raw.relation}")
    for column, kind in zip(relation.columns, relation.types, strict=True):
        if column in raw.columns:
            _fields(kind, column, quoted(column), fields, lists)
    return fields, lists


def _fields(kind: DuckDBPyType, name: str, sql: str, fields: dict[str, str], lists: list[_List]) -> None:
    """Add the fields inside a column, or its list of records."""
    if kind.id == "struct":
        for field, inner in kind.children:
            assert isinstance(inner, DuckDBPyType)
            _fields(inner, f"{name}.{field}", f"{sql}.{quoted(field)}", fields, lists)
    elif kind.id == "list":
        inner = kind.children[0][1]
        if isinstance(inner, DuckDBPyType) and inner.id == "struct":
            lists.append(_List(name, sql, tuple(field for field, _ in inner.children)))
    elif kind.id not in ("map", "array", "union"):
        fields[name] = sql
