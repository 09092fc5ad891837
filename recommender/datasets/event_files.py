"""Reads one file of events or item attributes into a frame, and the names in it into text.

Rows are counted from 0 in error messages, the header aside, as pandas and pyarrow count them.
"""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recommender.errors import ContractError, SourceError

EXACT_BELOW = 2**53
"""A float64 holds every whole number below this one exactly (its mantissa has 53 bits), and not every one above."""
LONGEST_NAME = 1000
"""Characters. NumPy gives each name the space of the longest, so one runaway text would fill the memory. By hand."""
MOST_SHOWN = 300
"""Characters of a file's column names, and of a value, in an error message: a few lines of a terminal. By
hand."""


def read_frame(path: Path) -> pd.DataFrame:
    """All rows of a Parquet file or of a CSV with commas, semicolons, tabs or bars, user and item of a CSV as text.

    Raises:
        SourceError: The file is missing, unreadable, or has rows with more fields than its header.
    """
    if not path.is_file():
        problem = "a folder, not a file" if path.is_dir() else "not a plain file" if path.exists() else "no such file"
        raise SourceError(f"{path}: {problem}")
    kind = "Parquet" if path.suffix.lower() in (".parquet", ".pq") else "CSV"
    try:
        if kind == "Parquet":
            frame = pd.read_parquet(path)
            return frame.reset_index() if any(frame.index.names) else frame
        separator = _separator(list(pd.read_csv(path, nrows=0).columns))
        frame = pd.read_csv(
            path, sep=separator, dtype={"user": str, "item": str}, keep_default_na=False, na_values=[""]
        )
    except Exception as error:  # pandas and pyarrow raise many kinds for a damaged file
        raise SourceError(f"{path}: cannot be read as {kind} ({error})") from None
    if not isinstance(frame.index, pd.RangeIndex):
        raise SourceError(
            f"{path}: its rows have more fields than its header ({column_names(frame)}); name every column, or quote "
            "fields that contain the separator"
        )
    return frame


def column_names(frame: pd.DataFrame) -> str:
    """The names of a frame's columns for an error message, shortened where there are many."""
    return textwrap.shorten(", ".join(map(str, frame.columns)), MOST_SHOWN, placeholder=" …")


def require_column(frame: pd.DataFrame, column: str, path: Path) -> None:
    """Check that `column` is there and has a value in every row.

    Raises:
        SourceError: There is no such column.
        ContractError: A value is missing or blank; names its row.
    """
    if column not in frame.columns:
        raise SourceError(f"{path}: no column {column!r}; there are {column_names(frame)}")
    values = frame[column]
    empty = values.isna()
    if not pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_datetime64_any_dtype(values):
        empty |= values.astype(str).str.strip() == ""
    refuse_rows(empty, "is empty; fill it in or leave the row out", values, path, shows_value=False)


def refuse_rows(
    wrong: "pd.Series[bool] | NDArray[np.bool_]",
    problem: str,
    values: "pd.Series[Any]",
    path: Path,
    *,
    shows_value: bool = True,
) -> None:
    """Check that no row is `wrong`.

    Raises:
        ContractError: One is; names the file, the column, the first such row and its value.
    """
    rows = np.flatnonzero(wrong)
    if len(rows):
        row = int(rows[0])
        shown = f"{problem} (got {_shown(values.iloc[row])})" if shows_value else problem
        raise ContractError(path.name, shown, column=str(values.name), row=f"row {row}")


def names_of(values: "pd.Series[Any]", path: Path) -> NDArray[np.str_]:
    """Users or items as text, without the blanks around it.

    Whole numbers that are written with .0 (integers in a column that once had a gap) are read as integers.

    Raises:
        ContractError: A name is too long, or a float too large to tell one name from the next; names its row.
    """
    if pd.api.types.is_float_dtype(values) and bool((values % 1 == 0).all()):
        problem = "is a float too large to tell one name from the next; write integers or text"
        refuse_rows(values.abs() >= EXACT_BELOW, problem, values, path)
        values = values.astype("int64")
    text = values.astype(str).str.strip()
    if text.str.fullmatch(r"-?\d+\.0").all():
        text = text.str.removesuffix(".0")
    problem = f"is longer than {LONGEST_NAME} characters; use a shorter name"
    refuse_rows(text.str.len() > LONGEST_NAME, problem, values, path)
    return np.asarray(text.to_numpy(), dtype=np.str_)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _separator(header: list[str]) -> str:
    """The separator of a CSV whose header was read with commas: the one in its only column name, or else a comma."""
    only = header[0] if len(header) == 1 else ""
    return next((one for one in ";\t|" if one in only), ",")
