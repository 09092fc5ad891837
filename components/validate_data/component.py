"""Pipeline step: expectations about every table. A critical failure stops the run, bad rows go to quarantine."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def validate_data(
    settings: str,
    source_identity: str,
    code_version: str,
    data_hash: str,
    raw: Input[Dataset],
    tables: Output[Dataset],
    page: Output[HTML],
    metrics: Output[Metrics],
) -> str:
    """Judge the tables, write the rows that passed, and return their data hash.

    Tables that pass put the daily partitions into force that ingestion proposed. `source_identity` is only part of the
    cache key: after a backfill the same tables come with another proposal.

    Raises:
        ValidationFailed: critical expectations failed; the message shows them with the failing rows.
    """
    from pathlib import Path

    from components.step import log_metrics, running
    from components.validate_data.validation import validate_step
    from recommender.settings import settings_from_json

    outputs = {"tables": tables.path, "page": page.path}
    with running("validate_data", reads={"tables": raw.path, "data_hash": data_hash}, writes=outputs) as wrote:
        chosen = settings_from_json(settings)
        verdict = validate_step(Path(raw.path), Path(tables.path), html=Path(page.path), settings=chosen)
        log_metrics(metrics, verdict.metrics)
        tables.metadata.update(data_hash=verdict.data_hash, made_from=data_hash)
        wrote.update(verdict.metrics, data_hash=verdict.data_hash)
        return verdict.data_hash
