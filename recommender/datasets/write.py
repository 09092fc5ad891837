"""Canonical tables on disk: sorted, typed, one folder a table, `events` by month, a SHA-256 for every file.

The same rows give the same bytes whatever order they came in, so the manifest's `content_hash` is the data's identity.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recommender.datasets.tables import CONTRACT, CONTRACT_VERSION, Column, Tables
from recommender.errors import ContractError
from recommender.storage.manifest import whole_folder, write_manifest

Frame: TypeAlias = duckdb.DuckDBPyRelation | pa.Table
ROW_GROUP = 200_000


def write_tables(
    frames: Mapping[str, Frame],
    output: Path,
    *,
    source: str,
    time_zone: str,
    decisions: Sequence[str],
    quarantined: Mapping[str, Frame] | None = None,
    beside: Mapping[str, pa.Table] | None = None,
) -> Tables:
    """Write `frames` (canonical name -> rows, columns of the contract) as a folder of tables; whole or not at all.

    `decisions` are sentences: what was decided about the source's peculiarities. `quarantined` holds the rows that were left
    out, in their source's own columns beside `_reason` (text) and `_row` (number of the row in its source). `beside`
    holds further Parquet files by their path in the folder. Decisions and numbers of quarantined rows end in the manifest, with `contract_version`, `source`, `time_zone`, `log_end`, `columns` and `rows` by table.

    Raises:
        ContractError: a table or column that the contract lacks, a required one that is absent, a dtype that cannot be cast.
    """
    for name, table in CONTRACT.items():
        if table.required and name not in frames:
            raise ContractError(name, f"the table is missing; the source gave {', '.join(frames) or 'none'}")
    columns: dict[str, list[str]] = {}
    rows: dict[str, int] = {}
    with whole_folder(output) as folder:
        for name, frame in frames.items():
            columns[name], rows[name] = _write_table(name, frame, folder / name)
        left_out = {}
        for name, frame in (quarantined or {}).items():
            rejected = _arrow(frame)
            left_out[name] = rejected.num_rows
            if rejected.num_rows:
                (folder / "quarantine").mkdir(exist_ok=True)
                _write_parquet(rejected, folder / "quarantine" / f"{name}.parquet")
        for path, table in (beside or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            _write_parquet(table, folder / path)
        write_manifest(
            folder,
            contract_version=CONTRACT_VERSION,
            source=source,
            time_zone=time_zone,
            log_end=_log_end(folder / "events"),
            columns=columns,
            rows=rows,
            decisions=list(decisions),
            quarantined=left_out,
        )
    return Tables(output)


def _write_table(name: str, frame: Frame, folder: Path) -> tuple[list[str], int]:
    if name not in CONTRACT:
        raise ContractError(name, f"no such table; the contract has {', '.join(CONTRACT)}")
    contract = CONTRACT[name].columns
    names = frame.column_names if isinstance(frame, pa.Table) else frame.columns
    for column in names:
        if column not in contract:
            raise ContractError(name, f"no such column; the contract has {', '.join(contract)}", column=column)
    for column, wanted in contract.items():
        if wanted.required and column not in names:
            raise ContractError(name, f"the column is missing; the table has {', '.join(names)}", column=column)
    kept = [column for column in contract if column in names]
    folder.mkdir(parents=True)
    if name != "events":
        table = _sorted(_cast(name, _arrow(frame), kept), CONTRACT[name].key)
        _write_parquet(table, folder / "part.parquet")
        return kept, table.num_rows
    count = 0
    for month, part in _months(name, frame, kept):
        (folder / month).mkdir()
        _write_parquet(_sorted(part, ("event_time", "event_id")), folder / month / "part.parquet")
        count += part.num_rows
    if count == 0:  # an empty log is still a table: `contract.check` says that it is empty
        empty = pa.schema([(column, contract[column].dtype) for column in kept]).empty_table()
        _write_parquet(empty, folder / "part.parquet")
    return kept, count


def _months(name: str, frame: Frame, kept: list[str]) -> list[tuple[str, pa.Table]]:
    """The events of each UTC month, `2017-03` … (no `month=`: readers would see one column more); rows without a time are in the month `unknown`."""
    table = _cast(name, _arrow(frame), kept)
    month_of_row = pc.fill_null(pc.strftime(pc.cast(table["event_time"], pa.timestamp("us")), "%Y-%m"), "unknown")
    months = sorted(pc.unique(month_of_row).to_pylist())
    return [(month, table.filter(pc.equal(month_of_row, month))) for month in months]


def _arrow(frame: Frame) -> pa.Table:
    return frame if isinstance(frame, pa.Table) else frame.to_arrow_table()


def _cast(name: str, table: pa.Table, kept: list[str]) -> pa.Table:
    contract = CONTRACT[name].columns
    return pa.table({column: _cast_column(name, column, table[column], contract[column]) for column in kept})


def _cast_column(table: str, column: str, values: pa.ChunkedArray, wanted: Column) -> pa.ChunkedArray:
    try:
        if pa.types.is_timestamp(wanted.dtype) and not pa.types.is_null(values.type):
            if not pa.types.is_timestamp(values.type) or values.type.tz is None:
                raise ContractError(table, f"{values.type} instead of a time with a zone", column=column)
            return pc.cast(values, pa.timestamp("us", tz=values.type.tz), safe=False).cast(wanted.dtype)
        return values.cast(wanted.dtype)
    except pa.ArrowInvalid as error:
        raise ContractError(table, f"{values.type} cannot be read as {wanted.dtype} ({error})", column=column) from None


def _sorted(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    first = [column for column in key if column in table.column_names]
    rest = [column for column in table.column_names if column not in first]
    return table.sort_by([(column, "ascending") for column in first + rest]).combine_chunks()


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True)


def _log_end(events: Path) -> str:
    """ISO time of the last event, UTC; a log without events ended at the beginning of time."""
    ends = [
        pc.max(pq.ParquetFile(path).read(columns=["event_time"])["event_time"]).as_py()
        for path in sorted(events.rglob("*.parquet"))
    ]
    last = max((end for end in ends if end is not None), default=None)
    return last.isoformat() if last is not None else "1970-01-01T00:00:00+00:00"
