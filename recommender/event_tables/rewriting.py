"""Writes a folder of tables again with other rows, and keeps what its manifest says of the source."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.write import Frame, write_tables

_WRITTEN = ("contract_version", "source", "time_zone", "log_end", "columns", "rows", "decisions", "quarantined")
"""Facts of a manifest that `write_tables` makes itself, beside those of the files."""


def rewrite(
    tables: Tables,
    frames: Mapping[str, Frame],
    *,
    decision: str,
    facts: Mapping[str, Any],
    kept: Callable[[pa.Table], pa.Table] = lambda rows: rows,
    aside: Mapping[str, pa.Table] | None = None,
) -> Tables:
    """Write `tables` again with these frames, completely or not at all.

    Args:
        tables: the folder that is replaced.
        frames: canonical name of a table -> its rows.
        decision: a sentence for the manifest about what was done.
        facts: further facts for the manifest.
        kept: which rows stay of those that were set aside, and of the files beside the tables.
        aside: canonical name of a table -> further rows that are set aside, each with its `_reason`.

    Raises:
        ContractError: The tables lack a required one; names it.
    """
    manifest = tables.manifest
    others = {name: value for name, value in manifest.items() if name not in (*_WRITTEN, "files", "content_hash")}
    quarantined = {name: kept(_set_aside(tables.folder, name)) for name in manifest["quarantined"]}
    for name, rows in (aside or {}).items():
        both = [_as_text(one) for one in (quarantined.get(name), rows) if one is not None]
        quarantined[name] = pa.concat_tables(both, promote_options="default")
    return write_tables(
        frames,
        tables.folder,
        source=manifest["source"],
        time_zone=tables.time_zone,
        decisions=[*manifest["decisions"], decision],
        quarantined=quarantined,
        beside={name: kept(rows) for name, rows in _beside(tables.folder).items()},
        facts={**others, **facts},
    )


def _set_aside(folder: Path, name: str) -> pa.Table:
    """The rows of a table that its source set aside. There is no file where there are none."""
    path = folder / "quarantine" / f"{name}.parquet"
    return pq.read_table(path) if path.is_file() else pa.table({"_reason": pa.array([], pa.string())})


def _as_text(rows: pa.Table) -> pa.Table:
    """Rows with every column as text, so that rows of a source and of a table go into one file."""
    return rows.cast(pa.schema([(name, pa.string()) for name in rows.column_names]))


def _beside(folder: Path) -> dict[str, pa.Table]:
    """The folder's Parquet files that belong to no canonical table."""
    found = {}
    for path in folder.rglob("*.parquet"):
        place = path.relative_to(folder)
        if place.parts[0] not in (*CONTRACT, "quarantine"):
            found[place.as_posix()] = pq.read_table(path)
    return found
