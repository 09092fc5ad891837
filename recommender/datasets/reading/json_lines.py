"""Reads JSON lines (a record on each line) and JSON arrays of records, as columns of DuckDB's types.

All values of a column decide its type, not the first ones only. Texts stay texts: a time is not taken for one here,
since DuckDB would drop its zone, and an identifier such as a UUID stays as written. A nested record is a STRUCT, a list
a LIST; `query` in the mapping takes them apart.
"""

import json
import re
from pathlib import Path
from typing import NoReturn

import duckdb

from recommender.datasets.reading.raw import KEPT_NAMES, Part, RowMeans, Scan, first_line, literal, quoted, shortened
from recommender.errors import SourceError

NOT_A_FORMAT = "|"
"""A format of dates that no text has, so that none is taken for a date."""
AS_WRITTEN = re.compile(r'(?:^|(?<=[\w"] ))(?:UUID|JSON)\b')
"""Types, not names of a STRUCT's fields, that are read as text: a UUID for its letter case, values of several types."""
MOST_BYTES = 1 << 24
"""DuckDB's limit for one record."""


def scan_json(connection: duckdb.DuckDBPyConnection, part: Part) -> Scan:
    """A query for a file of JSON records. `_row` is the line, or the record's number in an array or after empty lines.

    Raises:
        SourceError: a line is not JSON, or not a record; or the file is one record that is no table.
    """
    with part.path.open(encoding="utf-8-sig") as file:
        start = file.read(1 << 16).lstrip()
    is_array = start.startswith("[")
    if not is_array:
        _refuse_document(part, start)
    layout = "array" if is_array else "newline_delimited"
    source = f"{literal(str(part.path))}, format = '{layout}', compression = 'uncompressed'"
    detection = (
        f"{source}, sample_size = -1, dateformat = '{NOT_A_FORMAT}', timestampformat = '{NOT_A_FORMAT}', "
        "map_inference_threshold = -1, field_appearance_threshold = 0"
    )
    try:
        found = connection.execute(f"DESCRIBE SELECT * FROM read_json({detection})").fetchall()
    except duckdb.Error as error:
        _refuse_line(part, is_array, f"cannot be read as JSON ({first_line(error)})")
    types = {str(name): AS_WRITTEN.sub("VARCHAR", str(kind)) for name, kind, *_ in found}
    if list(types) == ["json"] and not re.search(r'"json"\s*:', start):
        _refuse_line(part, is_array, 'its values are no records, such as {"id": 1}')
    _check_names(part, list(types), start)
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    row_means: RowMeans = "record" if is_array or _has_empty_lines(part.path) else "line"
    query = (
        f"SELECT row_number() OVER () AS _row, {', '.join(map(quoted, types))} "
        f"FROM read_json({source}, columns = {{{columns}}})"
    )
    return Scan(query, tuple(types), types, row_means)


def _refuse_document(part: Part, start: str) -> None:
    """Refuse a file that is one object over several lines, such as the answer of a web API."""
    try:
        json.loads(start.split("\n", 1)[0])
        return
    except ValueError:
        pass
    try:
        with part.path.open(encoding="utf-8-sig") as file:
            text = file.read(MOST_BYTES).strip()
        document = json.loads(text)
    except ValueError:
        return  # the search for the broken line names it
    if "\n" not in text:
        return  # a single long record
    lists = [key for key, value in document.items() if isinstance(value, list)]
    held = f"its key {lists[0]!r} holds a list: save that list as a file" if lists else "save a list of records"
    raise SourceError(f"{part.label}: one JSON object over several lines, not a record on each line; {held}")


def _check_names(part: Part, names: list[str], start: str) -> None:
    kept = next((name for name in names if name.lower() in KEPT_NAMES), None)
    if kept is not None:
        raise SourceError(f"{part.label}: the name {kept!r} is kept for a row's origin; rename the key")
    # DuckDB appends _1 to a key that another one equals but for letter case.
    lower = {name.lower() for name in names}
    twice = next((name for name in names if name.endswith("_1") and name[:-2].lower() in lower), None)
    if twice is not None and f'"{twice}"' not in start:
        raise SourceError(
            f"{part.label}: the key {twice[:-2]!r} occurs in two spellings (letter case does not count); rename one"
        )


def _refuse_line(part: Part, is_array: bool, problem: str) -> NoReturn:
    """Raise the error about the first line that is no record."""
    if not is_array:
        with part.path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                _refuse_unless_record(part, number, line)
    raise SourceError(f"{part.label}: {problem}") from None


def _refuse_unless_record(part: Part, number: int, line: str) -> None:
    if not line.strip():
        return
    try:
        value = json.loads(line)
    except ValueError as problem:
        cut = "; the file was perhaps cut off here" if not line.endswith("\n") else ""
        raise SourceError(
            f"{part.label}: line {number:,} is not JSON ({problem}): {shortened(line.strip())}{cut}"
        ) from None
    if not isinstance(value, dict):
        raise SourceError(f"{part.label}: line {number:,} is no record with keys: {shortened(line.strip())}")


def _has_empty_lines(path: Path) -> bool:
    """Whether a line without a record stands before another line."""
    empty = False
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                empty = True
            elif empty:
                return True
    return False
