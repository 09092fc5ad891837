"""Interaction files -> sequences: Parquet or CSV (commas, semicolons, tabs or bars) with `user`, `item`, and `pos` or a timestamp;
attributes by `item`.

Shapes: U users · T events · V items · P pairs of item and attribute.
"""

import ast
import re
import textwrap
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recommender.errors import ContractError, SourceError
from recommender.sequences.sequences import FROM_1990, TO_2100, Items, Sequences

TIMES = ("timestamp", "time", "event_timestamp", "datetime", "date")
TEXTS = ("text", "title", "name", "description")
HINT = "values that the rankers shall know belong into `attributes`, joined by |"
EXACT, LONGEST = 2**53, 1000
"""Floats tell whole numbers below `EXACT` apart; a name has at most `LONGEST` characters, because each takes the space of the longest."""
UNITS = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}
"""To µs."""
WRITTEN = {"%Y%m%d": 1, "%Y%m%d%H": 10**2, "%Y%m%d%H%M": 10**4, "%Y%m%d%H%M%S": 10**6}


def read_interactions(path: Path, attributes: Path | None = None) -> Sequences:
    """The events of `path`, each user's in the order of `pos`, or of the timestamp and then of the file. Times that cannot be read where
    `pos` orders are left out, with a warning.

    `attributes`: a file with `item` and `attributes` (a list, or values with | between them; the pair may repeat), and
    optionally a text. Items are numbered in the order of their names, so the same events give the same rows whatever the
    file's order.

    Raises:
        SourceError: a file is missing or unreadable, or lacks a column; names both.
        ContractError: a user, item, `pos` or time is empty or cannot be read, or a user has two events at one `pos`; names the row.
    """
    frame, times, order = _events(path)
    names = ids = _names(frame["item"], path)
    listed = described = None
    if attributes is not None:
        listed = _attribute_frame(attributes)
        described = _as_known(_names(listed["item"], attributes), np.unique(names))
        if not np.isin(described, names).any():
            raise ContractError(attributes.name, f"none of its items occurs in {path.name}", column="item")
        ids = np.concatenate([names, described])
    ids = np.unique(ids)
    rows_T = np.searchsorted(ids, names) + 1
    return _by_user(frame, times, order, rows_T, _items(ids, listed, described, attributes), path)[1]


def read_histories(path: Path, items: Items, *, skip_unknown: bool = False) -> tuple[NDArray[np.str_], Sequences, int]:
    """The names of the users of `path`, [U], their events as rows of `items`, for a ranker that is fitted already, and how many
    events were left out.

    `skip_unknown`: events with other items are left out; a user who has none left has an empty history.

    Raises:
        SourceError: as `read_interactions`.
        ContractError: as `read_interactions`, or an item is none of `items` and not skipped, or all are; names the row.
    """
    frame, times, order = _events(path)
    ids = np.asarray(items.ids, dtype=np.str_)
    places = np.argsort(ids)
    names = _as_known(_names(frame["item"], path), ids[places])
    found_T = places[np.searchsorted(ids[places], names).clip(max=len(ids) - 1)]
    unknown_T = ids[found_T] != names
    if unknown_T.all():
        message = f"none of its items is one that the ranker was fitted on, such as {items.ids[0]!r}"
        raise ContractError(path.name, message, column="item", row=f"row 0, {str(names[0])!r}")
    if unknown_T.any() and not skip_unknown:
        row = int(np.flatnonzero(unknown_T)[0])
        message = f"{str(names[row])!r} is no item that the ranker was fitted on; {int(unknown_T.sum())} events have such items; skip_unknown (--skip-unknown) leaves them out, or train again"
        raise ContractError(path.name, message, column="item", row=f"row {row}")
    users, sequences = _by_user(frame, times, order, np.where(unknown_T, 0, found_T + 1), items, path)
    if not unknown_T.any():
        return users, sequences, 0
    kept_T = sequences.items_T > 0
    lengths_U = np.bincount(sequences.rows_T()[kept_T], minlength=len(users))
    known = Sequences(
        items,
        np.concatenate([[0], np.cumsum(lengths_U)]).astype(np.int64),
        sequences.items_T[kept_T],
        None if sequences.times_T is None else sequences.times_T[kept_T],
    )
    return users, known, int(unknown_T.sum())


