"""Purchase lines of one file of events, as the last build kept them, and all files' lines together in one order.

The lines of a file depend on its bytes, the program, the currency and the zone, and on nothing else. So the next build
reads those of the files that did not change instead of parsing and sorting the events again. What depends on the
taxonomy (an item's row and its values on the axes) is not kept.

Columns of a file: `BY` as dictionaries, the columns of `Source.lines` without the axes, and those of
`bought.money_columns`. Rows are sorted by `BY` and time.

Shapes: T lines of all files · V items, the unknown one first.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recommender.features.bought import MONEY_COLUMNS, NEVER, Ints, microseconds_of, money_columns
from recommender.features.source import Source
from recommender.features.taxonomy import Taxonomy

BY = ("user_id", "basket", "item_id")
"""Texts that lines are sorted by, first of all."""
TEXTS = (*BY, "store_id")
_INDEX = pa.int32()


def lines_of_file(source: Source, path: Path) -> pa.Table:
    """The purchase lines of one file of events of `source`."""
    of_file = replace(source, rows={**source.rows, "events": source.backend.read_parquet(path)}, last=None)
    bought = of_file.events.filter(of_file.events.kind == "purchase").drop("kind", "rating_cents")
    rows = bought.mutate(**money_columns(bought)).order_by(*BY, "event_time").to_pyarrow().combine_chunks()
    for name in TEXTS:
        texts = rows[name].combine_chunks().dictionary_encode()
        rows = rows.set_column(rows.column_names.index(name), name, texts)
    return rows


def write_lines(rows: pa.Table, path: Path) -> None:
    """Write what `lines_of_file` returned."""
    # Numbers have few repeats that a dictionary would save, and plain ones are read faster.
    pq.write_table(rows, path, compression="lz4", use_dictionary=list(TEXTS))


def read_lines(path: Path) -> pa.Table:
    """Read what `write_lines` wrote."""
    return pq.read_table(path, read_dictionary=list(TEXTS), partitioning=None).combine_chunks()


def together(files: Sequence[pa.Table], taxonomy: Taxonomy) -> pa.Table:
    """All files' lines, sorted by user, basket, item's row, time and money, as `bought.lines_of` sorts them.

    Texts are dictionaries in alphabetical order. `item_row` takes the place of `item_id`.
    """
    numbered = {name: _numbered([file[name] for file in files]) for name in ("user_id", "basket", "store_id")}
    items = pa.array(taxonomy.item_ids[1:], pa.string())
    item_row_T = _rows_of([file["item_id"] for file in files], items)
    (user_T, _), (basket_T, baskets) = numbered["user_id"], numbered["basket"]
    key_T = user_T.astype(np.int64) * len(baskets) + basket_T
    rest = pa.concat_tables([file.drop_columns(list(TEXTS)) for file in files]).combine_chunks()
    order = _order(key_T, item_row_T, rest)
    place = pa.array(order)
    columns: dict[str, Any] = {
        name: pa.DictionaryArray.from_arrays(pa.array(codes_T[order], _INDEX, mask=codes_T[order] < 0), texts)
        for name, (codes_T, texts) in numbered.items()
    }
    columns["item_row"] = pa.array(item_row_T[order])
    return pa.table({**columns, **{name: rest[name].take(place) for name in rest.column_names}})


def _numbered(columns: Sequence[pa.ChunkedArray]) -> tuple[NDArray[np.int32], pa.Array]:
    """The number of each text among all in alphabetical order, -1 for none, and the texts."""
    arrays = [column.combine_chunks() for column in columns]
    listed = pa.concat_arrays([array.dictionary for array in arrays]).dictionary_encode()
    order = pc.sort_indices(listed.dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order))
    return _spread(rank[listed.indices.to_numpy()], arrays, -1), listed.dictionary.take(pa.array(order))


def _rows_of(columns: Sequence[pa.ChunkedArray], items: pa.Array) -> NDArray[np.int32]:
    """The item's row in the taxonomy, 0 for one that it does not know. `items`: those of the rows from 1 on."""
    arrays = [column.combine_chunks() for column in columns]
    listed = pa.concat_arrays([array.dictionary for array in arrays])
    rows = pc.fill_null(pc.index_in(listed, value_set=items), -1).to_numpy() + 1
    return _spread(rows.astype(np.int32), arrays, 0)


def _spread(values: NDArray[np.int32], arrays: Sequence[pa.DictionaryArray], missing: int) -> NDArray[np.int32]:
    """The values of all rows. `values`: of the dictionaries, in a row. `missing`: of a row without a text."""
    ends = np.cumsum([len(array.dictionary) for array in arrays])
    found = []
    for array, of_file in zip(arrays, np.split(values, ends[:-1]), strict=True):
        of_file = np.append(of_file, np.int32(missing))
        found.append(of_file[pc.fill_null(array.indices, -1).to_numpy()])
    return np.concatenate(found)


def _order(key_T: Ints, item_row_T: NDArray[np.int32], rest: pa.Table) -> Ints:
    """The order of all lines by user and basket, item, time and money.

    The files are in that order but for baskets of two files and items whose rows are not in alphabetical order. A
    stable sort only merges what is sorted, and the few baskets that it leaves in disorder are sorted by all columns.
    """
    order = np.argsort(key_T, kind="stable")
    key, item_row, time_us = key_T[order], item_row_T[order], microseconds_of(rest["event_time"])[order]
    same = key[1:] == key[:-1]
    ascending = (item_row[1:] > item_row[:-1]) | ((item_row[1:] == item_row[:-1]) & (time_us[1:] > time_us[:-1]))
    disordered = np.unique(key[1:][same & ~ascending])
    if not len(disordered):
        return np.asarray(order)
    places = np.flatnonzero(np.isin(key, disordered))
    lines = order[places]
    rows = rest.take(pa.array(lines))
    money = [name for name in MONEY_COLUMNS if name in rest.column_names]
    by = [pc.fill_null(rows[name].cast(pa.int64()), NEVER).to_numpy() for name in reversed(money)]
    by += [time_us[places], item_row[places], key[places]]
    order[places] = lines[np.lexsort(by)]
    return np.asarray(order)
