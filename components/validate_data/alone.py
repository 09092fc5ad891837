"""Validates a source or a folder of tables outside a pipeline, compared with the source's last good run."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from components.validate_data.quarantine import SetAside, quarantined
from components.validate_data.quarantine import keep as keep_list
from components.validate_data.validation import accept_command, record_of, validate
from components.validate_data.verdict import Verdict
from recommender.datasets import ingest
from recommender.datasets.moments import as_of as moment_of
from recommender.datasets.tables import open_tables
from recommender.errors import ValidationFailed
from recommender.event_tables.forgotten_rows import without_forgotten
from recommender.settings import Settings
from recommender.storage.home import Home, source_name
from recommender.storage.scratch import scratch_folder


def validate_alone(settings: Settings, page: Path, *, tables: Path | None = None, keep: bool = True) -> Verdict:
    """Judge the configured source as a run would, and write only the page.

    What failed is kept in the source's record, so that it can be accepted. The run that later runs are compared with
    stays the last good run of the pipeline.

    Args:
        settings: the source, the time of decision, and the home whose last good run is compared with.
        page: the HTML file to write.
        tables: a folder of canonical tables to judge instead of the source.
        keep: whether what failed is kept in the source's record.

    Raises:
        SourceError, ContractError: as ingestion does.
        CorruptFileError: a file of the folder is not the one that its manifest names.
        ValidationFailed: critical expectations failed.
    """
    record = record_of(settings)
    with scratch_folder("validate", settings.resources.scratch) as folder:
        if tables is None:
            tables = Path(folder) / "tables"
            made = ingest(settings.source, tables, ingested_at=datetime.now(UTC), resources=settings.resources)
            without_forgotten(made, Home.of(settings), resources=settings.resources)
        source = open_tables(tables)
        try:
            verdict = validate(
                tables,
                Path(folder) / "clean",
                page,
                as_of=moment_of(settings.time, source),
                previous=Home.of(settings).validated(source_name(settings)),
                runs=record.runs(),
                review=record.applied,
                resources=settings.resources,
                accept=accept_command(settings),
            )
        except ValidationFailed as failed:
            if isinstance(failed.verdict, Verdict) and keep:
                record.keep(failed.verdict, source.data_hash)
                keep_list(_without_files(tables), record.folder)
            raise
        if keep:
            record.keep(verdict, verdict.data_hash)
            keep_list(_without_files(Path(folder) / "clean"), record.folder)
    return verdict


def _without_files(tables: Path) -> list[SetAside]:
    """What was set aside, without the files of all rows, which do not outlive this validation."""
    return [replace(one, file=None) for one in quarantined(tables)]
