"""Writes canonical tables to disk: sorted and typed Parquet, events by month, with a SHA-256 for every file.

The same rows give the same bytes in whatever order they come, so the manifest's `content_hash` identifies the data.

A table of DuckDB streams: DuckDB sorts it, on the disk where it exceeds the limit of memory, and no more than a row
group of it is in Arrow at a time. Events are sorted month by month.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recommender.datasets.support import supported_end
from recommender.datasets.tables import CONTRACT, CONTRACT_VERSION, Column, Tables
from recommender.errors import ContractError
from recommender.storage.manifest import whole_folder, write_manifest

Frame: TypeAlias = duckdb.DuckDBPyRelation | pa.Table
"""Rows of one table, of either kind."""
ROW_GROUP = 200_000
"""Rows in a Parquet row group, the unit that readers skip or load. Chosen by hand (DuckDB's default is 122,880)."""
UNKNOWN = "unknown"
"""The folder of events without a time, beside those of months."""


def write_tables(
    frames: Mapping[str, Frame],
    output: Path,
    *,
    source: str,
    time_zone: str,
    decisions: Sequence[str],
    quarantined: Mapping[str, Frame] | None = None,
    beside: Mapping[str, pa.Table] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Tables:
    """Write a folder of tables completely or not at all.

    The manifest records `contract_version`, `source`, `time_zone`, `log_end`, `columns` and `rows` of each table,
    `decisions`, and the number of quarantined rows of each table.

    Args:
        frames: canonical name of a table -> its rows, with columns of the contract.
        output: the folder to write.
        source: name of the source.
        time_zone: IANA zone of the shops.
        decisions: sentences that describe how ambiguities of the source were resolved.
        quarantined: canonical name of a table -> rows that were left out, in the columns of their source beside
            `_reason` (text) and `_row` (number of the row in its source).
        beside: path in the folder -> a further Parquet file to write there.
        facts: further facts for the manifest.

    Raises:
        ContractError: the contract has no such table or column, a required one is absent, or a dtype cannot be cast.
    """
    for name in CONTRACT:
        if name not in frames:
            raise ContractError(
                name, f"the table is required, but the source provides only {', '.join(frames) or 'none'}"
            )
    columns: dict[str, list[str]] = {}
    rows: dict[str, int] = {}
    with whole_folder(output) as folder:
        for name, frame in frames.items():
            columns[name], rows[name] = _write_table(name, frame, folder / name)
        num_quarantined = {}
        for name, frame in (quarantined or {}).items():
            num_quarantined[name] = _write_parquet(_groups(frame), folder / "quarantine" / f"{name}.parquet")
        for path, table in (beside or {}).items():
            _write_parquet([table], folder / path)
        write_manifest(
            folder,
            contract_version=CONTRACT_VERSION,
            source=source,
            time_zone=time_zone,
            log_end=_log_end(folder / "events"),
            columns=columns,
            rows=rows,
            decisions=list(decisions),
            quarantined=num_quarantined,
            **(facts or {}),
        )
    return Tables(output)


def _write_table(name: str, frame: Frame, folder: Path) -> tuple[list[str], int]:
    """Write one table and return its columns and its number of rows."""
    if name not in CONTRACT:
        raise ContractError(name, f"no such table; the contract has {', '.join(CONTRACT)}")
    contract = CONTRACT[name].columns
    names = frame.column_names if isinstance(frame, pa.Table) else frame.columns
    for column in names:
        if column not in contract:
            problem = f"the contract has no such column; it has {', '.join(contract)}"
            raise ContractError(name, problem, column=column)
    for column, wanted in contract.items():
        if wanted.required and column not in names:
            problem = f"the column is required, but the table has only {', '.join(names)}"
            raise ContractError(name, problem, column=column)
    kept = [column for column in contract if column in names]
    # Before any row is read: a column of another kind must not reach the sort.
    empty = _cast(name, frame.slice(0, 0) if isinstance(frame, pa.Table) else frame.limit(0).to_arrow_table(), kept)
    if isinstance(frame, pa.Table):
        frame = _cast(name, frame, kept)
    if name != "events":
        count = _write_parquet(_in_order(name, frame, kept), folder / "part.parquet")
    else:
        months = _by_month(frame)
        count = sum(_write_parquet(_in_order(name, rows, kept), folder / at / "part.parquet") for at, rows in months)
    if count == 0:  # An empty table is written too, so that `contract.check` can report that it is empty.
        _write_parquet([empty], folder / "part.parquet")
    return kept, count


def _by_month(frame: Frame) -> Iterator[tuple[str, Frame]]:
    """Split events by UTC month, named `2017-03` and so on, or `unknown` for rows without a time.

    The name is not `month=2017-03`, because readers would then see one more column.
    """
    if isinstance(frame, pa.Table):
        month_of_row = pc.strftime(pc.cast(frame["event_time"], pa.timestamp("us")), "%Y-%m")
        month_of_row = pc.fill_null(month_of_row, UNKNOWN)
        for month in sorted(pc.unique(month_of_row).to_pylist()):
            yield month, frame.filter(pc.equal(month_of_row, month))
        return
    # To convert a time with a zone takes DuckDB ten times as long as one without, and UTC needs no conversion.
    days = frame.project("make_timestamp(epoch_us(event_time))::DATE AS day").distinct().fetchall()
    for month in sorted({UNKNOWN if day is None else day.isoformat()[:7] for (day,) in days}):
        yield month, frame.filter(_in_month(month))


def _in_month(month: str) -> str:
    """SQL of whether an event is of a month. A range of times, so that DuckDB skips the row groups outside."""
    if month == UNKNOWN:
        return "event_time IS NULL"
    start = date.fromisoformat(f"{month}-01")
    end = (start + timedelta(days=31)).replace(day=1)
    return f"event_time >= TIMESTAMPTZ '{start} 00:00:00+00' AND event_time < TIMESTAMPTZ '{end} 00:00:00+00'"


def _in_order(name: str, frame: Frame, kept: list[str]) -> Iterator[pa.Table]:
    """The rows of a table in the order of its key and with the contract's dtypes.

    After the key all other columns count, so that the order of equal keys is fixed too.
    """
    key = ("event_time", "event_id") if name == "events" else CONTRACT[name].key
    first = [column for column in key if column in kept]
    order = [*first, *(column for column in kept if column not in first)]
    if isinstance(frame, pa.Table):
        yield from _groups(frame.sort_by([(column, "ascending") for column in order]))
        return
    ordered = frame.project(", ".join(kept)).order(", ".join(f"{column} ASC NULLS LAST" for column in order))
    for group in _groups(ordered):
        yield _cast(name, group, kept)


def _groups(frame: Frame) -> Iterator[pa.Table]:
    """Rows as tables of `ROW_GROUP` rows each, but for the last."""
    if isinstance(frame, pa.Table):
        yield from _sliced([frame])
        return
    reader = frame.to_arrow_reader(ROW_GROUP)
    yield from _sliced(pa.Table.from_batches([batch]) for batch in reader)


def _sliced(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut and join tables to `ROW_GROUP` rows each, but for the last."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= ROW_GROUP:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROW_GROUP)
            waiting, rows = [joined.slice(ROW_GROUP)], rows - ROW_GROUP
    if rows:
        yield pa.concat_tables(waiting)


def _cast(name: str, table: pa.Table, kept: list[str]) -> pa.Table:
    contract = CONTRACT[name].columns
    return pa.table({column: _cast_column(name, column, table[column], contract[column]) for column in kept})


def _cast_column(table: str, column: str, values: pa.ChunkedArray, wanted: Column) -> pa.ChunkedArray:
    try:
        if pa.types.is_timestamp(wanted.dtype) and not pa.types.is_null(values.type):
            if not pa.types.is_timestamp(values.type) or values.type.tz is None:
                raise ContractError(table, f"dtype must be a time with a zone (got {values.type})", column=column)
            return pc.cast(values, pa.timestamp("us", tz=values.type.tz), safe=False).cast(wanted.dtype)
        return values.cast(wanted.dtype)
    except pa.ArrowInvalid as error:
        problem = f"{values.type} cannot be converted to {wanted.dtype} ({error})"
        raise ContractError(table, problem, column=column) from None


def _write_parquet(tables: Iterable[pa.Table], path: Path) -> int:
    """Write tables as row groups of one file and return the number of rows. Without tables there is no file."""
    writer, rows = None, 0
    for table in tables:
        if writer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = pq.ParquetWriter(path, table.schema, compression="zstd", write_page_checksum=True)
        writer.write_table(table.combine_chunks(), row_group_size=ROW_GROUP)
        rows += table.num_rows
    if writer is not None:
        writer.close()
    return rows


def _log_end(events: Path) -> str:
    """Return the ISO time of the last supported event (`support`), UTC, or 1970 for a log without events."""
    last = supported_end(sorted(events.rglob("*.parquet")))
    return last.isoformat() if last is not None else "1970-01-01T00:00:00+00:00"
