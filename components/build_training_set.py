"""Pipeline step: the pairs of user and campaign, with the user's features as they stood at each decision."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def build_training_set(
    settings: str,
    code_version: str,
    data_hash: str,
    features: Input[Dataset],
    tables: Input[Dataset],
    training_set: Output[Dataset],
) -> None:
    """Read users point-in-time from Feast, and join them to campaigns with the same function as serving."""
    from pathlib import Path

    from feature_repo import build_training_set as build
    from recommender import logs
    from recommender.settings import settings_from_json

    logs.configure(process="step:build_training_set")
    build(Path(features.path), Path(tables.path), settings_from_json(settings), Path(training_set.path))
