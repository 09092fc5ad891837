"""Checks the names in a table's first row, and notices a first row that is data."""

import re
from collections.abc import Sequence
from typing import Literal

from recommender.datasets.reading.problems import NoHeaderError
from recommender.datasets.reading.raw import KEPT_NAMES, shortened
from recommender.errors import SourceError

Shape = Literal["number", "time", "code", "text"]

NUMBER = re.compile(r"[-+]?[$€£¥]?\s?\d[\d.,' ]*%?")
TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(:\d\d.*)?")
CODE = re.compile(r"[A-Za-z]{0,4}[-_]?\d{2,}|(?=.*\d)[0-9a-fA-F-]{16,}")
"""An identifier such as u17, C-0042 or a hash. A single digit, as in v1, is usual in a name."""
NULL_WORDS = ("", "null", "\\n", "nan", "na", "n/a", "none")
"""Words for a missing value, which say nothing about a row."""
ALIKE_SHARE = 0.9
"""Share of a column's values that must have one shape for it to say anything. By hand: null words break the rest."""


def checked_names(label: str, names: Sequence[str], rows: Sequence[Sequence[str]], *, where: str) -> list[str]:
    """The names without surrounding blanks.

    A column without a name is called `column_3` where that is harmless: the first one, in which pandas and R write row
    numbers, and columns at the end without a value.

    Raises:
        SourceError: one is empty, occurs twice (DuckDB compares without regard to case) or is kept for ourselves.
    """
    stripped = _with_harmless_names([name.strip().strip("\ufeff") for name in names], rows)
    seen: dict[str, int] = {}
    for number, name in enumerate(stripped, start=1):
        if not name:
            raise SourceError(f"{label}: {where}: column {number} of the header has no name; name it")
        earlier = seen.setdefault(name.lower(), number)
        if earlier != number:
            raise SourceError(
                f"{label}: {where}: column {name!r} occurs twice in the header, as columns {earlier} and {number} "
                "(letter case does not count); rename one of the two"
            )
        if name.lower() in KEPT_NAMES:
            raise SourceError(f"{label}: {where}: the name {name!r} is kept for a row's origin; rename the column")
    return stripped


def require_header(label: str, first: Sequence[str], rows: Sequence[Sequence[str]], *, where: str) -> None:
    """Refuse a first row that is data.

    It is data if every column whose values have one shape (number, time, code) has it in the first row too, or if its
    texts recur below in their own columns.

    Raises:
        SourceError: the table has no header; says what to write in the mapping.
    """
    below = [row for row in rows if list(row) != list(first)]
    if _looks_like_data(first, below):
        places = ", ".join('"…"' for _ in first)
        raise NoHeaderError(
            f"{label}: {where} holds values, not names of columns: {shortened(', '.join(first))}. The file has no "
            f"header: write header = [{places}] with its {len(first)} names for this file in the mapping. If these are "
            "its names, repeat them there",
            first,
        )


def is_header(first: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a first row repeats the names in the mapping, letter case aside."""
    return [name.strip().strip("\ufeff").lower() for name in first] == [name.lower() for name in names]


def _looks_like_data(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    if not below:
        return any(_shape(cell) in ("number", "time") for cell in first)
    alike = 0
    recurring = 0
    for column, cell in enumerate(first):
        values = [row[column].strip() for row in below if column < len(row) and row[column].strip()]
        if cell.strip().lower() in NULL_WORDS or not values:
            continue
        shape = _common_shape(values)
        if shape in ("number", "time", "code"):
            if _shape(cell) != shape:
                return False
            alike += 1
        elif cell.strip() in values:
            recurring += 1
    return alike + recurring > 0


def _common_shape(values: Sequence[str]) -> Shape | None:
    shapes = [_shape(value) for value in values]
    commonest = max(set(shapes), key=lambda shape: (shapes.count(shape), shape))
    return commonest if shapes.count(commonest) >= ALIKE_SHARE * len(shapes) else None


def _shape(cell: str) -> Shape:
    text = cell.strip()
    # A time first: 2024.03.01 is also made of digits and points.
    patterns: tuple[tuple[Shape, re.Pattern[str]], ...] = (("time", TIME), ("number", NUMBER), ("code", CODE))
    return next((shape for shape, pattern in patterns if pattern.fullmatch(text)), "text")


def _with_harmless_names(names: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    named = list(names)
    if len(names) > 1 and not names[0] and all(row[0].strip().isdigit() for row in rows if row):
        named[0] = "column_1"
    for column in reversed(range(len(names))):
        if named[column] or any(row[column].strip() for row in rows if column < len(row)):
            break
        named[column] = f"column_{column + 1}"
    # A header without any name stays as it is, and is refused.
    return named if any(names) else names
