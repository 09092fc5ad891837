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

    from recommender import logs
    from recommender.promotion.versions import evaluate_versions
    from recommender.settings import settings_from_json

    logs.configure(process="step:evaluate")
    chosen, outputs = settings_from_json(settings), {"output": Path(evaluation.path), "page": Path(page.path)}
    measured = evaluate_versions(
        Path(training_set.path), champion=champion, challenger=challenger, others=others, settings=chosen, **outputs
    )
    for name, value in measured.metrics.items():
        metrics.log_metric(name, value)
    roc.log_roc_curve(*measured.roc_curve)
    roc.log_confusion_matrix(*measured.confusion_matrix)
