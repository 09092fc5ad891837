"""Reads a file of item attributes and texts, and makes the catalogue of items that sequences refer to.

Shapes: V items, rows 1 … V · P pairs of item and attribute.
"""

import ast
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recommender.datasets.event_files import column_names, read_frame, require_column
from recommender.errors import ContractError, SourceError
from recommender.sequences import Items

TEXT_COLUMNS = ("text", "title", "name", "description")
"""Names of a column of texts. The first that a file has is read."""
HINT = "put values that rankers should know into 'attributes', joined by |"
ADJACENT_QUOTES = re.compile(r"""(['"])\s+(?=['"])""")
"""Between two quoted values of a NumPy array that was printed as text, where a list would have a comma."""


def read_attributes(path: Path) -> pd.DataFrame:
    """A frame with item, and attributes or a text.

    Columns that are not read are named in a warning.

    Raises:
        SourceError: The file cannot be read, or lacks item, or has neither attributes nor a text.
        ContractError: An item is empty; names its row.
    """
    frame = read_frame(path)
    require_column(frame, "item", path)
    text = _text_column(frame)
    if "attributes" not in frame.columns and text is None:
        others = column_names(frame.drop(columns="item")) or "no other column"
        raise SourceError(f"{path}: neither 'attributes' nor a text ({', '.join(TEXT_COLUMNS)}), but {others}; {HINT}")
    unread = [str(one) for one in frame.columns if one not in ("item", "attributes", text)]
    if unread:
        warnings.warn(f"{path}: these columns are not read: {', '.join(unread)}; {HINT}", stacklevel=2)
    return frame


def catalogue(ids: NDArray[np.str_], listed: pd.DataFrame, names: NDArray[np.str_], path: Path) -> Items:
    """The items `ids` with the attributes and texts that the file has of them.

    Args:
        ids: Names of all items, sorted.
        listed: The file of attributes. An item may stand in several rows.
        names: The item of each row of `listed`, as `ids` writes it.
        path: The file's path, for error messages.

    Raises:
        ContractError: An attribute is itself a list; names its row.
    """
    rows = np.searchsorted(ids, names) + 1
    texts = _texts(listed, rows, len(ids))
    if "attributes" not in listed.columns:
        return Items(tuple(ids.tolist()), texts=texts)
    pairs = []
    for number, (row, of_row) in enumerate(zip(rows.tolist(), listed["attributes"].tolist(), strict=True)):
        values = _values(of_row)
        if not all(map(pd.api.types.is_scalar, values)):
            problem = f"holds lists or structs within a list; write plain values (got {of_row!r})"
            raise ContractError(path.name, problem, column="attributes", row=f"row {number}")
        pairs += [(row, str(one)) for one in values if not pd.isna(one) and str(one).strip()]
    values_K, codes_P = np.unique(np.array([value for _, value in pairs], dtype=np.str_), return_inverse=True)
    item_P = np.array([row for row, _ in pairs], dtype=np.int64)
    empty = np.zeros((0, 2), dtype=np.int64)
    both_P2 = np.unique(np.stack([item_P, codes_P], axis=1), axis=0) if len(pairs) else empty
    return Items(
        tuple(ids.tolist()),
        attribute_offsets=np.searchsorted(both_P2[:, 0], np.arange(len(ids) + 2)).astype(np.int64),
        attributes_P=both_P2[:, 1].astype(np.int32),
        num_attributes=len(values_K),
        texts=texts,
    )


def _text_column(frame: pd.DataFrame) -> str | None:
    return next((one for one in TEXT_COLUMNS if one in frame.columns), None)


def _texts(listed: pd.DataFrame, rows: NDArray[np.int64], num_items: int) -> tuple[str, ...] | None:
    """Each item's text. Of several texts the last one that is not empty counts. None where the file has no texts."""
    column = _text_column(listed)
    if column is None:
        return None
    texts = [""] * num_items
    values = listed[column].astype(object).where(listed[column].notna(), "").astype(str)
    for row, value in zip(rows.tolist(), values, strict=True):
        texts[row - 1] = value or texts[row - 1]
    return tuple(texts)


def _values(cell: Any) -> list[Any]:
    """The attributes in one cell: a list, a list written as text, values with | between, or one value."""
    if not isinstance(cell, str):
        return list(cell) if isinstance(cell, (list, tuple, np.ndarray)) else [cell]
    is_list = cell.startswith("[") and cell.endswith("]")
    if is_list:
        with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return list(ast.literal_eval(ADJACENT_QUOTES.sub(r"\1, ", cell)))
    parts = cell[1:-1].split(",") if is_list else cell.split("|")
    return [one.strip(" '\"") for one in parts if one.strip(" '\"")]