def _as_known(names: NDArray[np.str_], known: NDArray[np.str_]) -> NDArray[np.str_]:
    """`names` as `known` (sorted) writes them: where all names of a file are whole numbers, `_names` makes 1.0 a 1, and in another file not."""

    def unknown(some: NDArray[np.str_]) -> NDArray[np.bool_]:
        return np.asarray(known[np.searchsorted(known, some).clip(max=len(known) - 1)] != some)

    if not (own := unknown(names)).any():
        return names
    written = [name.removesuffix(".0") if name.endswith(".0") else f"{name}.0" for name in names.tolist()]
    other = np.array(written, dtype=np.str_)
    return np.where(own & ~unknown(other), other, names)


def _events(path: Path) -> tuple[pd.DataFrame, NDArray[np.int64] | None, NDArray[Any]]:
    """The file's rows, their times and what orders them."""
    frame = _read(path)
    for column in ("user", "item"):
        if column not in frame.columns:
            there = textwrap.shorten(", ".join(map(str, frame.columns)), 300, placeholder=" …")
            raise SourceError(f"{path}: no column {column!r}; there are {there}")
        _whole(frame, column, path)
    if not len(frame):
        raise SourceError(f"{path}: no rows; there is nothing to learn from and nobody to ask for")
    return frame, *_order(frame, path)


def _by_user(
    frame: pd.DataFrame,
    times: NDArray[np.int64] | None,
    order: NDArray[Any],
    rows_T: NDArray[np.int64],
    items: Items,
    path: Path,
) -> tuple[NDArray[np.str_], Sequences]:
    users, user_rows = np.unique(_names(frame["user"], path), return_inverse=True)
    by_user = np.lexsort((np.arange(len(frame)), order, user_rows))
    if "pos" in frame.columns:
        same = (np.diff(user_rows[by_user]) == 0) & (np.diff(order[by_user]) == 0)
        if same.any():
            row = int(by_user[1:][same][0])
            raise ContractError(path.name, "a user has two events at one pos", column="pos", row=f"row {row}")
    else:
        of_T = pd.DataFrame({"user": user_rows, "item": rows_T, "time": times})
        if copies := int(of_T[rows_T > 0].duplicated().sum()):  # 0: an item that is skipped
            message = f"{path.name}: {copies:,} rows have the user, the item and the time of an earlier row"
            warnings.warn(f"{message}; each is an event of its own: leave them out if they are copies", stacklevel=3)
    return users, Sequences(
        items=items,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(user_rows, minlength=len(users)))]).astype(np.int64),
        items_T=rows_T[by_user].astype(np.int32),
        times_T=None if times is None else times[by_user],
    )


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SourceError(
            f"{path}: {'a folder, not a file' if path.is_dir() else 'not a plain file' if path.exists() else 'no such file'}"
        )
    kind = "Parquet" if path.suffix.lower() in (".parquet", ".pq") else "CSV"
    try:
        if kind == "Parquet":
            frame = pd.read_parquet(path)
            return frame.reset_index() if any(frame.index.names) else frame
        separator = _separator(list(pd.read_csv(path, nrows=0).columns))
        frame = pd.read_csv(
            path, sep=separator, dtype={"user": str, "item": str}, keep_default_na=False, na_values=[""]
        )
    except Exception as error:
        raise SourceError(f"{path}: cannot be read as {kind} ({error})") from None
    if not isinstance(frame.index, pd.RangeIndex):
        raise SourceError(f"{path}: its rows have more fields than its header, {', '.join(map(str, frame.columns))}")
    return frame


def _separator(header: list[str]) -> str:
    """A comma, or what stands in the only name of a header that was read with commas."""
    alone = header[0] if len(header) == 1 else ""
    return next((one for one in ";\t|" if one in alone), ",")


def _whole(frame: pd.DataFrame, column: str, path: Path) -> None:
    values = frame[column]
    empty = values.isna()
    if not pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_datetime64_any_dtype(values):
        empty |= values.astype(str).str.strip() == ""
    if empty.any():
        raise ContractError(path.name, "is empty", column=column, row=f"row {int(np.flatnonzero(empty)[0])}")


