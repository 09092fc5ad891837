"""The staging feature store works with offline files in S3 and online values in Redis."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extras import ROOT, run_with_only
from feature_sets import AS_OF, shop, write_feature_set
from servers import ObjectStore, free_ports, valkey

from feature_repo import materialise, training_frame
from feature_repo.definitions import FILES
from feature_repo.environment import open_store
from recommender.errors import FeatureStoreError, StoreAway
from recommender.settings import Settings, StoreSettings
from serving.online_store.client import OnlineStoreClient

MATERIALISED = """
import os, sys
from pathlib import Path

import pyarrow.parquet as pq
from feature_repo import materialise, training_frame
from recommender.settings import settings_from_json

features, settings, frame = Path(sys.argv[1]), settings_from_json(sys.argv[2]), sys.argv[3]
materialise(features, settings)
pq.write_table(training_frame(features, settings), frame)
"""
VIEWS = {
    "user_base", "user_behaviour", "user_interest", "user_consumption", "user_affinity", "user_history", "user_serving",
    "campaign_features", "item_features",
}  # fmt: skip


@pytest.fixture
def staging(redis_url: str, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.setenv("FEATURE_STORE_ENVIRONMENT", "staging")
    monkeypatch.setenv("FEATURE_STORE_OFFLINE", f"s3://{bucket}/features")
    return Settings(home=tmp_path / "staging", store=StoreSettings(kind="redis", redis_url=redis_url))


def assert_same(frame: pa.Table, expected: pa.Table) -> None:
    """Equal to the bit, a NaN equal to a NaN and a null to a null."""
    assert frame.schema.equals(expected.schema)
    assert [column.null_count for column in frame.columns] == [column.null_count for column in expected.columns]
    pd.testing.assert_frame_equal(frame.to_pandas(), expected.to_pandas(), check_exact=True)


def on_one_machine(features: Path, home: Path) -> pa.Table:
    """What training reads of these features from SQLite, a registry file and local Parquet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("FEATURE_STORE_ENVIRONMENT")
        patch.delenv("FEATURE_STORE_OFFLINE")
        settings = Settings(home=home)
        materialise(features, settings)
        return training_frame(features, settings)


@pytest.mark.slow
def test_the_pipeline_extra_alone_writes_and_reads_every_store_of_staging(
    tmp_path: Path, staging: Settings, bucket: str, object_store: ObjectStore
) -> None:
    features = shop(tmp_path / "features")
    environment = {
        "PYTHONPATH": str(ROOT),
        "FEATURE_STORE_ENVIRONMENT": "staging",
        "FEATURE_STORE_OFFLINE": f"s3://{bucket}/features",
        **object_store.environment,
    }
    arguments = (str(features), staging.model_dump_json(), str(tmp_path / "frame.parquet"))
    done = run_with_only("pipeline", MATERIALISED, *arguments, environment=environment)
    assert done.returncode == 0, done.stderr

    home = staging.home / "feature_store"
    assert (home / "registry.db").is_file()
    assert {view.name for view in open_store(staging).list_feature_views()} == VIEWS
    for file in FILES.values():
        in_s3 = object_store.files.open_input_file(f"{bucket}/features/{file}").read()
        assert in_s3 == (home / "offline" / file).read_bytes(), file
    client = OnlineStoreClient.open(staging)
    assert all(client.read(f"user {index}", timeout_s=5) is not None for index in range(40))
    client.close()
    assert_same(pq.read_table(tmp_path / "frame.parquet"), on_one_machine(features, tmp_path / "local"))


def test_a_later_run_replaces_definitions_and_files_in_s3(tmp_path: Path, staging: Settings) -> None:
    materialise(shop(tmp_path / "old", seed=1), staging)
    users = pq.read_table(shop(tmp_path / "full", seed=2) / "users.parquet")
    gone = [name for name in users.column_names if name.startswith("interest__")]
    new = write_feature_set(tmp_path / "new", users.drop_columns(gone), decisions=[("user 3", "c1", AS_OF)])
    materialise(new, staging)
    store = open_store(staging)
    assert {view.name for view in store.list_feature_views()} == VIEWS - {"user_interest"}
    files = {source.path.rpartition("/")[2] for source in store.list_data_sources() if hasattr(source, "path")}
    assert files == set(FILES.values())
    frame = training_frame(new, staging)
    assert frame.num_rows == 1
    assert_same(frame, on_one_machine(new, tmp_path / "local"))


def test_training_reads_the_files_in_s3_and_names_one_that_is_gone(
    tmp_path: Path, staging: Settings, bucket: str, object_store: ObjectStore
) -> None:
    features = shop(tmp_path / "features", num_users=3)
    materialise(features, staging)
    object_store.files.delete_file(f"{bucket}/features/users.parquet")
    with pytest.raises(FeatureStoreError, match=f"s3://{bucket}/features/users.parquet"):
        training_frame(features, staging)


def test_an_object_store_that_refuses_the_key_is_an_error_that_names_the_address(
    tmp_path: Path, staging: Settings, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(FeatureStoreError, match=rf"FEATURE_STORE_OFFLINE=s3://{bucket}/features: .*ACCESS_DENIED"):
        materialise(shop(tmp_path / "features", num_users=3), staging)


def test_a_store_that_is_away_or_refuses_the_password_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = shop(tmp_path / "features", num_users=3)
    (port,) = free_ports(1)
    settings = Settings(home=tmp_path, store=StoreSettings(kind="redis", redis_url=f"redis://127.0.0.1:{port}/0"))
    with pytest.raises(StoreAway, match=rf"Redis at 127\.0\.0\.1:{port}: no answer"):
        materialise(features, settings)
    with valkey(tmp_path, "--requirepass", "1234", port=port):
        with pytest.raises(FeatureStoreError, match=r"redis_password is missing") as refused:
            materialise(features, settings)
        assert not isinstance(refused.value, StoreAway)
        monkeypatch.setenv("RECOMMENDER_REDIS_PASSWORD", "1234")
        materialise(features, settings)
