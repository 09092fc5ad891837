"""Finds the part of a log that its own rows support, so that a few mistyped dates do not move "now" or the first day.

The rule looks at the number of rows of each day. The core is the log without its last handful of rows (`HANDFUL` rows
or `HANDFUL_SHARE` of all, whichever is more, and never more than half). Walking on from the core, a day is supported if

- it follows the last supported day within `GAP_DAYS`, or within `GAP_TIMES` the longest gap inside the core, or
- it has at least `DENSE_SHARE` of a usual day's rows: a shop that reopens after a pause.

Neither helps a day that lies farther away than `FAR_DAYS` and `FAR_TIMES` the whole log before it is long: a default
date such as 2099-12-31 can have many rows. The first day is judged by this last rule only, because young shops begin
with few rows.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

HANDFUL, HANDFUL_SHARE = 10, 0.01
"""How many rows can be mistyped and still look like the end of a log. Both chosen by hand."""
GAP_DAYS, GAP_TIMES = 7, 5
"""Days without any row that are no reason to doubt what follows. By hand: a week of holidays, or five times what this
log has seen before."""
DENSE_SHARE = 0.1
"""Rows of a day, as a share of the median day's, with which it supports itself. Chosen by hand."""
FAR_DAYS, FAR_TIMES = 180, 3
"""A gap of half a year that is also three times as long as the log is no pause of a shop. Chosen by hand."""


def supported_days(rows_of: Mapping[date, int]) -> tuple[date, date] | None:
    """First and last day that the log supports. None for a log without rows.

    Args:
        rows_of: day -> number of its rows, in any order. Days without rows may be absent.
    """
    days = sorted(day for day, rows in rows_of.items() if rows > 0)
    if not days:
        return None
    days = _without_far_end(days[_first(days, rows_of) :], rows_of)
    total = sum(rows_of[day] for day in days)
    handful = min(total / 2, max(HANDFUL, HANDFUL_SHARE * total))
    seen, core = 0, 0
    for place, day in enumerate(days):
        seen += rows_of[day]
        core = place
        if seen >= total - handful:
            break
    gaps = [(later - earlier).days for earlier, later in pairwise(days[: core + 1])]
    allowed = max(GAP_DAYS, GAP_TIMES * max(gaps, default=0))
    usual = sorted(rows_of[day] for day in days[: core + 1])[core // 2]
    last = days[core]
    for day in days[core + 1 :]:
        if (day - last).days <= allowed or rows_of[day] >= DENSE_SHARE * usual:
            last = day
    return days[0], last


def _first(days: list[date], rows_of: Mapping[date, int]) -> int:
    """Place of the first day that is not far before the rest of the log."""
    total, before = sum(rows_of[day] for day in days), 0
    for place in range(len(days) - 1):
        before += rows_of[days[place]]
        if before > min(total / 2, max(HANDFUL, HANDFUL_SHARE * total)):
            return 0
        gap, span = (days[place + 1] - days[place]).days, (days[-1] - days[place + 1]).days
        if gap > max(FAR_DAYS, FAR_TIMES * span):
            return place + 1
    return 0


def _without_far_end(days: list[date], rows_of: Mapping[date, int]) -> list[date]:
    """The days before the first far gap that fewer than half of the rows follow."""
    total, seen = sum(rows_of[day] for day in days), 0
    for place in range(len(days) - 1):
        seen += rows_of[days[place]]
        gap, span = (days[place + 1] - days[place]).days, (days[place] - days[0]).days
        if seen > total / 2 and gap > max(FAR_DAYS, FAR_TIMES * span):
            return days[: place + 1]
    return days


def rows_by_day(files: Iterable[Path], column: str = "event_time") -> dict[date, int]:
    """Number of rows of each UTC day in Parquet files, read one row group at a time."""
    found: dict[date, int] = {}
    for path in files:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(columns=[column]):
                days = pc.cast(pc.floor_temporal(batch.column(0), unit="day"), pa.date32())
                for one in pc.value_counts(days).to_pylist():
                    if one["values"] is not None:
                        found[one["values"]] = found.get(one["values"], 0) + one["counts"]
    return found


def supported_end(files: Iterable[Path], column: str = "event_time") -> datetime | None:
    """Time of the last row of the last supported day, UTC. None without rows.

    Args:
        files: the log's Parquet files.
        column: their column of times, `timestamp[us, UTC]`.
    """
    files = list(files)
    supported = supported_days(rows_by_day(files, column))
    if supported is None:
        return None
    after = datetime.combine(supported[1] + timedelta(days=1), time(), tzinfo=UTC)
    last: datetime | None = None
    for path in files:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(columns=[column]):
                times = batch.column(0)
                end = pc.max(times.filter(pc.less(times, pa.scalar(after, times.type)))).as_py()
                last = end if last is None or (end is not None and end > last) else last
    return last