def _names(values: "pd.Series[Any]", path: Path) -> NDArray[np.str_]:
    """As text without the blanks around it; whole numbers that are written with .0 (integers that once had a gap) as integers."""
    if pd.api.types.is_float_dtype(values) and bool((values % 1 == 0).all()):
        if (values.abs() >= EXACT).any():
            row = int(np.flatnonzero(values.abs() >= EXACT)[0])
            problem = "is a float too large to tell one name from the next; write integers or text"
            raise ContractError(path.name, problem, column=str(values.name), row=f"row {row}")
        values = values.astype("int64")
    text = values.astype(str).str.strip()
    if text.str.fullmatch(r"-?\d+\.0").all():
        text = text.str.removesuffix(".0")
    long = text.str.len() > LONGEST
    if long.any():
        row = int(np.flatnonzero(long)[0])
        raise ContractError(
            path.name, f"is longer than {LONGEST} characters", column=str(values.name), row=f"row {row}"
        )
    return np.asarray(text.to_numpy(), dtype=np.str_)


def _order(frame: pd.DataFrame, path: Path) -> tuple[NDArray[np.int64] | None, NDArray[Any]]:
    """The times, where the file has some, and what orders the events: `pos`, or else the times."""
    if "pos" not in frame.columns:
        times = _clock(frame, path)
        if times is None:
            raise SourceError(
                f"{path}: neither `pos` nor a timestamp ({', '.join(TIMES)}); the order of events is not known"
            )
        return times, times
    _whole(frame, "pos", path)
    places = pd.to_numeric(frame["pos"], errors="coerce")
    wrong = ~np.isfinite(places.to_numpy(dtype=np.float64, na_value=np.nan))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        problem = "is not a number" if pd.isna(places.iloc[row]) else "is not finite"
        raise ContractError(path.name, problem, column="pos", row=f"row {row}")
    if pd.api.types.is_float_dtype(places) and (places.abs() >= EXACT).any():
        row = int(np.flatnonzero(places.abs() >= EXACT)[0])
        raise ContractError(path.name, "is too large to tell one place from the next", column="pos", row=f"row {row}")
    try:
        return _clock(frame, path), places.to_numpy()
    except (SourceError, ContractError) as error:
        warnings.warn(f"{error}. `pos` orders the events; their times are not used", stacklevel=2)
        return None, places.to_numpy()


def _clock(frame: pd.DataFrame, path: Path) -> NDArray[np.int64] | None:
    name = next((one for one in TIMES if one in frame.columns), None)
    if name is None:
        return None
    if name == "time" and "date" in frame.columns:
        raise SourceError(f"{path}: both `date` and `time`; join them in one column, `timestamp`")
    _whole(frame, name, path)
    return _times(frame[name], name, path)


def _times(values: "pd.Series[Any]", name: str, path: Path) -> NDArray[np.int64]:
    """µs since 1970, UTC. Text: ISO 8601, UTC where it names no zone. Numbers: seconds, or milli-, micro- or nanoseconds by their size; or days,
    hours, minutes or seconds written as 20260131 … 20260131235959, where every number is one."""
    numbers = pd.to_numeric(values, errors="coerce") if not pd.api.types.is_datetime64_any_dtype(values) else None
    if numbers is not None and numbers.notna().all():
        if not np.isfinite(numbers.to_numpy(dtype=np.float64)).all():
            row = int(np.flatnonzero(~np.isfinite(numbers.to_numpy(dtype=np.float64)))[0])
            raise ContractError(path.name, "is not finite", column=name, row=f"row {row}")
        for written, places in WRITTEN.items():
            if numbers.between(19000101 * places, 21001232 * places).all():
                read = pd.to_datetime(numbers.astype(np.int64).astype(str), errors="coerce", format=written)
                if read.notna().all() and (numbers % 1 == 0).all():
                    return np.asarray(read.to_numpy().astype("datetime64[us]").astype(np.int64))
        largest = float(numbers.abs().max())
        scale = 1e6 if largest < 1e11 else 1e3 if largest < 1e14 else 1.0 if largest < 1e17 else 1e-3
        if largest * scale >= 2.0**63:
            row = int(numbers.abs().to_numpy().argmax())
            raise ContractError(path.name, f"is no time: {values.iloc[row]!r}", column=name, row=f"row {row}")
        units = {unit: (numbers * of).between(FROM_1990, TO_2100) for unit, of in UNITS.items()}
        met = [unit for unit, is_one in units.items() if is_one.any()]
        if len(met) > 1 and sum(is_one.sum() for is_one in units.values()) == len(numbers):
            row = int(np.flatnonzero(units[met[1]])[0])
            raise ContractError(
                path.name, f"is in {met[1]} where others are in {met[0]}", column=name, row=f"row {row}"
            )
        return np.asarray((numbers * scale).to_numpy(), dtype=np.int64)
    if pd.api.types.is_string_dtype(values):
        values = values.str.removesuffix(" UTC")
    parsed = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    no_time = parsed.isna()
    if no_time.any():
        neither = no_time if numbers is None else no_time & numbers.isna()
        row = int(np.flatnonzero(neither if neither.any() else no_time)[0])
        problem = (
            "cannot be read as a number or an ISO 8601 time (years 1678 to 2261)"
            if neither.any()
            else "is a number among ISO 8601 times"
        )
        raise ContractError(path.name, f"{problem}: {str(values.iloc[row])!r}", column=name, row=f"row {row}")
    return np.asarray(parsed.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64))


