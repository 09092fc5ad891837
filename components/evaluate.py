"""Step 8: challenger, champion and baselines on the same later campaigns and the same users."""

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Metrics, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def evaluate(
    settings: str,
    champion: str,
    challenger: str,
    others: list,
    training_set: Input[Dataset],
    evaluation: Output[Dataset],
    page: Output[HTML],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
):
    """Measure every version on the gate's campaigns and on the final test, with intervals; the page shows all of it."""
    from pathlib import Path

    from recommender.evaluation import evaluate_step

    measured = evaluate_step(
        Path(training_set.path), champion, challenger, others, settings, Path(evaluation.path), Path(page.path)
    )
    for name, value in measured.figures.items():
        metrics.log_metric(name, value)
    roc.log_roc_curve(*measured.roc)
