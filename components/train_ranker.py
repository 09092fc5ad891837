"""Pipeline step: fit one ranker on the data before the gate period, before the final test and before now."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def train_ranker(
    settings: str,
    code_version: str,
    data_hash: str,  # For the cache key alone: in a ParallelFor, kfp.local 2.17 passes the loop's item instead.
    ranker: str,
    training_set: Input[Dataset],
    fits: Output[Model],
    page: Output[HTML],
    metrics: Output[Metrics],
) -> None:
    """Train one ranker, and write its bundles and its curves. A killed step resumes from its last checkpoint."""
    from pathlib import Path

    from components.step import log_metrics, running
    from recommender.report.training import page_of_fits
    from recommender.settings import settings_from_json
    from recommender.training import train
    from recommender.training.trials import with_best_trial

    with running("train_ranker", reads={"training_set": training_set.path}, writes={"fits": fits.path}) as wrote:
        chosen = with_best_trial(Path(training_set.path), ranker, settings_from_json(settings))
        result = train(Path(training_set.path), ranker=ranker, settings=chosen, output=Path(fits.path))
        Path(page.path).write_text(page_of_fits(result.output, ranker=ranker), encoding="utf-8")
        wrote.update({name: result.lineage[name] for name in ("data_hash", "training_hash", "code_version", "ranker")})
        fits.metadata.update(wrote)
        log_metrics(metrics, result.metrics)
