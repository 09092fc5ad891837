"""Checks the structure of every line of a CSV file before DuckDB reads it.

DuckDB drops a surplus field at the end of a line in silence, stops at line ends of two kinds, and its error about a
short line has no room for the line. So the file is scanned once here, on bytes. A file that is not plain goes to
`rewriting`, which finds the first wrong line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 22
"""Read at once: little memory, few calls. Chosen by hand."""
LONGEST_LINE_BYTES = 2_000_000
"""DuckDB's own limit for a line."""
QUOTE, LINE_FEED, RETURN = b'"\n\r'


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
    trimmed: bool = False
    """Whether certainly no field begins or ends with a blank, so that nobody needs to look for them again."""


def plain(path: Path, form: Form) -> Structure | None:
    """Scan a file on bytes. None: it has a line that `rewriting` must look at.

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
            if b"\r" in file.readline().rstrip(b"\r\n"):
                return None  # lines that end with a lone return are not told apart here
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
        self.trimmed = True
        # A byte of more than 127 may belong to a wide blank. Beside a delimiter a line end is an empty field.
        codes_256 = np.arange(256)
        self.may_be_blank_256 = ((codes_256 <= 32) | (codes_256 >= 128)) & ~np.isin(
            codes_256, (LINE_FEED, RETURN, delimiter)
        )

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
            self.trimmed = False  # a blank inside of quotes is not looked for
        else:
            starts_with_open_quote = False
        if self.trimmed:
            self.trimmed = not self._has_blanks_around(bytes_N, ends_L, delimiters_D)
        return self._right_counts(bytes_N, ends_L, delimiters_D, starts_with_open_quote)

    def result(self) -> Structure | None:
        if self.open_quote:
            return None
        return Structure(not self.multiline and not self.empty_inside, self.trimmed)

    def _has_blanks_around(
        self, bytes_N: NDArray[np.uint8], ends_L: NDArray[np.intp], delimiters_D: NDArray[np.intp]
    ) -> bool:
        """Whether a field may begin or end with a blank. Without quotes, so all delimiters and line feeds count."""
        lasts_L = ends_L - 1 - (bytes_N[ends_L - 1] == RETURN)  # of an empty first line it is the block's last byte
        places = (delimiters_D[delimiters_D > 0] - 1, delimiters_D + 1, lasts_L, ends_L[:-1] + 1, np.zeros(1, np.intp))
        return any(bool(self.may_be_blank_256[bytes_N[at]].any()) for at in places)

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
