"""Pipeline step: the newest features against the champion's, ages, and what was served; a page and metrics of it."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def monitor(
    settings: str,
    run: str,
    features: Input[Dataset],
    tables: Input[Dataset],
    report: Output[Dataset],
    page: Output[HTML],
    metrics: Output[Metrics],
) -> None:
    """Look, publish what was found below `home`, and end well also where a limit is broken: the next step refuses."""
    from pathlib import Path

    from components.step import log_metrics, running
    from recommender.monitoring.monitor import monitor as look
    from recommender.report.monitoring import publish_monitoring
    from recommender.settings import settings_from_json
    from recommender.storage.home import Home

    with running("monitor", reads={"features": features.path, "tables": tables.path}, writes={"page": page.path}):
        chosen = settings_from_json(settings)
        found = look(Path(features.path), Path(tables.path), chosen, run=run)
        Path(page.path).write_text(publish_monitoring(found, Home.of(chosen)), encoding="utf-8")
        Path(report.path).write_text(found.model_dump_json(indent=1), encoding="utf-8")
        log_metrics(metrics, {"findings": len(found.findings), "limits_broken": len(found.broken)})
