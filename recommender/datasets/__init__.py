"""Sources become canonical tables: `complete_journey` (the default), `files` (one's own), `synthetic` (any scale, known truth)."""

from collections.abc import Sequence
from pathlib import Path

from recommender.datasets.tables import Tables
from recommender.errors import SettingsError
from recommender.settings import SourceSettings

__all__ = ["draft_mapping", "ingest"]


def ingest(source: SourceSettings, output: Path) -> Tables:
    """Read the configured source into a folder of canonical tables; whole or not at all, the same bytes for the same source.

    Raises:
        SettingsError: `files` without a mapping, or a dial of `synthetic` that there is not or is out of range; names the key.
        SourceError: a file is missing, unreadable or lacks what the adapter needs; names it.
        ContractError: a table is empty, or lacks a column, or has one of another dtype; names table, column and row.
    """
    from recommender.datasets.contract import check_shape

    tables = _read(source, output)
    check_shape(tables)
    return tables


def _read(source: SourceSettings, output: Path) -> Tables:
    if source.dataset == "files":
        from recommender.datasets import files

        if not source.mapping:
            raise SettingsError('source.mapping: dataset "files" needs the path of a mapping TOML')
        return files.ingest(Path(source.mapping), output)
    if source.dataset == "synthetic":
        from recommender.datasets import synthetic

        return synthetic.generate(synthetic.from_settings(source.synthetic), output)
    from recommender.datasets import complete_journey

    return complete_journey.ingest(output)


def draft_mapping(files: Sequence[Path]) -> str:
    """A mapping TOML drafted from the headers of CSV and Parquet files, with comments where a person must decide."""
    from recommender.datasets.draft import draft

    return draft(files)
