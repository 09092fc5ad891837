"""Logs of events -> sequences, for next-item rankers. A second file may have attributes and texts of the items.

A log is a file of any kind with user, item, and pos or a timestamp (`event_columns`), or a mapping TOML.

Shapes: U users · T events · V items, rows 1 … V.
"""

import warnings
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.engine import open_engine
from recommender.datasets.event_columns import ITEM, PLACE, EventColumns
from recommender.datasets.event_mapping import read_mapped_events
from recommender.datasets.event_rows import TABLE, EventRows, log_of, read_events
from recommender.datasets.item_attributes import catalogue, read_attributes
from recommender.datasets.mapping import read_mapping
from recommender.datasets.reading import local_files, resolve
from recommender.errors import ContractError
from recommender.sequences import Items, Sequences
from recommender.settings import DEFAULT_RESOURCES

EVERYTHING = EventColumns()
"""All events, by the usual names of columns."""


def read_interactions(path: Path, attributes: Path | None = None, columns: EventColumns = EVERYTHING) -> Sequences:
    """The events of `path`, each user's in the order of `pos`, or else of the timestamp and then of the file.

    Items are numbered in the order of their names, so the same events give the same rows whatever the file's order.
    Times that cannot be read where `pos` orders the events are left out with a warning.

    Args:
        path: The file of events, or a mapping TOML.
        attributes: A file with item, attributes (a list, or values with | between; an item may stand in several
            rows) and optionally a text. Items that only this file names are in the catalogue, too.
        columns: Which columns and kinds of events are read.

    Raises:
        SourceError: A file is missing or unreadable, or lacks a column; names both.
        ContractError: A user, item, pos or time is empty or cannot be read, a user has two events at one pos, or the
            attributes are of other items; names file, column, row and value.
    """
    with open_engine(DEFAULT_RESOURCES, "next-items") as (connection, scratch):
        rows = _read(connection, path, columns, scratch)
        names = _distinct(connection, "item")
        if attributes is None:
            ids = names
            items = Items(tuple(ids.tolist()))
        else:
            listed = read_attributes(connection, attributes, scratch=scratch)
            listed_names = _spelt_as(listed.names, names)
            if not np.isin(listed_names, names).any():
                problem = (
                    f"none of its items occurs in {path.name}, where there are such as {_first_item(rows)!r}; "
                    f"name the items alike (got {str(listed_names[0])!r})"
                )
                raise ContractError(attributes.name, problem, column=listed.item_column, row=listed.places[0])
            ids = np.unique(np.concatenate([names, listed_names]))
            items = catalogue(ids, listed, listed_names)
        return _by_user(rows, names, np.searchsorted(ids, names) + 1, items)[1]


def read_histories(
    path: Path, items: Items, *, skip_unknown: bool = False, columns: EventColumns = EVERYTHING
) -> tuple[NDArray[np.str_], Sequences, int]:
    """The events of `path` as rows of `items`, for a ranker that is already fitted.

    Args:
        path: The file of events, or a mapping TOML.
        items: The items that the ranker was fitted on.
        skip_unknown: Leave out events with other items. A user who has no others left has an empty history.
        columns: Which columns and kinds of events are read.

    Returns:
        The users' names, their events in the order that `read_interactions` gives, and the number of events left out.

    Raises:
        SourceError: As `read_interactions`.
        ContractError: As `read_interactions`, or an item is not one of `items` and not skipped, or none is.
    """
    with open_engine(DEFAULT_RESOURCES, "next-items") as (connection, scratch):
        rows = _read(connection, path, columns, scratch)
        ids = np.asarray(items.ids, dtype=np.str_)
        places = np.argsort(ids)
        names = _distinct(connection, "item")
        spelt = _spelt_as(names, ids[places])
        found = places[np.searchsorted(ids[places], spelt).clip(max=len(ids) - 1)]
        unknown = ids[found] != spelt
        connection.register(
            "unknown_items", pa.table({"item": names[unknown].tolist()}, pa.schema({"item": pa.string()}))
        )
        is_unknown = "item IN (SELECT item FROM unknown_items)"
        (num_unknown,) = connection.execute(f"SELECT count(*) FROM {TABLE} WHERE {is_unknown}").fetchone() or (0,)
        if unknown.all():
            problem = (
                f"no item of this file is one that the ranker was fitted on, such as {items.ids[0]!r}; name items alike"
            )
            rows.refuse(ITEM, is_unknown, problem)
        if not skip_unknown:
            problem = (
                f"is no item that the ranker was fitted on; {num_unknown} events have such items. Leave them out "
                "with skip_unknown (--skip-unknown), or fit again"
            )
            rows.refuse(ITEM, is_unknown, problem)
        users, sequences = _by_user(rows, names, np.where(unknown, 0, found + 1), items)
        return users, _without_unknown(sequences) if num_unknown else sequences, int(num_unknown)


