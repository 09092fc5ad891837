"""Feature services follow the models: each model names the one that it was trained with, and Feast keeps those."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_sets import AS_OF, shop, users_table, write_feature_set

from feature_repo import build_training_set, materialise, training_frame
from feature_repo.definitions import TIMESTAMP, portrait_names, service_name
from feature_repo.environment import open_store
from feature_repo.point_in_time import join_as_of
from recommender.datasets.synthetic import World, generate
from recommender.features.build import build
from recommender.features.training_set import TrainingSet
from recommender.registry import Registry, bundle
from recommender.settings import Settings
from recommender.storage.manifest import write_manifest
from recommender.training import train


def services(settings: Settings) -> set[str]:
    return {service.name for service in open_store(settings).list_feature_services()}


def add_version(settings: Settings, folder: Path, service: str) -> str:
    """A version in the model registry whose lineage names this service."""
    live = folder / "fits" / "live"
    live.mkdir(parents=True)
    (live / "weights.safetensors").write_bytes(service.encode())
    write_manifest(live, kind="bundle")
    identity = {"data_hash": folder.name, "training_hash": "t", "ranker": "logistic", "code_version": "c"}
    (folder / "lineage.json").write_text(json.dumps({**identity, "feature_service": service}))
    return Registry(settings.home).add(folder)


def test_services_of_versions_in_the_model_registry_stay_and_others_go(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var")
    names = {}
    for features in (8, 12, 16):
        users = users_table(["a", "b"], [AS_OF, AS_OF], features=features)
        folder = write_feature_set(tmp_path / f"with {features}", users)
        names[features] = service_name(portrait_names(users.schema))
        materialise(folder, settings)
        if features == 8:
            add_version(settings, tmp_path / "model", names[8])
    assert len(set(names.values())) == 3
    assert services(settings) == {names[8], names[16]}
    store = open_store(settings)
    kept = store.get_feature_service(names[8])
    assert sum(len(projection.features) for projection in kept.feature_view_projections) == 8 + 2


def test_a_damaged_version_loses_no_service(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var")
    materialise(shop(tmp_path / "old", features=8), settings)
    version = add_version(settings, tmp_path / "model", "campaign_ranker_of_nothing")
    (Registry(settings.home).path(version) / "lineage.json").write_text("{")
    old = services(settings)
    materialise(shop(tmp_path / "new", features=12), settings)
    assert services(settings) > old


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Settings]:
    """Features and tables of a small synthetic shop, materialised."""
    root = tmp_path_factory.mktemp("small")
    tables = generate(World.small(num_users=80), root / "tables")
    features = build(tables, root / "features", as_of=tables.log_end, threads=1)
    settings = Settings(home=root / "var")
    materialise(features, settings)
    return features, root / "tables", settings


def test_every_column_of_every_decision_is_what_feast_s_own_join_answers(
    small: tuple[Path, Path, Settings],
) -> None:
    features, _, settings = small
    pairs = pq.read_table(features / "pairs.parquet", columns=["user_id", "decided_at"])
    moments = pairs.group_by(["user_id", "decided_at"]).aggregate([]).rename_columns(["user_id", TIMESTAMP])
    second = pa.scalar(1_000_000, pa.duration("us"))
    # Also moments between decisions, before every row, and of a user who is unknown.
    shifted = [moments.set_column(1, TIMESTAMP, shift(moments[TIMESTAMP], second)) for shift in (pc.add, pc.subtract)]
    stranger = moments.slice(0, 1).set_column(0, "user_id", pa.array(["nobody"]))
    moments = pa.concat_tables([moments, *shifted, stranger])
    store = open_store(settings)
    names = portrait_names(pq.read_schema(features / "users.parquet"))
    service = store.get_feature_service(service_name(names))
    order = ["user_id", TIMESTAMP]
    feast = store.get_historical_features(moments.to_pandas(), service).to_arrow().to_pandas()
    ours = join_as_of(store, service, moments).to_pandas()
    assert sorted(ours.columns) == sorted(feast.columns)
    assert len(ours) == len(moments) > 200
    feast, ours = (frame.sort_values(order, ignore_index=True) for frame in (feast, ours))
    for name in (*order, "affinity", "history"):
        assert [value if value is not None and value == value else None for value in ours[name]] == [
            value if value is not None and value == value else None for value in feast[name]
        ], name
    for name in names:
        np.testing.assert_array_equal(
            ours[name].to_numpy(np.float32).view(np.uint32)[ours[name].notna()],
            feast[name].to_numpy(np.float32).view(np.uint32)[feast[name].notna()],
        )
        pd.testing.assert_series_equal(ours[name].isna(), feast[name].isna())


def test_a_model_names_the_service_that_its_training_set_was_read_by(
    small: tuple[Path, Path, Settings], tmp_path: Path
) -> None:
    features, tables, settings = small
    build_training_set(features, tables, settings, tmp_path / "set")
    (expected,) = services(settings)
    assert TrainingSet.open(tmp_path / "set").manifest["feature_service"] == expected
    train(tmp_path / "set", ranker="popularity", settings=settings, output=tmp_path / "candidate")
    version = Registry(settings.home).add(tmp_path / "candidate")
    assert Registry(settings.home).lineage(version)["feature_service"] == expected
    assert bundle.lineage(Registry(settings.home).bundle(version))["feature_service"] == expected
    assert training_frame(features, settings).num_rows > 0
