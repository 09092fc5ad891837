"""Writes canonical tables to disk: sorted and typed Parquet, events by month, with a SHA-256 for every file.

The same rows give the same bytes in whatever order they come, so the manifest's `content_hash` identifies the data.
"""

from collections.abc import Mapping, Sequence
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
    for name, table in CONTRACT.items():
        if table.required and name not in frames:
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
            rejected = _arrow(frame)
            num_quarantined[name] = rejected.num_rows
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
    folder.mkdir(parents=True)
    if name != "events":
        table = _sorted(_cast(name, _arrow(frame), kept), CONTRACT[name].key)
        _write_parquet(table, folder / "part.parquet")
        return kept, table.num_rows
    count = 0
    for month, part in _split_by_month(name, frame, kept):
        (folder / month).mkdir()
        _write_parquet(_sorted(part, ("event_time", "event_id")), folder / month / "part.parquet")
        count += part.num_rows
    if count == 0:  # An empty log is written as a table too, so that `contract.check` can report that it is empty.
        empty = pa.schema([(column, contract[column].dtype) for column in kept]).empty_table()
        _write_parquet(empty, folder / "part.parquet")
    return kept, count


def _split_by_month(name: str, frame: Frame, kept: list[str]) -> list[tuple[str, pa.Table]]:
    """Split events by UTC month, named `2017-03` and so on, or `unknown` for rows without a time.

    The name is not `month=2017-03`, because readers would then see one more column.
    """
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
                raise ContractError(table, f"dtype must be a time with a zone (got {values.type})", column=column)
            return pc.cast(values, pa.timestamp("us", tz=values.type.tz), safe=False).cast(wanted.dtype)
        return values.cast(wanted.dtype)
    except pa.ArrowInvalid as error:
        problem = f"{values.type} cannot be converted to {wanted.dtype} ({error})"
        raise ContractError(table, problem, column=column) from None


def _sorted(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Sort by the key and then by all other columns, so that the order of equal keys is fixed too."""
    first = [column for column in key if column in table.column_names]
    rest = [column for column in table.column_names if column not in first]
    return table.sort_by([(column, "ascending") for column in first + rest]).combine_chunks()


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True)


def _log_end(events: Path) -> str:
    """Return the ISO time of the last supported event (`support`), UTC, or 1970 for a log without events."""
    last = supported_end(sorted(events.rglob("*.parquet")))
    return last.isoformat() if last is not None else "1970-01-01T00:00:00+00:00"
