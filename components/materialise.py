"""Pipeline step: write features to Feast's offline and online store, and the catalogue for serving."""

from kfp import dsl
from kfp.dsl import Dataset, Input

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def materialise(settings: str, data_hash: str, features: Input[Dataset]) -> str:
    """Make the features readable in training (offline) and in serving (online). Repeating it changes nothing.

    Features with other columns than what serves was trained on are refused before anything is written.
    Returns the data hash, so that the steps that read the store depend on this one.
    """
    from pathlib import Path

    from components.step import patiently, running
    from feature_repo import materialise as materialise_features
    from recommender.monitoring.columns import require_columns
    from recommender.settings import settings_from_json

    with running("materialise", reads={"features": features.path, "data_hash": data_hash}) as wrote:
        chosen = settings_from_json(settings)
        require_columns(Path(features.path), chosen)
        store = patiently(lambda: materialise_features(Path(features.path), chosen))
        wrote.update(feature_store=str(store.root), online_store=chosen.store.kind)
        return data_hash
