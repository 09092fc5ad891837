"""The source `files`: one's own files, by a mapping TOML."""

from collections.abc import Sequence
from pathlib import Path

from recommender.datasets import files
from recommender.datasets.reading import content_of
from recommender.datasets.tables import Tables
from recommender.errors import SettingsError
from recommender.settings import ResourceSettings, SourceSettings


class OwnFiles:
    """One's own CSV and Parquet files, by a mapping TOML."""

    def check(self, source: SourceSettings) -> None:
        """Raise a SettingsError where no mapping is named."""
        if not source.mapping:
            raise SettingsError(
                'source.mapping: empty, but source.dataset is "files"; name a mapping file, or draft one: '
                "recommender draft-mapping"
            )

    def content(self, source: SourceSettings) -> Sequence[str]:
        """Marks of the mapping and of every file, object and query that it names."""
        return content_of(Path(source.mapping))

    def ingest(self, source: SourceSettings, output: Path, resources: ResourceSettings) -> Tables:
        """Read the files as the mapping describes."""
        return files.ingest(Path(source.mapping), output, resources)
