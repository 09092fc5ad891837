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

    from recommender import logs
    from recommender.settings import settings_from_json
    from recommender.storage.home import Home
    from recommender.storage.published import publish

    logs.configure(process="step:publish_training_set")
    results = {"training_set": Path(training_set.path), "validation_page": Path(validation_page.path)}
    publish(Home.of(settings_from_json(settings)), run=run, data_hash=data_hash, **results)
