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

    from components.step import patiently, running
    from feature_repo import build_training_set as build
    from recommender.settings import settings_from_json

    reads = {"features": features.path, "tables": tables.path, "data_hash": data_hash}
    with running("build_training_set", reads=reads, writes={"training_set": training_set.path}):
        folders = Path(features.path), Path(tables.path)
        patiently(lambda: build(*folders, settings_from_json(settings), Path(training_set.path)))
        training_set.metadata.update(data_hash=data_hash)
