"""Pipeline step: measure challenger, champion and baselines on the same later campaigns and users."""

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Metrics, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def evaluate(
    settings: str,
    champion: str,
    challenger: str,
    others: list[str],
    training_set: Input[Dataset],
    evaluation: Output[Dataset],
    page: Output[HTML],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
) -> None:
    """Measure every version on the gate's campaigns and on the final test, with intervals and a page."""
    from pathlib import Path

    from components.step import log_metrics, running
    from recommender.promotion.versions import evaluate_versions
    from recommender.settings import settings_from_json

    versions = {"champion": champion, "challenger": challenger}
    data, output, html = Path(training_set.path), Path(evaluation.path), Path(page.path)
    with running("evaluate", reads={"training_set": data, **versions}, writes={"evaluation": output, "page": html}):
        chosen = settings_from_json(settings)
        measured = evaluate_versions(data, **versions, others=others, settings=chosen, output=output, page=html)
        evaluation.metadata.update(versions, data_hash=measured.evaluation.data_hash)
        log_metrics(metrics, measured.metrics)
        roc.log_roc_curve(*measured.roc_curve)
        roc.log_confusion_matrix(*measured.confusion_matrix)
