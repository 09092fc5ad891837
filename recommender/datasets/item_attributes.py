"""Reads a file of item attributes and texts, and makes the catalogue of items that sequences refer to.

Shapes: V items, rows 1 … V · P pairs of item and attribute.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recommender.datasets.event_columns import ITEM, find_column, names
from recommender.datasets.mapping import FileFormat
from recommender.datasets.reading import open_file
from recommender.datasets.values import Column, Identifier, read_columns
from recommender.datasets.values.readings import quoted
from recommender.errors import ContractError, SourceError
from recommender.sequences import Items

TEXT_COLUMNS = ("text", "title", "name", "description")
"""Names of a column of texts. The first that a file has is read."""
HINT = "put values that rankers should know into 'attributes', joined by |"
_EMPTY = "''"
ADJACENT_QUOTES = re.compile(r"""(['"])\s+(?=['"])""")
"""Between two quoted values of a NumPy array that was printed as text, where a list would have a comma."""


@dataclass(frozen=True)
class Listed:
    """The rows of a file of attributes.

    Attributes:
        path: The file.
        item_column: Its column of items.
        names: The item of each row.
        places: Where each row is, for errors.
        attributes: The cell of each row. None where the file has no attributes.
        texts: The text of each row, empty where there is none. None where the file has no texts.
    """

    path: Path
    item_column: str
    names: NDArray[np.str_]
    places: Sequence[str]
    attributes: Sequence[Any] | None
    texts: Sequence[str] | None


def read_attributes(connection: duckdb.DuckDBPyConnection, path: Path, *, scratch: Path) -> Listed:
    """The rows of a file with item, and attributes or a text.

    Columns that are not read are named in a warning.

    Raises:
        SourceError: The file cannot be read, or lacks item, or has neither attributes nor a text.
        ContractError: An item is empty; names its row.
    """
    raw = open_file(connection, path, FileFormat(file=str(path)), name="raw_attributes", scratch=scratch)
    item, text = find_column(ITEM, raw.columns), next((one for one in TEXT_COLUMNS if one in raw.columns), None)
    if item is None:
        raise SourceError(f"{path}: no column 'item'; there are {names(raw.columns)}")
    has_attributes = "attributes" in raw.columns
    if not has_attributes and text is None:
        others = names([name for name in raw.columns if name != item]) or "no other column"
        raise SourceError(f"{path}: neither 'attributes' nor a text ({', '.join(TEXT_COLUMNS)}), but {others}; {HINT}")
    unread = [name for name in raw.columns if name not in (item, "attributes", text)]
    if unread:
        warnings.warn(f"{path}: these columns are not read: {', '.join(unread)}; {HINT}", stacklevel=3)
    column = Column(
        connection, raw.relation, item, raw.types[item], path.name, item, path.name, nulls=(), row_means=raw.row_means
    )
    readings = read_columns({ITEM: Identifier(column)})
    name = readings.of[ITEM].value
    rows = connection.execute(
        f"SELECT _file, _row, {name}, {'attributes' if has_attributes else 'NULL'}, "
        f"{f'coalesce({quoted(text)}::VARCHAR, {_EMPTY})' if text is not None else 'NULL'} FROM {readings.relation}"
    ).fetchall()
    places = [column.place(file, row) for file, row, *_ in rows]
    empty = next((place for place, row in zip(places, rows, strict=True) if not row[2]), None)
    if empty is not None:
        raise ContractError(path.name, "is empty; fill it in or leave the row out", column=item, row=empty)
    return Listed(
        path,
        item,
        np.array([row[2] for row in rows], dtype=np.str_),
        places,
        [row[3] for row in rows] if has_attributes else None,
        [row[4] for row in rows] if text is not None else None,
    )


def catalogue(ids: NDArray[np.str_], listed: Listed, item_names: NDArray[np.str_]) -> Items:
    """The items `ids` with the attributes and texts that the file has of them.

    Args:
        ids: Names of all items, sorted.
        listed: The rows of the file. An item may stand in several.
        item_names: The item of each row, as `ids` writes it.

    Raises:
        ContractError: An attribute is itself a list; names its row.
    """
    rows = np.searchsorted(ids, item_names) + 1
    texts = _texts(listed, rows, len(ids))
    if listed.attributes is None:
        return Items(tuple(ids.tolist()), texts=texts)
    pairs = []
    for number, (row, of_row) in enumerate(zip(rows.tolist(), listed.attributes, strict=True)):
        values = _values(of_row)
        if not all(map(pd.api.types.is_scalar, values)):
            problem = f"holds lists or structs within a list; write plain values (got {of_row!r})"
            raise ContractError(listed.path.name, problem, column="attributes", row=listed.places[number])
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


def _texts(listed: Listed, rows: NDArray[np.int64], num_items: int) -> tuple[str, ...] | None:
    """Each item's text. Of several texts the last one that is not empty counts. None where the file has no texts."""
    if listed.texts is None:
        return None
    texts = [""] * num_items
    for row, value in zip(rows.tolist(), listed.texts, strict=True):
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
