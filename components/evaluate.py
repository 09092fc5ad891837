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

    from components.step import running
    from recommender.promotion.versions import evaluate_versions
    from recommender.settings import settings_from_json

    versions = {"champion": champion, "challenger": challenger}
    reads, writes = {"training_set": training_set.path, **versions}, {"evaluation": evaluation.path, "page": page.path}
    with running("evaluate", reads={**reads, "others": others}, writes=writes):
        data, output, html = Path(training_set.path), Path(evaluation.path), Path(page.path)
        measured = evaluate_versions(
            data, **versions, others=others, settings=settings_from_json(settings), output=output, page=html
        )
        evaluation.metadata.update(versions, data_hash=measured.evaluation.data_hash)
        for name, value in measured.metrics.items():
            metrics.log_metric(name, value)
        roc.log_roc_curve(*measured.roc_curve)
        roc.log_confusion_matrix(*measured.confusion_matrix)
