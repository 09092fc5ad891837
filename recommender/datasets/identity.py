"""The content of a source as one hash, so that an unchanged source need not be read again."""

from recommender.datasets.sources import source_of
from recommender.settings import SourceSettings
from recommender.storage.manifest import digest


def source_identity(source: SourceSettings) -> str:
    """Hex SHA-256 of the settings of `source` and of the content that `ingest` would read.

    Raises:
        SettingsError: no source has this name, or its settings are wrong; names the key.
        SourceError: a file of the source is missing, or an object store is away; names it.
    """
    return digest(source.model_dump(mode="json"), list(source_of(source).content(source)))
