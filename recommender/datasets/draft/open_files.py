"""Opens the files of a draft, and lays open what a table cannot show: records in columns, lists of lines, no header."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
from duckdb.sqltypes import DuckDBPyType

from recommender.datasets.draft.evidence import SAMPLE_ROWS, FileEvidence, meanings_of
from recommender.datasets.draft.headerless import header_of
from recommender.datasets.draft.headers import tokens
from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading import RawTable, open_file
from recommender.datasets.reading.problems import NoHeaderError, NotUtf8Error
from recommender.datasets.reading.raw import quoted

SAMPLE_SEED = 17
"""Seed of the sample, so that the same files give the same draft."""


def look_at(connection: duckdb.DuckDBPyConnection, path: Path, taken: set[str], scratch: Path) -> FileEvidence:
    """Open one file. `taken` holds the names of earlier files, and grows.

    Raises:
        SourceError: the file is missing or cannot be read, whatever the mapping says.
    """
    name = _name_for(path, taken)
    raw, form, comments = _opened(connection, path, f"file_{name}", scratch)
    select, types = _flattened(connection, name, raw)
    if select is None:
        view = raw.relation
    else:
        view = f"flat_{name}"
        inner = select.replace(f"FROM {quoted(name)}", f"FROM {raw.relation} AS {quoted(name)}", 1)
        connection.execute(
            f"CREATE VIEW {view} AS SELECT 'file' AS _file, row_number() OVER () AS _row, * FROM ({inner})"
        )
    sample = f"sample_{name}"
    connection.execute(
        f"CREATE TABLE {sample} AS FROM {view} USING SAMPLE reservoir({SAMPLE_ROWS} ROWS) REPEATABLE ({SAMPLE_SEED})"
    )
    (rows,) = connection.execute(f"SELECT count(*) FROM {view}").fetchone() or (0,)
    return FileEvidence(connection, path, name, view, sample, types, rows, select, form, comments)


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
    connection: duckdb.DuckDBPyConnection, path: Path, view: str, scratch: Path
) -> tuple[RawTable, dict[str, object], list[str]]:
    """Open the file as it is, or with the encoding and the header that it turns out to need."""
    form: dict[str, object] = {}
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


def _flattened(connection: duckdb.DuckDBPyConnection, name: str, raw: RawTable) -> tuple[str | None, dict[str, str]]:
    """SQL over `name` that lays the fields of records open and gives each line of a list its row, and the types.

    None where the file has neither.
    """
    fields: list[tuple[str, str]] = []
    lists: list[tuple[str, str, Sequence[tuple[str, str]]]] = []
    for column in raw.columns:
        _fields(
            connection.sql(f"FROM {raw.relation}").select(quoted(column)).types[0],
            column,
            quoted(column),
            fields,
            lists,
        )
    lines = next((one for one in lists if any("item" in meanings_of(field) for field, _ in one[2])), None)
    if lines is None and all("." not in field for field, _ in fields):
        return None, dict(raw.types)
    columns = [f"{sql} AS {quoted(field)}" for field, sql in fields]
    source = f"FROM {quoted(name)}"
    if lines is not None:
        column, sql, inner = lines
        columns += [f"_line.{quoted(field)} AS {quoted(f'{column}.{field}')}" for field, _ in inner]
        source += f" LEFT JOIN LATERAL (SELECT unnest({sql}) AS _line) ON true"
    select = f"SELECT {', '.join(columns)} {source}"
    probe = select.replace(f"FROM {quoted(name)}", f"FROM {raw.relation} AS {quoted(name)}", 1)
    relation = connection.sql(probe)
    return select, dict(zip(relation.columns, map(str, relation.types), strict=True))


def _fields(
    kind: DuckDBPyType,
    name: str,
    sql: str,
    fields: list[tuple[str, str]],
    lists: list[tuple[str, str, Sequence[tuple[str, str]]]],
) -> None:
    """Append the fields inside a column, and its list of records."""
    if kind.id == "struct":
        for field, inner in kind.children:
            _fields(inner, f"{name}.{field}", f"{sql}.{quoted(field)}", fields, lists)
    elif kind.id == "list":
        inner = kind.children[0][1]
        if inner.id == "struct":
            lists.append((name, sql, [(field, str(type_)) for field, type_ in inner.children]))
    elif kind.id not in ("map", "array", "union"):
        fields.append((name, sql))


Look = Callable[[Path], FileEvidence]
"""Opens one file."""
