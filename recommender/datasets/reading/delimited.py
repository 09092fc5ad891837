"""Reads CSV, TSV and text with semicolons or bars, in UTF-8, as columns of text."""

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading.header import checked_names, is_header, require_header
from recommender.datasets.reading.lines import Form, plain
from recommender.datasets.reading.raw import Part, RowMeans, Scan, literal, quoted, shortened
from recommender.datasets.reading.rewriting import is_empty, rewrite
from recommender.datasets.reading.text_rows import scan_rows
from recommender.datasets.reading.unpacking import new_file
from recommender.errors import SourceError

DELIMITERS = ",;\t|"
SAMPLE_CHARACTERS = 1 << 20
"""A million characters hold some ten thousand lines, enough for the delimiter. Chosen by hand."""
SAMPLE_RECORDS = 500
"""Enough to see what a column holds. A headerless file of four columns betrays itself in its first records."""


@dataclass(frozen=True)
class _Start:
    """The first records of a file, and the number of the line where the first of them begins."""

    skip: int
    records: list[list[str]]


def scan_delimited(part: Part, form: FileFormat, scratch: Path) -> Scan:
    """A query for a text file with a delimiter. `_row` is the record's line, see `RawTable.row_means`.

    `_row` counts records, not lines, where a plain file has line ends inside quotes or empty lines in its midst.

    Raises:
        SourceError: a name in the header is missing or doubled, there is no header, or a line is broken.
    """
    text = _beginning(part.path)
    skip, delimiter = _before_header(text)
    delimiter = form.delimiter or delimiter or _delimiter_of(text, skip)
    start = _Start(skip, _first_records(text, delimiter, skip))
    if not start.records:
        raise SourceError(f"{part.label}: the file has no line with a value")
    _refuse_title(part.label, text, start)
    names, has_header = _names(part.label, start, form)
    written = Form(delimiter, len(names), skip, has_header)
    structure = plain(part.path, written)
    if structure is None:
        target = new_file(scratch, ".parquet")
        rewrite(part.label, part.path, target, written, names)
        return scan_rows(target, names, "line")
    # Lines before the first record count only where every record is one line.
    before = skip + has_header if structure.row_is_line else 0
    query = _read_csv(part.path, names, written, before)
    means: RowMeans = "line" if structure.row_is_line else "record"
    return Scan(query, tuple(names), dict.fromkeys(names, "VARCHAR"), means, structure.trimmed)


def _read_csv(path: Path, names: list[str], form: Form, before: int) -> str:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    return (
        f"SELECT row_number() OVER () + {before} AS _row, {', '.join(map(quoted, names))} "
        f"FROM read_csv({literal(str(path))}, auto_detect = false, columns = {{{columns}}}, "
        f"header = {str(form.has_header).lower()}, skip = {form.skip}, strict_mode = true, "
        f"delim = {literal(form.delimiter)}, quote = '\"', escape = '\"', compression = 'none')"
    )


def _beginning(path: Path) -> str:
    """A file's first lines: whole ones, unless it is shorter than the sample."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        text = file.read(SAMPLE_CHARACTERS)
    if len(text) < SAMPLE_CHARACTERS:
        return text
    return text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text


def _before_header(text: str) -> tuple[int, str | None]:
    """How many lines stand before the header, and the delimiter that Excel's own first line names.

    They are empty, or comments of one field after a #, as in exports of Google Analytics.
    """
    skip, delimiter = 0, None
    for line in itertools.islice(_lines(text), SAMPLE_RECORDS):
        line = line.rstrip("\r\n")
        if line[:4].lower() == "sep=" and len(line) == 5 and delimiter is None:
            delimiter = line[4]
        elif not is_empty([line]) and not (line.startswith("#") and not any(mark in line for mark in DELIMITERS)):
            break
        skip += 1
    return skip, delimiter


def _lines(text: str) -> Iterator[str]:
    """Lines with their ends. `str.splitlines` also splits at characters that end no line of a file."""
    return io.StringIO(text, newline="")


def _first_records(text: str, delimiter: str, skip: int) -> list[list[str]]:
    """The first records that are not empty lines. Ends at the first that cannot be parsed."""
    records: list[list[str]] = []
    lines = itertools.islice(_lines(text), skip, None)
    try:
        for record in csv.reader(lines, delimiter=delimiter):
            if not is_empty(record):
                records.append(record)
            if len(records) > SAMPLE_RECORDS:
                break
    except csv.Error:
        pass  # the check of all lines names it
    return records


def _delimiter_of(text: str, skip: int) -> str:
    """The delimiter with which most records have as many fields as the first. Of equals the one with most fields.

    So a decimal comma in each record of a file with semicolons does not count: the header has none.
    """

    def fit(delimiter: str) -> tuple[float, int]:
        records = _first_records(text, delimiter, skip)
        if not records or len(records[0]) == 1:
            return 0.0, 0
        wanted = len(records[0])
        # One short line, such as the last of a file that was cut off, must not decide between two delimiters.
        return round(sum(len(record) == wanted for record in records) / len(records), 1), wanted

    return max(DELIMITERS, key=fit)


def _refuse_title(label: str, text: str, start: _Start) -> None:
    """Refuse a first line of one field where the lines below have several: a title above the header."""
    if len(start.records[0]) > 1 or len(start.records) < 3:
        return
    for delimiter in DELIMITERS:
        widths = [len(record) for record in _first_records(text, delimiter, start.skip)[1:]]
        width = max(set(widths), key=widths.count) if widths else 1
        # Commas in texts of a single column give widths that differ.
        if width > 1 and widths.count(width) > 0.8 * len(widths):
            raise SourceError(
                f"{label}: line {start.skip + 1} has one field, {shortened(start.records[0][0])}, but most lines below "
                f"have {width}: remove what stands above the header"
            )


def _names(label: str, start: _Start, form: FileFormat) -> tuple[list[str], bool]:
    """The columns' names, and whether the file's first record holds them."""
    first, rows = start.records[0], start.records[1:]
    where = f"line {start.skip + 1}"
    if form.header is None:
        require_header(label, first, rows, where=where)
        return checked_names(label, first, rows, where=where), True
    names = checked_names(label, form.header, rows, where="`header` in the mapping")
    return names, is_header(first, names)