def _read(connection: duckdb.DuckDBPyConnection, path: Path, columns: EventColumns, scratch: Path) -> EventRows:
    read = read_mapped_events if path.suffix.lower() == ".toml" else read_events
    return read(connection, path, columns, scratch=scratch)


def event_files(path: Path) -> list[Path]:
    """The files on this machine that a log is read from.

    Those are the file itself, all files of a folder, or a mapping and the files that it names.

    Raises:
        SourceError: A file is missing, or the mapping is wrong; names it.
    """
    if path.suffix.lower() != ".toml":
        return local_files(str(log_of(path)))
    parts = read_mapping(path).tables.get(TABLE, [])
    locations = [resolve(part.file, path) for part in parts if part.file is not None]
    return [path, *(file for one in locations if "://" not in one for file in local_files(one))]


def _distinct(connection: duckdb.DuckDBPyConnection, column: str) -> NDArray[np.str_]:
    """Names in the order of their characters' codes, in which NumPy sorts, too."""
    found = connection.execute(f"SELECT DISTINCT {column} AS name FROM {TABLE} ORDER BY name").fetchnumpy()
    return np.asarray(found["name"], dtype=np.str_)


def _first_item(rows: EventRows) -> str:
    (name,) = rows.connection.execute(f"SELECT item FROM {TABLE} ORDER BY n LIMIT 1").fetchone() or ("",)
    return str(name)


def _by_user(
    rows: EventRows, names: NDArray[np.str_], item_rows: NDArray[np.int64], items: Items
) -> tuple[NDArray[np.str_], Sequences]:
    """The users' names and their events in order.

    Args:
        rows: The events.
        names: The names of their items.
        item_rows: The row of each of these items. Row 0 stands for an unknown item.
        items: All items.
    """
    connection = rows.connection
    users = _distinct(connection, "user")
    for name, texts, numbers in (("users", users, np.arange(len(users))), ("items", names, item_rows)):
        table = pa.table({"name": pa.array(texts.tolist(), pa.string()), "number": pa.array(numbers, pa.int64())})
        connection.register(f"numbered_{name}", table)
    if rows.has_places:
        repeated = "(user, place) IN (SELECT (user, place) FROM events GROUP BY user, place HAVING count(*) > 1)"
        problem = "stands twice for one user, so the order of these events is unknown; count each user's events"
        rows.refuse(PLACE, repeated, problem)
    else:
        _warn_of_copies(rows)
    order = "place" if rows.has_places else "time_us"
    found = connection.execute(
        f"SELECT u.number AS user_row, i.number AS item_row{', time_us' if rows.has_times else ''} FROM {TABLE} e "
        "JOIN numbered_users u ON u.name = e.user JOIN numbered_items i ON i.name = e.item "
        f"ORDER BY u.number, e.{order}, e.n"
    ).fetchnumpy()
    user_T = np.asarray(found["user_row"])
    sequences = Sequences(
        items=items,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(user_T, minlength=len(users)))]).astype(np.int64),
        items_T=np.asarray(found["item_row"]).astype(np.int32),
        times_T=np.asarray(found["time_us"], dtype=np.int64) if rows.has_times else None,
    )
    return users, sequences


def _warn_of_copies(rows: EventRows) -> None:
    # Unknown items (row 0) are not copies of each other.
    (copies,) = rows.connection.execute(
        f"SELECT coalesce(sum(num - 1), 0) FROM (SELECT count(*) AS num FROM {TABLE} WHERE item IN "
        "(SELECT name FROM numbered_items WHERE number > 0) GROUP BY user, item, time_us HAVING count(*) > 1)"
    ).fetchone() or (0,)
    if copies:
        message = f"{rows.path.name}: {int(copies):,} rows have the user, the item and the time of an earlier row"
        warnings.warn(f"{message}; each counts as an event: leave them out if they are copies", stacklevel=4)


def _without_unknown(sequences: Sequences) -> Sequences:
    """The same users without the events of unknown items (row 0)."""
    kept_T = sequences.items_T > 0
    lengths_U = np.bincount(sequences.rows_T()[kept_T], minlength=sequences.num_users)
    return Sequences(
        sequences.items,
        np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64),
        sequences.items_T[kept_T],
        None if sequences.times_T is None else sequences.times_T[kept_T],
    )


def _spelt_as(names: NDArray[np.str_], known: NDArray[np.str_]) -> NDArray[np.str_]:
    """`names` with whole numbers spelt as in `known` (sorted): 1 or 1.0.

    Of texts 1.0 is read as 1 only where every dotted name of a file is whole, so two files may differ.
    """

    def unknown(some: NDArray[np.str_]) -> NDArray[np.bool_]:
        return np.asarray(known[np.searchsorted(known, some).clip(max=len(known) - 1)] != some)

    unknown_names = unknown(names)
    if not unknown_names.any():
        return names
    other = np.array(
        [name.removesuffix(".0") if name.endswith(".0") else f"{name}.0" for name in names.tolist()], dtype=np.str_
    )
    return np.where(unknown_names & ~unknown(other), other, names)
