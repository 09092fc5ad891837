"""Pipeline step: publish evaluation, verdict and pages of one run under fixed names below `home`."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def publish_evaluation(
    settings: str,
    run: str,
    data_hash: str,
    evaluation: Input[Dataset],
    verdict: Input[Dataset],
    evaluation_page: Input[HTML],
    training_page: Input[HTML],
) -> None:
    """Publish the files that `recommender report` shows."""
    from pathlib import Path

    from components.step import running
    from recommender.settings import settings_from_json
    from recommender.storage.home import Home
    from recommender.storage.published import publish

    results = {"evaluation": Path(evaluation.path), "verdict": Path(verdict.path)}
    pages = {"evaluation_page": Path(evaluation_page.path), "training_page": Path(training_page.path)}
    with running("publish_evaluation", reads=results | pages) as wrote:
        home = Home.of(settings_from_json(settings))
        publish(home, run=run, data_hash=data_hash, **results, **pages)
        wrote.update(published=str(home.published.root), run=run, data_hash=data_hash)
