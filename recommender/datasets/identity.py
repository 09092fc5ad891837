"""The content of a source as one hash, so that an unchanged source need not be read again."""

from recommender.datasets.sources import source_of
from recommender.settings import SourceSettings
from recommender.storage.manifest import digest, sha256


def source_identity(source: SourceSettings) -> str:
    """Hex SHA-256 of the settings of `source` and of every file that `ingest` would read.

    Raises:
        SettingsError: no source has this name, or its settings are wrong; names the key.
        SourceError: a file of the source is missing; names it.
    """
    return digest(source.model_dump(mode="json"), [sha256(path) for path in source_of(source).files(source)])
