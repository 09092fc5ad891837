"""Reads a CSV file that DuckDB cannot read as it stands, field by field, and copies it.

This is some ten times slower than `lines.plain`, so it sees only files with a wrong line, quotes inside fields, line
ends of two kinds and the like.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from recommender.datasets.reading.lines import Form
from recommender.datasets.reading.raw import shortened
from recommender.datasets.reading.text_rows import copy_rows
from recommender.errors import SourceError

Quotes = Literal["doubled", "after blanks", "escaped", "none"]

EMPTY = " \t\x1a\x00"
"""What a line without a value may hold: DOS programs end a file with the character 26."""
ESCAPED_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)\\"')
"""A quote after an odd number of backslashes."""


def rewrite(label: str, path: Path, target: Path, form: Form, names: Sequence[str]) -> None:
    r"""Copy a file's records to a Parquet file of texts, where `_row` is the line in which a record begins.

    Quotes are tried in up to four ways, and the first that fits all lines holds: as RFC 4180 says; after blanks, as in
    `1, "a, b"`; escaped by backslashes (`\"`, from MySQL); not as quotes at all, for a file with tabs, whose writers
    often know none.

    Raises:
        SourceError: a line has too few or too many fields, or a quote is not closed. Names the first such line.
    """
    ways: tuple[Quotes, ...] = ("doubled", "after blanks", "escaped", "none")
    problem: SourceError | None = None
    for quotes in ways:
        # Where quotes are in order, a line with too few or too many fields is just that.
        if problem is not None and quotes in ("escaped", "none") and not isinstance(problem, _OddQuote):
            break
        if quotes == "none" and form.delimiter != "\t":
            break
        try:
            copy_rows(target, names, _right_records(label, path, form, quotes))
            return
        except SourceError as error:
            problem = problem or error
            if isinstance(error, _NeverCloses):
                break
    assert problem is not None
    raise problem


class _OddQuote(SourceError):
    """Text follows a closing quote."""


class _NeverCloses(SourceError):
    """A quote has no end."""


def _right_records(label: str, path: Path, form: Form, quotes: Quotes) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of each record up to the first wrong one. Then all others are checked too."""
    first_wrong = ""
    num_wrong = 0
    for line, record, text in _records(label, path, form, quotes):
        if len(record) != form.wanted:
            num_wrong += 1
            first_wrong = first_wrong or _wrong_count(label, line, record, text, form)
        elif not first_wrong:
            yield line, record
    if num_wrong > 1:
        raise SourceError(f"{first_wrong}. {num_wrong - 1:,} other lines are wrong too")
    if num_wrong:
        raise SourceError(first_wrong)


def _records(label: str, path: Path, form: Form, quotes: Quotes) -> Iterator[tuple[int, list[str], str]]:
    """Each record after the header: the line where it begins, its fields, and that line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = _Lines(file, escaped=quotes == "escaped")
        for _ in range(form.skip):
            next(lines)
        if quotes == "none":
            reader = csv.reader(lines, delimiter=form.delimiter, quoting=csv.QUOTE_NONE)
        else:
            blanks = quotes == "after blanks"
            reader = csv.reader(lines, delimiter=form.delimiter, strict=True, skipinitialspace=blanks)
        skip_header = form.has_header
        while True:
            begin = lines.number + 1
            lines.first = ""
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                _refuse_quote(label, begin, lines, str(error))
            if is_empty(record, form.wanted):
                continue
            if skip_header:
                skip_header = False
            else:
                yield begin, record, lines.first


def is_empty(record: Sequence[str], wanted: int = 2) -> bool:
    """Whether a record is an empty line."""
    return not record or (len(record) == 1 and (wanted > 1 or not record[0]) and not record[0].strip(EMPTY))


class _Lines:
    """The lines of a text file, counted. `first` is the first one since it was last emptied."""

    def __init__(self, file: Iterator[str], *, escaped: bool) -> None:
        self.file, self.escaped, self.number, self.first = file, escaped, 0, ""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self.file)
        self.number += 1
        self.first = self.first or line
        return ESCAPED_QUOTE.sub(r'\1""', line) if self.escaped else line


def _wrong_count(label: str, line: int, record: list[str], text: str, form: Form) -> str:
    shown = shortened(text.rstrip("\r\n"))
    cut = " It is the last line and has no line end: the file was perhaps cut off" if text[-1:] not in "\r\n" else ""
    what = f"{len(record)} field{'s' * (len(record) != 1)} where {form.wanted} are wanted"
    surplus = len(record) > form.wanted
    if surplus and not "".join(record[form.wanted :]).strip():
        hint = "; remove the delimiter at the end of the line, or add one to the header"
    elif surplus:
        hint = f"; put a field that holds {form.delimiter!r} in quotes"
    else:
        hint = ""
    return f"{label}: line {line:,} has {what}: {shown}{hint}{cut}"


def _refuse_quote(label: str, begin: int, lines: _Lines, problem: str) -> NoReturn:
    place, shown = f"{label}: line {begin:,}", shortened(lines.first.rstrip("\r\n"))
    if "unexpected end of data" in problem:
        raise _NeverCloses(f"{place}: a quote opens in this record and never closes: {shown}") from None
    if "larger than field limit" in problem:
        raise _NeverCloses(f"{place}: a quote opens in this record and does not close for long: {shown}") from None
    where = "" if lines.number == begin else f" on line {lines.number:,}; perhaps a quote opens too early"
    raise _OddQuote(
        f"{place}: in this record text follows a closing quote{where}; write a quote in a quoted field twice: {shown}"
    ) from None
