"""The deployer's half of the in-process engine, without a gateway."""

import json
import time
from pathlib import Path

import pytest

from recommender.errors import ServingError
from recommender.settings import Settings
from recommender.storage.home import ServingState
from recommender.storage.manifest import whole_folder, write_manifest
from serving.engines.in_process.loading import InProcessLoading


def test_waiting_for_a_version_ends_with_the_gateway_that_should_load_it(tmp_path: Path) -> None:
    settings = Settings.model_validate({"home": tmp_path / "home"})
    state, loading = ServingState.of(settings), InProcessLoading(settings)
    with whole_folder(tmp_path / "bundle") as bundle:
        write_manifest(bundle, kind="ranker", format=1)
    state.root.mkdir(parents=True)
    state.loaded.write_text(json.dumps({}))
    loading.register("v1", tmp_path / "bundle")
    assert loading.versions() == {"v1": ["LOADING"]}
    state.loaded.unlink()  # as a gateway that ends does
    began_s = time.monotonic()
    with pytest.raises(ServingError, match="v1"):
        loading.wait_ready("v1")
    assert time.monotonic() - began_s < 10
