"""Step 8: challenger, champion and baselines on the same later campaigns and the same users."""

from kfp import dsl
from kfp.dsl import ClassificationMetrics, Dataset, Input, Metrics, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def evaluate(
    settings: str,
    champion: str,
    challenger: str,
    others: list,
    training_set: Input[Dataset],
    evaluation: Output[Dataset],
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
):
    """Measure every version on the gate's campaigns and on the final test, with intervals."""
    from pathlib import Path

    from recommender.experiments.contest import Entry, compare, figures
    from recommender.settings import settings_from_json

    entry, chosen = Entry(champion, challenger, tuple(others)), settings_from_json(settings)
    measured = compare(Path(training_set.path), entry, settings=chosen, output=Path(evaluation.path))
    for name, value in figures(measured).items():
        metrics.log_metric(name, value)
    false_positive, true_positive, threshold = zip(*measured.gate.rankers[measured.challenger].roc, strict=True)
    roc.log_roc_curve(list(false_positive), list(true_positive), list(threshold))
