"""What opening a file gives: the name of a DuckDB view with the file's own rows, and SQL for names and texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RowMeans = Literal["line", "record", "row"]
"""What `_row` counts: lines of a text file (the first is 1), its records from 1, or rows of an Excel sheet."""
KEPT_NAMES = ("_file", "_row")
"""Columns that every view starts with, so no file may use these names."""
LONGEST_SHOWN = 80
"""Characters of a line that an error repeats: enough to find it in the file, and one line of a terminal."""


@dataclass(frozen=True)
class RawTable:
    """Rows of a source as they stand in it.

    Attributes:
        relation: name of a DuckDB view with `_file` (text), `_row` (BIGINT, see `row_means`), then `columns`.
        columns: the source's own columns, in its order.
        types: their DuckDB types. Texts (CSV, TSV, Excel) are VARCHAR. Parquet, JSON and databases keep their own.
        path: what an error calls the source.
        row_means: what `_row` counts. Of several files of different kinds: "record".
        trimmed: whether certainly no text begins or ends with a blank.
        num_files: in how many files the rows stand. `_row` tells those of one file apart.
        sequential: whether rows are numbered while they are read, which takes a single thread.
    """

    relation: str
    columns: tuple[str, ...]
    types: dict[str, str]
    path: str
    row_means: RowMeans
    trimmed: bool = False
    num_files: int = 1
    sequential: bool = False


@dataclass(frozen=True)
class Part:
    """One file on this machine: what an error and `_file` call it, and where it lies."""

    label: str
    path: Path


@dataclass(frozen=True)
class Scan:
    """A query that reads one file: `_row`, then its own `columns`."""

    query: str
    columns: tuple[str, ...]
    types: dict[str, str]
    row_means: RowMeans
    trimmed: bool = False


def quoted(name: str) -> str:
    """SQL for a column or a table."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """SQL for a text."""
    return "'" + text.replace("'", "''") + "'"


def first_line(error: BaseException) -> str:
    """The first line of an error's message. DuckDB's go on with advice about its own options."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shortened(text: str) -> str:
    """A text's beginning, in quotes, for an error."""
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…")
