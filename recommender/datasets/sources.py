"""The data sources, by the name that the settings give them. Adding one takes a module and a line of `SOURCES`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from recommender.datasets import complete_journey, files, synthetic
from recommender.datasets.reading import content_of
from recommender.datasets.tables import Tables
from recommender.errors import SettingsError
from recommender.settings import SourceSettings, choose
from recommender.storage.manifest import sha256


class Source(Protocol):
    """A kind of data source."""

    def check(self, source: SourceSettings) -> None:
        """Raise a SettingsError that names the key where `source` lacks what this kind needs."""

    def content(self, source: SourceSettings) -> Sequence[str]:
        """What identifies the content of all that `ingest` would read: it changes whenever that does."""

    def ingest(self, source: SourceSettings, output: Path) -> Tables:
        """Read the source into a folder of canonical tables."""


class CompleteJourney:
    """A real year of a real grocer, installed as a package."""

    def check(self, source: SourceSettings) -> None:
        """Nothing to check: this source has no settings."""

    def content(self, source: SourceSettings) -> Sequence[str]:
        """Hashes of the package's files."""
        return [sha256(path) for path in complete_journey.source_files()]

    def ingest(self, source: SourceSettings, output: Path) -> Tables:
        """Read the package's files."""
        return complete_journey.ingest(output)


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

    def ingest(self, source: SourceSettings, output: Path) -> Tables:
        """Read the files as the mapping describes."""
        return files.ingest(Path(source.mapping), output)


class Synthetic:
    """A generated shop whose truth is known."""

    def check(self, source: SourceSettings) -> None:
        """Raise a SettingsError where a key of `source.synthetic` is unknown or its value out of range."""
        synthetic.from_settings(source.synthetic)

    def content(self, source: SourceSettings) -> Sequence[str]:
        """None: the settings alone decide what is generated."""
        return ()

    def ingest(self, source: SourceSettings, output: Path) -> Tables:
        """Generate the shop."""
        return synthetic.generate(synthetic.from_settings(source.synthetic), output)


SOURCES: dict[str, Source] = {
    "complete_journey": CompleteJourney(),
    "files": OwnFiles(),
    "synthetic": Synthetic(),
}
"""Data source (`source.dataset`) -> what reads it."""


def source_of(settings: SourceSettings) -> Source:
    """The source that `source.dataset` names, after checking that its settings suffice.

    Raises:
        SettingsError: no source has this name (lists those there are), or it lacks a setting; names the key.
    """
    source = choose(SOURCES, settings.dataset, "source.dataset")
    source.check(settings)
    return source
