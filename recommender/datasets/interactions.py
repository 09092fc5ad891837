"""Files of events -> sequences, for next-item rankers: Parquet or CSV with user, item, and pos or a timestamp.

CSV may have commas, semicolons, tabs or bars. A second file may have attributes and texts of the items.

Shapes: U users · T events · V items, rows 1 … V.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recommender.datasets.event_files import names_of, read_frame, refuse_rows, require_column
from recommender.datasets.event_times import order_of
from recommender.datasets.item_attributes import catalogue, read_attributes
from recommender.errors import ContractError, SourceError
from recommender.sequences import Items, Sequences


def read_interactions(path: Path, attributes: Path | None = None) -> Sequences:
    """The events of `path`, each user's in the order of `pos`, or else of the timestamp and then of the file.

    Items are numbered in the order of their names, so the same events give the same rows whatever the file's order.
    Times that cannot be read where `pos` orders the events are left out with a warning.

    Args:
        path: The file of events.
        attributes: A file with item, attributes (a list, or values with | between; an item may stand in several
            rows) and optionally a text. Items that only this file names are in the catalogue, too.

    Raises:
        SourceError: A file is missing or unreadable, or lacks a column; names both.
        ContractError: A user, item, pos or time is empty or cannot be read, a user has two events at one pos, or the
            attributes are of other items; names file, column, row and value.
    """
    frame, times_T, order_T = _events(path)
    names_T = names_of(frame["item"], path)
    if attributes is None:
        ids = np.unique(names_T)
        items = Items(tuple(ids.tolist()))
    else:
        listed = read_attributes(attributes)
        listed_names = _spelt_as(names_of(listed["item"], attributes), np.unique(names_T))
        if not np.isin(listed_names, names_T).any():
            problem = (
                f"none of its items occurs in {path.name}, where there are such as {str(names_T[0])!r}; "
                f"name the items alike (got {str(listed_names[0])!r})"
            )
            raise ContractError(attributes.name, problem, column="item", row="row 0")
        ids = np.unique(np.concatenate([names_T, listed_names]))
        items = catalogue(ids, listed, listed_names, attributes)
    return _by_user(frame, times_T, order_T, np.searchsorted(ids, names_T) + 1, items, path)[1]


def read_histories(path: Path, items: Items, *, skip_unknown: bool = False) -> tuple[NDArray[np.str_], Sequences, int]:
    """The events of `path` as rows of `items`, for a ranker that is already fitted.

    Args:
        path: The file of events.
        items: The items that the ranker was fitted on.
        skip_unknown: Leave out events with other items. A user who has no others left has an empty history.

    Returns:
        The names of the users [U], their histories, and how many events were left out.

    Raises:
        SourceError: As `read_interactions`.
        ContractError: As `read_interactions`, or an item is not one of `items` and not skipped, or none is.
    """
    frame, times_T, order_T = _events(path)
    ids = np.asarray(items.ids, dtype=np.str_)
    places = np.argsort(ids)
    names_T = _spelt_as(names_of(frame["item"], path), ids[places])
    found_T = places[np.searchsorted(ids[places], names_T).clip(max=len(ids) - 1)]
    unknown_T = ids[found_T] != names_T
    if unknown_T.all():
        problem = (
            f"no item of this file is one that the ranker was fitted on, such as {items.ids[0]!r}; name items alike"
        )
        refuse_rows(unknown_T, problem, frame["item"], path)
    if not skip_unknown:
        problem = (
            f"is no item that the ranker was fitted on; {int(unknown_T.sum())} events have such items. Leave them out "
            "with skip_unknown (--skip-unknown), or fit again"
        )
        refuse_rows(unknown_T, problem, frame["item"], path)
    users, sequences = _by_user(frame, times_T, order_T, np.where(unknown_T, 0, found_T + 1), items, path)
    return users, _without_unknown(sequences) if unknown_T.any() else sequences, int(unknown_T.sum())


def _events(path: Path) -> tuple[pd.DataFrame, NDArray[np.int64] | None, NDArray[Any]]:
    """The file's rows, their times and what orders them."""
    frame = read_frame(path)
    for column in ("user", "item"):
        require_column(frame, column, path)
    if not len(frame):
        raise SourceError(f"{path}: the file has no rows; give a file with events")
    return frame, *order_of(frame, path)


def _by_user(
    frame: pd.DataFrame,
    times_T: NDArray[np.int64] | None,
    order_T: NDArray[Any],
    rows_T: NDArray[np.int64],
    items: Items,
    path: Path,
) -> tuple[NDArray[np.str_], Sequences]:
    """The users' names and their events in order. Item row 0 stands for an unknown item."""
    users, user_T = np.unique(names_of(frame["user"], path), return_inverse=True)
    by_user = np.lexsort((np.arange(len(frame)), order_T, user_T))
    if "pos" in frame.columns:
        same = (np.diff(user_T[by_user]) == 0) & (np.diff(order_T[by_user]) == 0)
        repeated = np.zeros(len(frame), dtype=np.bool_)
        repeated[by_user[1:][same][:1]] = True
        problem = "stands twice for one user, so the order of these events is unknown; count each user's events"
        refuse_rows(repeated, problem, frame["pos"], path)
    else:
        _warn_of_copies(pd.DataFrame({"user": user_T, "item": rows_T, "time": times_T}), path)
    sequences = Sequences(
        items=items,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(user_T, minlength=len(users)))]).astype(np.int64),
        items_T=rows_T[by_user].astype(np.int32),
        times_T=None if times_T is None else times_T[by_user],
    )
    return users, sequences


def _warn_of_copies(events: pd.DataFrame, path: Path) -> None:
    copies = int(events[events["item"] > 0].duplicated().sum())  # unknown items (row 0) are not copies of each other
    if copies:
        message = f"{path.name}: {copies:,} rows have the user, the item and the time of an earlier row"
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

    `names_of` reads 1.0 as 1 only where all names of a file are whole numbers, so two files may differ.
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
