"""Checks the structure of every line of a CSV file before DuckDB reads it, and mends what DuckDB cannot read.

DuckDB drops a surplus field at the end of a line in silence, stops at line ends of two kinds, and its error about a
short line has no room for the line. So the file is scanned once here, on bytes (`plain`). A file that is not plain is
read field by field and written anew (`rewrite`), which finds the first wrong line.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

import numpy as np
from numpy.typing import NDArray

from recommender.datasets.reading.raw import shortened
from recommender.errors import SourceError

BLOCK_BYTES = 1 << 22
LONGEST_LINE_BYTES = 2_000_000
"""DuckDB's own limit for a line."""
QUOTE, LINE_FEED, RETURN = b'"\n\r'
EMPTY = " \t\x1a\x00"
"""What a line without a value may hold: DOS programs end a file with the character 26."""
ESCAPED_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)\\"')
"""A quote after an odd number of backslashes."""


@dataclass(frozen=True)
class Form:
    """How the fields of a text file are written."""

    delimiter: str
    wanted: int
    """Fields of a line."""
    skip: int
    """Lines before the header, or before the first record where there is no header."""
    has_header: bool


@dataclass(frozen=True)
class Structure:
    """What DuckDB needs to know of a plain file."""

    row_is_line: bool
    """Whether each record is one line, without empty ones between them."""


def plain(path: Path, form: Form) -> Structure | None:
    """Scan a file on bytes. None: it has a line that `rewrite` must look at.

    A plain file has the wanted number of fields in each line, quotes only around whole fields, and line ends of one
    kind. Lines may be empty, and quoted fields may hold line ends.
    """
    if len(form.delimiter.encode()) != 1:
        return None
    scan = _Scan(ord(form.delimiter), form)
    with path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        for _ in range(form.skip):
            file.readline()
        for block in _whole_lines(file.read, BLOCK_BYTES):
            if len(block) > BLOCK_BYTES + LONGEST_LINE_BYTES or not scan.take(block):
                return None
    return scan.result()


class _Scan:
    """State between blocks: whether a quote is open, the fields of the record so far, and what was seen."""

    def __init__(self, delimiter: int, form: Form) -> None:
        self.delimiter, self.wanted = delimiter, form.wanted
        self.open_quote = 0
        self.fields_before = 0
        self.returns: bool | None = None
        self.multiline = self.empty_inside = self.empty_last = False

    def take(self, block: bytes) -> bool:
        """Look at some whole lines. False: not plain."""
        bytes_N = np.frombuffer(block if block.endswith(b"\n") else block + b"\n", dtype=np.uint8)
        ends_L = np.flatnonzero(bytes_N == LINE_FEED)
        delimiters_D = np.flatnonzero(bytes_N == self.delimiter)
        if not self._same_line_ends(block, bytes_N, ends_L):
            return False
        quotes_Q = np.flatnonzero(bytes_N == QUOTE)
        if len(quotes_Q) or self.open_quote:
            if not self._proper_quotes(bytes_N, quotes_Q):
                return False
            outside_L = (np.searchsorted(quotes_Q, ends_L) + self.open_quote) % 2 == 0
            self.multiline |= not outside_L.all()
            ends_L = ends_L[outside_L]
            delimiters_D = delimiters_D[(np.searchsorted(quotes_Q, delimiters_D) + self.open_quote) % 2 == 0]
            starts_with_open_quote = bool(self.open_quote)
            self.open_quote = (self.open_quote + len(quotes_Q)) % 2
        else:
            starts_with_open_quote = False
        return self._right_counts(bytes_N, ends_L, delimiters_D, starts_with_open_quote)

    def result(self) -> Structure | None:
        return None if self.open_quote else Structure(not self.multiline and not self.empty_inside)

    def _same_line_ends(self, block: bytes, bytes_N: NDArray[np.uint8], ends_L: NDArray[np.intp]) -> bool:
        """Whether all lines end alike: each with a return before the line feed, or none with a return at all."""
        returns = block.count(b"\r")
        before = int(np.count_nonzero(bytes_N[ends_L[ends_L > 0] - 1] == RETURN)) if returns else 0
        lines = len(ends_L) - (not block.endswith(b"\n"))
        if self.returns is None:
            self.returns = returns > 0
        return returns == before and returns == (lines if self.returns else 0)

    def _proper_quotes(self, bytes_N: NDArray[np.uint8], quotes_Q: NDArray[np.intp]) -> bool:
        """Whether each opening quote begins a field and each closing one ends it, doubled quotes aside."""
        if not len(quotes_Q):
            return True
        opening, closing = quotes_Q[self.open_quote :: 2], quotes_Q[1 - self.open_quote :: 2]
        before = bytes_N[opening[opening > 0] - 1]
        after = bytes_N[closing + 1]  # a block ends with a line feed, so there is one
        begins = (before == self.delimiter) | (before == LINE_FEED) | (before == QUOTE)
        ends = (after == self.delimiter) | (after == LINE_FEED) | (after == RETURN) | (after == QUOTE)
        return bool(begins.all() and ends.all())

    def _right_counts(
        self,
        bytes_N: NDArray[np.uint8],
        ends_L: NDArray[np.intp],
        delimiters_D: NDArray[np.intp],
        starts_with_open_quote: bool,
    ) -> bool:
        """Whether each record that ends in the block has the wanted number of fields."""
        before_L = np.searchsorted(delimiters_D, ends_L)
        if not len(ends_L):
            self.fields_before += len(delimiters_D)
            return True
        counts_L = np.diff(before_L, prepend=0) + 1
        counts_L[0] += self.fields_before
        self.fields_before = len(delimiters_D) - int(before_L[-1])
        lengths_L = np.diff(ends_L, prepend=-1) - 1
        if bool((lengths_L > LONGEST_LINE_BYTES).any()):
            return False
        empty_L = (lengths_L == 0) | ((lengths_L == 1) & (bytes_N[ends_L - 1] == RETURN))
        if starts_with_open_quote:
            empty_L[0] = False
        if self.wanted == 1 and empty_L.any():
            return False  # DuckDB reads an empty line of a single column as a missing value
        # Empty lines at the end are no trouble; a record after one is.
        filled = np.flatnonzero(~empty_L)
        if len(filled):
            self.empty_inside |= self.empty_last or bool(empty_L[: filled[-1]].any())
            self.empty_last = bool(empty_L[filled[-1] :].any())
        else:
            self.empty_last = True
        return bool((counts_L[~empty_L] == self.wanted).all())