def _text_column(frame: pd.DataFrame) -> str | None:
    return next((one for one in TEXTS if one in frame.columns), None)


def _attribute_frame(path: Path) -> pd.DataFrame:
    frame = _read(path)
    if "item" not in frame.columns:
        raise SourceError(f"{path}: no column 'item'; there are {', '.join(map(str, frame.columns))}")
    if "attributes" not in frame.columns and _text_column(frame) is None:
        others = ", ".join(str(one) for one in frame.columns if one != "item") or "no other"
        raise SourceError(f"{path}: neither 'attributes' nor a text ({', '.join(TEXTS)}), but {others}; {HINT}")
    text = _text_column(frame)
    unread = [str(one) for one in frame.columns if one not in ("item", "attributes", text)]
    if unread:
        problem = f"{path}: {', '.join(unread)} {'is' if len(unread) == 1 else 'are'} not read"
        warnings.warn(f"{problem}; {HINT}", stacklevel=2)
    _whole(frame, "item", path)
    return frame


def _items(
    ids: NDArray[np.str_], listed: pd.DataFrame | None, described: NDArray[np.str_] | None, path: Path | None
) -> Items:
    """`described`: the items of the rows of `listed`, which was read from `path`."""
    names = tuple(ids.tolist())
    if listed is None or described is None or path is None:
        return Items(names)
    rows = np.searchsorted(ids, described) + 1
    text = _text_column(listed)
    texts = None
    if text is not None:
        found = [""] * len(names)
        said = listed[text].astype(object).where(listed[text].notna(), "").astype(str)
        for row, value in zip(rows.tolist(), said, strict=True):
            found[row - 1] = value or found[row - 1]
        texts = tuple(found)
    if "attributes" not in listed.columns:
        return Items(names, texts=texts)
    pairs = []
    for number, (row, of_row) in enumerate(zip(rows.tolist(), listed["attributes"].tolist(), strict=True)):
        found = _values(of_row)
        if not all(map(pd.api.types.is_scalar, found)):
            raise ContractError(
                path.name, "holds lists or structs within a list", column="attributes", row=f"row {number}"
            )
        pairs += [(row, str(one)) for one in found if not pd.isna(one) and str(one).strip()]
    values, codes = np.unique(np.array([value for _, value in pairs], dtype=np.str_), return_inverse=True)
    item_P = np.array([row for row, _ in pairs], dtype=np.int64)
    both = np.unique(np.stack([item_P, codes], axis=1), axis=0) if len(pairs) else np.zeros((0, 2), dtype=np.int64)
    return Items(
        names,
        attribute_offsets=np.searchsorted(both[:, 0], np.arange(len(names) + 2)).astype(np.int64),
        attributes_P=both[:, 1].astype(np.int32),
        num_attributes=len(values),
        texts=texts,
    )


def _values(values: Any) -> list[Any]:
    if isinstance(values, str):
        within = values.startswith("[") and values.endswith("]")
        if within:
            with suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                return list(ast.literal_eval(re.sub(r"""(['"])\s+(?=['"])""", r"\1, ", values)))
        parts = values[1:-1].split(",") if within else values.split("|")
        return [one.strip(" '\"") for one in parts if one.strip(" '\"")]
    return list(values) if isinstance(values, (list, tuple, np.ndarray)) else [values]
