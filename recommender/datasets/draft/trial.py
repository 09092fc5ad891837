"""Tries a draft: reads its tables as `ingest --preview` does, without writing anything."""

from collections.abc import Sequence
from pathlib import Path

from recommender.datasets.draft.evidence import FileEvidence
from recommender.datasets.files import read_tables
from recommender.errors import RecommenderError

MOST_ROWS = 500_000
"""Rows up to which a draft is tried, which takes some seconds. A larger one is tried by `ingest --preview`."""


def problem_of(files: Sequence[FileEvidence], mapping: Path) -> str | None:
    """Why the drafted mapping cannot be read as it is. None where it can, or where the files are large."""
    if sum(file.rows for file in files) > MOST_ROWS:
        return None
    try:
        with read_tables(mapping, complete=False):
            return None
    except RecommenderError as error:
        return str(error).replace(f"{mapping}: ", "").replace(f"{mapping.parent}/", "")
