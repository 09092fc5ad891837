"""The source `synthetic`: a generated shop."""

from collections.abc import Sequence
from pathlib import Path

from recommender.datasets import synthetic
from recommender.datasets.tables import Tables
from recommender.settings import ResourceSettings, SourceSettings


class Synthetic:
    """A generated shop whose truth is known."""

    def check(self, source: SourceSettings) -> None:
        """Raise a SettingsError where a key of `source.synthetic` is unknown or its value out of range."""
        synthetic.from_settings(source.synthetic)

    def content(self, source: SourceSettings) -> Sequence[str]:
        """None: the settings alone decide what is generated."""
        return ()

    def ingest(self, source: SourceSettings, output: Path, resources: ResourceSettings) -> Tables:
        """Generate the shop, whose size its own settings name."""
        return synthetic.generate(synthetic.from_settings(source.synthetic), output)
