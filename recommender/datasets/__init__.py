"""Sources become canonical tables: Complete Journey (the default), a user's own files, or a generated shop."""

import json
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recommender.settings import DEFAULT_RESOURCES, ResourceSettings, SourceSettings

if TYPE_CHECKING:
    from recommender.datasets.preview import Preview
    from recommender.datasets.tables import Tables

__all__ = ["draft_mapping", "ingest", "preview_mapping"]


def ingest(
    source: SourceSettings,
    output: Path,
    *,
    ingested_at: datetime | None = None,
    resources: ResourceSettings = DEFAULT_RESOURCES,
) -> "Tables":
    """Read the configured source into a folder of canonical tables, whole or not at all.

    The same source gives the same bytes.

    Args:
        source: what to read.
        output: the folder to write.
        ingested_at: the moment of reading, which the manifest records. Validation sets rows of what has happened aside
            that are later. None: none is recorded.
        resources: threads, the limit of memory, and where temporary files lie. They change no byte of the tables.

    Raises:
        SettingsError: no source has this name, or the settings of the source are wrong; names the key.
        SourceError: a file is missing, unreadable or lacks what the source needs; names it.
        ContractError: a table is empty, or lacks a column, or has one of another dtype; names table, column and row.
    """
    from recommender.datasets.contract import check_shape
    from recommender.datasets.sources import source_of
    from recommender.datasets.tables import Tables
    from recommender.storage.manifest import MANIFEST, write_text

    tables = source_of(source).ingest(source, output, resources)
    check_shape(tables)
    if ingested_at is None:
        return tables
    facts = {**tables.manifest, "ingested_at": ingested_at.isoformat()}
    write_text(output / MANIFEST, json.dumps(facts, indent=1, sort_keys=True, default=str))
    return Tables(output)


def draft_mapping(files: Sequence[Path], *, folder: Path | None = None) -> str:
    """A mapping TOML drafted from the headers of CSV and Parquet files, with comments where a person must decide.

    `folder` is where the mapping will lie: the paths in it are relative to that folder. None: they are as given.
    """
    from recommender.datasets.draft import draft

    return draft(files, folder)


def preview_mapping(
    mapping: Path, *, as_of: datetime | date | None = None, resources: ResourceSettings = DEFAULT_RESOURCES
) -> "Preview":
    """What a mapping makes of a shop's files: first rows, kinds, times, keys, rows left out. Nothing is written.

    What a run needs and the files lack is listed, so a log without campaigns can be looked at too.

    Args:
        mapping: the mapping TOML.
        as_of: the moment of decision. None: the last event.
        resources: threads, the limit of memory, and where temporary files lie.

    Raises:
        SourceError, ContractError: a file or a column cannot be read, as `ingest`.
    """
    from recommender.datasets.preview import preview

    return preview(mapping, as_of=as_of, resources=resources)
