"""Step 10, after PROMOTE: the challenger's bundle becomes a TorchServe archive."""

from kfp import dsl
from kfp.dsl import Model, Output

from components.images import PIPELINE_IMAGE


@dsl.component(base_image=PIPELINE_IMAGE, install_kfp_package=False)
def package(settings: str, version: str, archive: Output[Model]):
    """Build the .mar of a registered version from its verified live bundle."""
    from pathlib import Path

    from recommender.registry import Registry
    from recommender.settings import settings_from_json
    from serving.archive import build_archive

    bundle = Registry(settings_from_json(settings).home).bundle(version)
    made = build_archive(bundle, Path(archive.path), version=version)
    archive.metadata.update(version=version, file=made.name, bytes=made.stat().st_size)
