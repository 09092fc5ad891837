"""Pipeline step: read a source into the canonical tables."""

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def ingest(
    settings: str, source_identity: str, code_version: str, tables: Output[Dataset], metrics: Output[Metrics]
) -> str:
    """Read the configured source into canonical tables, and return their data hash.

    `source_identity` names the source's content, which KFP cannot see. It is only part of the cache key. The manifest
    records the moment of reading, and a cached step keeps the one of its first run.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from components.step import log_metrics, patiently, running
    from recommender.days import ingest_in_days
    from recommender.settings import settings_from_json

    with running("ingest", reads={"source_identity": source_identity}, writes={"tables": tables.path}) as wrote:
        chosen, output, now = settings_from_json(settings), Path(tables.path), datetime.now(UTC)
        made = patiently(lambda: ingest_in_days(chosen, output, ingested_at=now))
        facts = {"data_hash": made.data_hash, "source": made.manifest["source"], "log_end": str(made.log_end)}
        tables.metadata.update(facts, source_identity=source_identity)
        wrote.update(facts, rows=made.manifest["rows"])
        log_metrics(metrics, {f"{name}_rows": rows for name, rows in made.manifest["rows"].items()})
        return made.data_hash
