"""Write canonical tables: typed, ordered by key, verified by a manifest; the same data gives the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recommender.errors import ContractError
from recommender.manifest import whole_folder, write_manifest
from recommender.tables import CONTRACT, CONTRACT_VERSION, Table, Tables

QUARANTINE = "quarantine"


def write_tables(
    frames: Mapping[str, Any],
    output: Path,
    *,
    source: str,
    time_zone: str,
    decisions: Sequence[str] = (),
    quarantined: Mapping[str, pa.Table] | None = None,
) -> Tables:
    """Write `frames` (table name -> Arrow table, or anything with `to_arrow_table()`) as a `Tables` folder.

    `decisions`: what the adapter decided about the source, in sentences. `quarantined`: rows that were set aside, with the
    columns `_reason` and `_row`.

    Raises:
        ContractError: a required table or column is missing, or a column cannot be cast to its dtype.
    """
    for name, contract in CONTRACT.items():
        if contract.required and name not in frames:
            raise ContractError(name, "the source has no such table")
    aside = dict(quarantined or {})
    with whole_folder(output) as folder:
        columns, rows, log_end = {}, {}, None
        for name in CONTRACT:
            if name not in frames:
                continue
            frame = conform(name, frames[name])
            columns[name], rows[name] = frame.column_names, frame.num_rows
            (folder / name).mkdir()
            if name == "events":
                log_end = pc.max(frame["event_time"]).as_py()
                _write_by_month(frame, folder / name)
            else:
                _write(frame, folder / name / "part-0.parquet")
        for name, frame in aside.items():
            (folder / QUARANTINE).mkdir(exist_ok=True)
            _write(frame, folder / QUARANTINE / f"{name}.parquet")
        write_manifest(
            folder,
            contract_version=CONTRACT_VERSION,
            source=source,
            time_zone=time_zone,
            log_end=log_end.isoformat() if log_end else None,
            columns=columns,
            rows=rows,
            decisions=list(decisions),
            quarantined={name: frame.num_rows for name, frame in aside.items()},
        )
    return Tables(output)


def conform(name: str, frame: Any) -> pa.Table:
    """`frame` with the contract's columns in the contract's order and dtypes, sorted by key; other columns are refused."""
    contract: Table = CONTRACT[name]
    table: pa.Table = frame if isinstance(frame, pa.Table) else frame.to_arrow_table()
    if unknown := [column for column in table.column_names if column not in contract.columns]:
        raise ContractError(
            name, f"the contract has no such column; it has {', '.join(contract.columns)}", column=unknown[0]
        )
    arrays, fields = [], []
    for column, rule in contract.columns.items():
        if column not in table.column_names:
            if rule.required:
                raise ContractError(name, "the column is missing", column=column)
            continue
        try:
            arrays.append(table[column].cast(rule.dtype))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ContractError(
                name, f"{table[column].type} cannot become {rule.dtype}: {error}", column=column
            ) from None
        fields.append(pa.field(column, rule.dtype))
    table = pa.table(arrays, schema=pa.schema(fields))
    keys = [(column, "ascending") for column in contract.key if column in table.column_names]
    if name == "events":
        keys = [("event_time", "ascending"), *keys]
    return table.sort_by(keys)


def _write_by_month(events: pa.Table, folder: Path) -> None:
    months = pc.strftime(events["event_time"], format="%Y-%m")
    for month in sorted(set(pc.unique(months).to_pylist()) - {None}):
        (folder / f"month={month}").mkdir()
        _write(events.filter(pc.equal(months, month)), folder / f"month={month}" / "part-0.parquet")


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=3, write_page_checksum=True)
