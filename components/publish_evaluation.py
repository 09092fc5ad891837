"""Step 11: evaluation, verdict and pages get their fixed names below `home`, all of them from the same run."""

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
):
    """Publish what `recommender report` shows."""
    from pathlib import Path

    from recommender import logs
    from recommender.settings import settings_from_json
    from recommender.storage.home import Home
    from recommender.storage.published import publish

    logs.configure(process="step:publish_evaluation")
    names = Home.of(settings_from_json(settings)).published
    sources = {names.evaluation: evaluation, names.verdict: verdict}
    sources |= {names.evaluation_page: evaluation_page, names.training_page: training_page}
    publish(names, {name: Path(one.path) for name, one in sources.items()}, run=run, data_hash=data_hash)
