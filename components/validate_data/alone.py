"""Validates a mapping's files or a folder of tables outside a pipeline, compared with the source's last good run."""

from pathlib import Path
from tempfile import TemporaryDirectory

from components.validate_data.validation import validate
from components.validate_data.verdict import Verdict
from recommender.datasets import ingest
from recommender.datasets.moments import as_of as moment_of
from recommender.datasets.tables import open_tables
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST, NAME_DIGITS, digest


def validate_alone(settings: Settings, page: Path, *, tables: Path | None = None) -> Verdict:
    """Judge the configured source as a run would, and write only the page.

    Args:
        settings: the source, the time of decision, and the home whose last good run is compared with.
        page: the HTML file to write.
        tables: a folder of canonical tables to judge instead of the source.

    Raises:
        SourceError, ContractError: as ingestion does.
        CorruptFileError: a file of the folder is not the one that its manifest names.
        ValidationFailed: critical expectations failed.
    """
    with TemporaryDirectory(prefix="recommender-validate-") as folder:
        if tables is None:
            tables = Path(folder) / "tables"
            ingest(settings.source, tables)
        memory = Home.of(settings).validated(digest(settings.source.model_dump(mode="json"))[:NAME_DIGITS])
        return validate(
            tables,
            Path(folder) / "clean",
            page,
            as_of=moment_of(settings.time, open_tables(tables)),
            previous=memory if (memory / MANIFEST).is_file() else None,
        )
