"""Times of events in microseconds since 1970 (UTC), and what orders the events of a file: `pos`, or else the times.

Shapes: T events.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recommender.datasets.event_files import EXACT_BELOW, refuse_rows, require_column
from recommender.errors import ContractError, SourceError
from recommender.sequences.sequences import FROM_1990, TO_2100

TIME_COLUMNS = ("timestamp", "time", "event_timestamp", "datetime", "date")
"""Names of a column of times. The first that a file has is read."""
MICROSECONDS_OF = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}
"""Microseconds in each unit in which times may be written as numbers."""
READ_AS = {"seconds": 1e11, "milliseconds": 1e14, "microseconds": 1e17, "nanoseconds": np.inf}
"""A column's numbers are of the first unit whose bound lies above the largest of them. Each bound is the year 5138 in
its unit and the year 1973 in the next finer one, so times from 1973 on are read in the unit in which they were
written."""
DIGITS = {"%Y%m%d": 1, "%Y%m%d%H": 10**2, "%Y%m%d%H%M": 10**4, "%Y%m%d%H%M%S": 10**6}
"""Times that are written as digits, and how far each format's numbers are shifted against those of whole days."""
DAYS_FROM, DAYS_TO = 19000101, 21001232
"""The days 1900-01-01 to 2100-12-31 as numbers. The end is one higher, to include the hours of the last day."""


def order_of(frame: pd.DataFrame, path: Path) -> tuple[NDArray[np.int64] | None, NDArray[Any]]:
    """The times of the events [T], or None without times, and the values that order the events [T].

    Times that cannot be read where `pos` orders the events are left out with a warning.

    Raises:
        SourceError: The file has neither `pos` nor times.
        ContractError: A `pos` or a time is empty or cannot be read; names its row.
    """
    if "pos" not in frame.columns:
        times_T = times_of(frame, path)
        if times_T is None:
            raise SourceError(
                f"{path}: neither 'pos' nor a timestamp ({', '.join(TIME_COLUMNS)}), so the order of events is "
                "unknown; add one of these columns"
            )
        return times_T, times_T
    require_column(frame, "pos", path)
    places = pd.to_numeric(frame["pos"], errors="coerce")
    numbers_T = places.to_numpy(dtype=np.float64, na_value=np.nan)
    refuse_rows(
        np.isnan(numbers_T), "is not a number; write each event's place in its user's history", frame["pos"], path
    )
    refuse_rows(~np.isfinite(numbers_T), "is not finite; write whole numbers", frame["pos"], path)
    if pd.api.types.is_float_dtype(places):
        problem = "is too large to tell one place from the next; count from 0"
        refuse_rows(places.abs() >= EXACT_BELOW, problem, frame["pos"], path)
    try:
        return times_of(frame, path), places.to_numpy()
    except (SourceError, ContractError) as error:
        warnings.warn(f"{error}. `pos` orders the events; their times are not used", stacklevel=2)
        return None, places.to_numpy()


def times_of(frame: pd.DataFrame, path: Path) -> NDArray[np.int64] | None:
    """The events' times in microseconds since 1970 (UTC), [T]. None if no column has them.

    Raises:
        SourceError: Day and time of day stand in two columns.
        ContractError: A time is empty or cannot be read; names its row.
    """
    name = next((one for one in TIME_COLUMNS if one in frame.columns), None)
    if name is None:
        return None
    if name == "time" and "date" in frame.columns:
        raise SourceError(f"{path}: both 'date' and 'time'; join them in one column 'timestamp'")
    require_column(frame, name, path)
    values = frame[name]
    if not pd.api.types.is_datetime64_any_dtype(values):
        numbers = pd.to_numeric(values, errors="coerce")
        if numbers.notna().all():
            return _from_numbers(numbers, values, path)
        return _from_text(values, numbers.notna(), path)
    return _from_text(values, None, path)


def _from_numbers(numbers: "pd.Series[Any]", values: "pd.Series[Any]", path: Path) -> NDArray[np.int64]:
    """Numbers since 1970 in one unit, by their size, or times written as digits where every number is one."""
    refuse_rows(~np.isfinite(numbers.to_numpy(dtype=np.float64)), "is not finite; write the event's time", values, path)
    digits = _from_digits(numbers)
    if digits is not None:
        return digits
    size = numbers.abs()
    unit = next(unit for unit, bound in READ_AS.items() if float(size.max()) < bound)
    scale = MICROSECONDS_OF[unit]
    too_large = (
        size.to_numpy() == size.max() if float(size.max()) * scale >= 2.0**63 else np.zeros(len(size), dtype=bool)
    )
    refuse_rows(too_large, "is no time: in microseconds it needs more than 64 bits", values, path)
    within = {unit: (numbers * factor).between(FROM_1990, TO_2100) for unit, factor in MICROSECONDS_OF.items()}
    found = [unit for unit, is_one in within.items() if is_one.any()]
    if len(found) > 1 and sum(is_one.sum() for is_one in within.values()) == len(numbers):
        problem = f"is in {found[1]} where others are in {found[0]}; write all times in one unit"
        refuse_rows(within[found[1]], problem, values, path)
    return np.asarray((numbers * scale).to_numpy(), dtype=np.int64)


def _from_digits(numbers: "pd.Series[Any]") -> NDArray[np.int64] | None:
    """Times written as digits, from 20260131 (a day) to 20260131235959 (a second). None if a number is no such time."""
    for written, shift in DIGITS.items():
        if numbers.between(DAYS_FROM * shift, DAYS_TO * shift).all():
            parsed = pd.to_datetime(numbers.astype(np.int64).astype(str), errors="coerce", format=written)
            if parsed.notna().all() and (numbers % 1 == 0).all():
                return _microseconds(parsed)
    return None


def _from_text(values: "pd.Series[Any]", are_numbers: "pd.Series[bool] | None", path: Path) -> NDArray[np.int64]:
    """ISO 8601, in UTC where no zone is named."""
    text = values.str.removesuffix(" UTC") if pd.api.types.is_string_dtype(values) else values
    parsed = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
    unread = parsed.isna()
    neither = unread if are_numbers is None else unread & ~are_numbers
    problem = "cannot be read as a number or an ISO 8601 time (years 1678 to 2261); write 2026-01-31T18:00:00"
    refuse_rows(neither, problem, values, path)
    refuse_rows(unread, "is a number among ISO 8601 times; write all times in one way", values, path)
    return _microseconds(parsed.dt.tz_localize(None))


def _microseconds(times: "pd.Series[Any]") -> NDArray[np.int64]:
    return np.asarray(times.to_numpy().astype("datetime64[us]").astype(np.int64))
