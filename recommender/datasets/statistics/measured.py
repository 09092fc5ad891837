"""The statistics of one run, and their file: small numbers only, never a row of the shop's.

Shapes: D days, from the first to the last day of the log without gaps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAYS_FILE, COLUMNS_FILE = "days.parquet", "columns.json"


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """What the tables of one run looked like.

    Figures of a day (`days`), of its events unless said otherwise:

        rows, users                 number of rows; of distinct users
        kind:K                      rows of the kind K
        null:C                      share of missing values of column C among the rows of the kinds that have it at all
        of:C                        rows of the kinds that have column C at all
        log:C, negative:C           mean of ln|C| over the values that are not zero; share of values below zero
        log:paid                    mean of ln(amount / (quantity x catalogue price)) over purchases
        hour:H                      rows in the local hour H
        last_hour                   local time of the last row, in hours
        repeated                    share of rows that occur an even number of times, but for their identifiers
        participations.rows, targets.rows
    """

    first_day: date
    days: Mapping[str, Floats]
    """Figure -> value of each day, float64 [D]. NaN where the day gives none."""
    columns: Mapping[str, Mapping[str, float]]
    """`table.column` -> null_share, distinct, and for numbers p10, p50, p90, negative."""
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """`table.column` of texts with few values -> value -> share of the rows that have one. The commonest values."""
    keys: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Kind of key -> the smallest hashes of its distinct values, sorted: a sample that two runs draw alike."""
    returning: tuple[float, ...] = ()
    """For each of the last weeks, the latest last: share of the users of the four weeks before who came back."""
    rows: Mapping[str, int] = field(default_factory=dict)
    last_hour: float = float("nan")
    """Local time of the log's last row, in hours."""

    @property
    def num_days(self) -> int:
        """D."""
        return len(self.days["rows"])

    @property
    def last_day(self) -> date:
        """The day of the log's last row."""
        return self.day(self.num_days - 1)

    def day(self, place: int) -> date:
        """The day at a place of the arrays."""
        return self.first_day + timedelta(days=int(place))

    def figure(self, name: str) -> Floats:
        """A figure of every day, float64 [D]. All NaN where this run has no such figure."""
        found = self.days.get(name)
        return np.full(self.num_days, np.nan) if found is None else found

    def counted(self, column: str) -> Floats:
        """Rows of each day among which a missing value of a column counts, float64 [D]. Not known: all rows."""
        counted_D = self.figure(f"of:{column}")
        return np.where(np.isfinite(counted_D), counted_D, self.figure("rows"))

    @property
    def hours_DH(self) -> Floats:
        """Rows by day and local hour, float64 [D, 24]."""
        return np.stack([np.nan_to_num(self.figure(f"hour:{hour}")) for hour in range(24)], axis=1)

    @property
    def weekdays_D(self) -> NDArray[np.int64]:
        """Weekday of each day, Monday 0, int64 [D]."""
        return (self.first_day.weekday() + np.arange(self.num_days)) % 7


def write_statistics(found: Statistics, folder: Path) -> None:
    """Write the two files of the statistics to a folder that exists."""
    days = {"day": [found.day(place) for place in range(found.num_days)], **found.days}
    pq.write_table(pa.table(days), folder / DAYS_FILE, compression="zstd")
    rest = {
        "columns": found.columns,
        "values": found.values,
        "keys": {name: list(hashes) for name, hashes in found.keys.items()},
        "returning": list(found.returning),
        "rows": found.rows,
        "last_hour": found.last_hour,
    }
    (folder / COLUMNS_FILE).write_bytes(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS))


def read_statistics(folder: Path) -> Statistics | None:
    """Read the statistics in a folder. None where it has none."""
    if not (folder / DAYS_FILE).is_file() or not (folder / COLUMNS_FILE).is_file():
        return None
    table = pq.ParquetFile(folder / DAYS_FILE).read()
    rest = orjson.loads((folder / COLUMNS_FILE).read_bytes())
    return Statistics(
        first_day=table["day"][0].as_py(),
        days={name: table[name].to_numpy().astype(np.float64) for name in table.column_names if name != "day"},
        columns=rest["columns"],
        values=rest["values"],
        keys={name: tuple(hashes) for name, hashes in rest["keys"].items()},
        returning=tuple(float("nan") if one is None else one for one in rest["returning"]),
        rows=rest["rows"],
        last_hour=float("nan") if rest["last_hour"] is None else rest["last_hour"],
    )
