"""Pipeline step: write features to Feast's offline and online store, and the catalogue for serving."""

from kfp import dsl
from kfp.dsl import Dataset, Input

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def materialise(settings: str, data_hash: str, features: Input[Dataset]) -> str:
    """Make the features readable in training (offline) and in serving (online). Repeating it changes nothing.

    Returns the data hash, so that the steps that read the store depend on this one.
    """
    from pathlib import Path

    from feature_repo import materialise as materialise_features
    from recommender import logs
    from recommender.settings import settings_from_json

    logs.configure(process="step:materialise")
    materialise_features(Path(features.path), settings_from_json(settings))
    return data_hash