def _whole_lines(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    """Blocks that end with a line feed. The last may not."""
    rest = b""
    while block := read(size):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = block[cut:]
        else:
            rest += block
            if len(rest) > BLOCK_BYTES + LONGEST_LINE_BYTES:
                break
    if rest:
        yield rest


def rewrite(label: str, path: Path, target: Path, form: Form) -> None:
    r"""Write a file anew with commas, quotes where needed, and each record's line number as its first field.

    Quotes are tried in up to three ways, and the first that fits all lines holds: as RFC 4180 says; escaped by
    backslashes (`\"`, from MySQL); not as quotes at all, for a file with tabs, whose writers often know none.

    Raises:
        SourceError: a line has too few or too many fields, or a quote is not closed. Names the first such line.
    """
    problem: SourceError | None = None
    for quotes in ("doubled", "escaped", "none"):
        try:
            with target.open("w", encoding="utf-8", newline="") as out:
                _copy_records(label, path, out, form, quotes)
            return
        except _NeverCloses:
            raise
        except SourceError as error:
            problem = problem or error
            if quotes == "doubled" and not isinstance(error, _OddQuote):
                break
            if quotes == "escaped" and form.delimiter != "\t":
                break
    assert problem is not None
    raise problem


class _OddQuote(SourceError):
    """Text follows a closing quote."""


class _NeverCloses(SourceError):
    """A quote has no end."""


def _copy_records(label: str, path: Path, out: TextIO, form: Form, quotes: str) -> None:
    writer = csv.writer(out, lineterminator="\n")
    first_wrong = ""
    num_wrong = 0
    for line, record, text in _records(label, path, form, quotes):
        if len(record) != form.wanted:
            num_wrong += 1
            first_wrong = first_wrong or _wrong_count(label, line, record, text, form)
        elif not first_wrong:
            writer.writerow((line, *record))
    if num_wrong > 1:
        raise SourceError(f"{first_wrong}. {num_wrong - 1:,} other lines are wrong too")
    if num_wrong:
        raise SourceError(first_wrong)


def _records(label: str, path: Path, form: Form, quotes: str) -> Iterator[tuple[int, list[str], str]]:
    """Each record after the header: the line where it begins, its fields, and that line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = _Lines(file, escaped=quotes == "escaped")
        for _ in range(form.skip):
            next(lines)
        if quotes == "none":
            reader = csv.reader(lines, delimiter=form.delimiter, quoting=csv.QUOTE_NONE)
        else:
            reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
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
