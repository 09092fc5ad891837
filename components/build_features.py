"""Pipeline step: portraits, item and campaign features, affinities, histories and labels, each as of its decision."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def build_features(
    settings: str, code_version: str, data_hash: str, tables: Input[Dataset], features: Output[Dataset]
) -> None:
    """Build every feature only from data before its decision time."""
    from pathlib import Path

    from components.step import running
    from recommender.datasets.tables import open_tables
    from recommender.features import build_as_set
    from recommender.settings import settings_from_json

    with running("build_features", reads={"tables": tables.path}, writes={"features": features.path}) as wrote:
        chosen, opened = settings_from_json(settings), open_tables(Path(tables.path))
        # If the periods cannot be resolved, the run stops here, before it changes the feature store.
        as_of = build_as_set(opened, Path(features.path), chosen)
        features.metadata.update(data_hash=data_hash, as_of=as_of.isoformat())
        wrote["as_of"] = as_of.isoformat()
