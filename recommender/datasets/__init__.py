"""Sources become tables: the default grocer, your own files, or a synthetic world whose truth is known."""

from pathlib import Path

from recommender.settings import SourceSettings
from recommender.tables import Tables

__all__ = ["ingest"]


def ingest(source: SourceSettings, output: Path) -> Tables:
    """Read the configured source into canonical tables at `output` (whole or not at all).

    Raises:
        SourceError: a file is missing or unreadable; names the file.
        ContractError: what was read breaks the contract; names table, column and row.
    """
    match source.dataset:
        case "complete_journey":
            from recommender.datasets.complete_journey import read

            return read(output)
        case "files":
            from recommender.datasets.files import read_files

            return read_files(Path(source.mapping), output)
        case "synthetic":
            from recommender.datasets.synthetic import World

            return World(**source.synthetic).generate(output)
