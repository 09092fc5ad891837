"""What a source's content is, in one hash, without reading it into tables: an unchanged source need not be read again."""

from collections.abc import Sequence
from pathlib import Path

from recommender.errors import SettingsError
from recommender.settings import SourceSettings
from recommender.storage.manifest import digest, sha256


def source_identity(source: SourceSettings) -> str:
    """Hex SHA-256 of everything that `ingest` would read for `source`.

    Raises:
        SettingsError: `files` without a mapping; names the key.
        SourceError: a file of the source is missing; names it.
    """
    return digest(source.model_dump(mode="json"), [sha256(path) for path in _files(source)])


def _files(source: SourceSettings) -> Sequence[Path]:
    match source.dataset:
        case "complete_journey":
            from recommender.datasets.complete_journey import source_files

            return source_files()
        case "files":
            from recommender.datasets.files import source_files as mapped_files

            if not source.mapping:
                raise SettingsError('source.mapping: dataset "files" needs the path of a mapping TOML')
            mapping = Path(source.mapping)
            return [mapping, *sorted(mapped_files(mapping))]
        case "synthetic":
            return []
