"""The data sources, by the name that the settings give them. Adding one takes a module and a line of `SOURCES`."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from recommender.datasets.tables import Tables
from recommender.settings import ResourceSettings, SourceSettings, choose


class Source(Protocol):
    """A kind of data source."""

    def check(self, source: SourceSettings) -> None:
        """Raise a SettingsError that names the key where `source` lacks what this kind needs."""

    def content(self, source: SourceSettings) -> Sequence[str]:
        """What identifies the content of all that `ingest` would read: it changes whenever that does."""

    def ingest(self, source: SourceSettings, output: Path, resources: ResourceSettings) -> Tables:
        """Read the source into a folder of canonical tables, within the memory that `resources` allows."""


SOURCES = {
    "complete_journey": "recommender.datasets.complete_journey:CompleteJourney",
    "files": "recommender.datasets.own_files:OwnFiles",
    "synthetic": "recommender.datasets.synthetic.source:Synthetic",
}
"""Data source (`source.dataset`) -> module and class of what reads it. Each is imported when asked for."""


def source_of(settings: SourceSettings) -> Source:
    """The source that `source.dataset` names, after checking that its settings suffice.

    Raises:
        SettingsError: no source has this name (lists those there are), or it lacks a setting; names the key.
    """
    module, attribute = choose(SOURCES, settings.dataset, "source.dataset").split(":")
    source: Source = getattr(import_module(module), attribute)()
    source.check(settings)
    return source


def source_module(settings: SourceSettings) -> str:
    """The module that defines the source, for its code identity.

    Raises:
        SettingsError: no source has this name (lists those there are).
    """
    return choose(SOURCES, settings.dataset, "source.dataset").partition(":")[0]
