"""Pipeline step: publish the training set and the validation page under fixed names below `home`."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def publish_training_set(
    settings: str, run: str, data_hash: str, training_set: Input[Dataset], validation_page: Input[HTML]
) -> None:
    """Publish the files for people and `recommender tune`, even if the steps that made them were cached."""
    from pathlib import Path

    from components.step import running
    from recommender.settings import settings_from_json
    from recommender.storage.home import Home
    from recommender.storage.published import publish

    results = {"training_set": Path(training_set.path), "validation_page": Path(validation_page.path)}
    with running("publish_training_set", reads=results) as wrote:
        home = Home.of(settings_from_json(settings))
        publish(home, run=run, data_hash=data_hash, **results)
        wrote.update(published=str(home.published.root), run=run, data_hash=data_hash)
