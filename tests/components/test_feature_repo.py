"""What training read is what serving reads, whatever happens to the step in between."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_sets import AS_OF, read_shopper, shop, users_table, write_feature_set

from feature_repo import materialise, training_frame
from feature_repo.definitions import SERVING_FIELD, SERVING_VIEW, portrait_names
from feature_repo.environment import open_store
from recommender.errors import ContractError, CorruptFileError, FeatureStoreError
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import read_manifest
from serving.online_store.client import OnlineStoreClient


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var")


@pytest.fixture
def client(settings: Settings) -> Iterator[OnlineStoreClient]:
    client = OnlineStoreClient.open(settings)
    yield client
    client.close()


def online_rows(home: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything in the SQLite online store, table by table."""
    with closing(sqlite3.connect(Home(home).feature_store.online_database)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: connection.execute(
                f'SELECT entity_key, feature_name, value, event_ts FROM "{table}" ORDER BY 1, 2'
            ).fetchall()
            for table in sorted(tables)
        }


def bits(values: np.ndarray) -> np.ndarray:
    """float32 bit patterns, every NaN as one."""
    values = np.asarray(values, dtype=np.float32)
    return np.where(np.isnan(values), np.float32(np.nan), values).view(np.uint32)


@pytest.mark.slow
def test_serving_reads_the_bits_of_the_offline_rows_and_of_feast_for_a_thousand_users(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient
) -> None:
    features = shop(tmp_path / "features", num_users=1_000, features=20)
    materialise(features, settings)
    offline = pq.read_table(features / "users.parquet").slice(2_000)  # the rows of AS_OF
    names = portrait_names(offline.schema)
    portraits = np.column_stack([offline[name].to_numpy().astype(np.float32) for name in names])
    ids = offline["user_id"].to_pylist()

    feast = open_store(settings).get_online_features(
        [f"{SERVING_VIEW}:{SERVING_FIELD}"], [{"user_id": user_id} for user_id in ids]
    )
    of_feast = feast.to_dict()[SERVING_FIELD]

    for row, user_id in enumerate(ids):
        shopper = read_shopper(client, settings, user_id)
        assert shopper is not None
        assert shopper.portrait_names == names
        assert shopper.feature_time_us == AS_OF.timestamp() * 1_000_000
        np.testing.assert_array_equal(bits(shopper.portrait_P), bits(portraits[row]))
        assert (shopper.affinity, shopper.history) == (
            offline["affinity"][row].as_py(),
            offline["history"][row].as_py(),
        )
        packed = client.read(user_id, timeout_s=5)
        assert packed is not None
        assert packed.content == of_feast[row]


def test_training_sees_each_user_as_of_the_decision_and_nothing_later(tmp_path: Path, settings: Settings) -> None:
    ids = ["a", "b", "ü c"]
    moments = [AS_OF - timedelta(days=days) for days in (90, 60, 30, 0)]
    users = users_table(ids * 4, [moment for moment in moments for _ in ids])
    microsecond = timedelta(microseconds=1)
    decisions = [
        ("a", "c1", moments[1]),  # the row of this very moment counts
        ("a", "c2", moments[1]),  # two campaigns, one decision time
        ("a", "c1", moments[2] - microsecond),  # the next row is one microsecond too late
        ("b", "c1", moments[3] - timedelta(days=3)),
        ("ü c", "c2", moments[0] + microsecond),
        ("b", "c2", moments[0] - microsecond),  # before the user's first row
        ("stranger", "c1", moments[3]),
    ]
    features = write_feature_set(tmp_path / "features", users, decisions=decisions)
    materialise(features, settings)

    frame = training_frame(features, settings)

    keys = pd.DataFrame({"user_id": [d[0] for d in decisions], "event_timestamp": [d[2] for d in decisions]})
    keys["event_timestamp"] = pd.to_datetime(keys.event_timestamp, utc=True).astype("datetime64[us, UTC]")
    keys = keys.drop_duplicates().sort_values("event_timestamp")
    right = users.to_pandas().sort_values("event_timestamp")
    expected = pd.merge_asof(keys, right, on="event_timestamp", by="user_id").sort_values(
        ["user_id", "event_timestamp"]
    )
    assert frame.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")
    assert frame["user_id"].to_pylist() == expected.user_id.tolist()
    assert frame["event_timestamp"].to_pylist() == [stamp.to_pydatetime() for stamp in expected.event_timestamp]
    for name in portrait_names(users.schema):
        assert frame.schema.field(name).type == pa.float32()
        np.testing.assert_array_equal(bits(frame[name].to_numpy()), bits(expected[name].to_numpy()))
    for blob in ("affinity", "history"):
        assert frame[blob].to_pylist() == [value if isinstance(value, bytes) else None for value in expected[blob]]


def test_rows_planted_after_the_decisions_change_nothing_that_training_reads(tmp_path: Path) -> None:
    frames = []
    for name in ("without", "with"):
        settings = Settings(home=tmp_path / name)
        users = users_table(["a", "b"] * 2, [AS_OF - timedelta(days=60)] * 2 + [AS_OF - timedelta(days=30)] * 2)
        if name == "with":
            later = users_table(["a", "b"] * 2, [AS_OF - timedelta(days=10)] * 2 + [AS_OF] * 2, seed=9)
            users = pa.concat_tables([later, users])
        decisions = [("a", "c1", AS_OF - timedelta(days=45)), ("b", "c2", AS_OF - timedelta(days=20))]
        features = write_feature_set(tmp_path / f"{name} features", users, decisions=decisions)
        materialise(features, settings)
        frames.append(training_frame(features, settings))
    assert frames[0].to_pandas().equals(frames[1].to_pandas())


def test_the_newest_row_that_is_not_after_as_of_is_served_in_whatever_order_rows_come(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient
) -> None:
    moments = [AS_OF, AS_OF + timedelta(microseconds=1), AS_OF - timedelta(days=9), AS_OF + timedelta(days=1)]
    users = users_table(["a"] * 4, moments)
    materialise(write_feature_set(tmp_path / "features", users), settings)
    shopper = read_shopper(client, settings, "a")
    assert shopper is not None
    assert shopper.affinity == users["affinity"][0].as_py()
    assert shopper.feature_time_us == AS_OF.timestamp() * 1_000_000


def test_two_rows_of_one_user_at_one_moment_are_an_error_that_names_them(tmp_path: Path, settings: Settings) -> None:
    features = write_feature_set(tmp_path / "features", users_table(["a", "a"], [AS_OF, AS_OF]))
    with pytest.raises(ContractError, match=r"two rows of one user at one moment.*'user_id': 'a'"):
        materialise(features, settings)


def test_running_the_step_again_changes_nothing(tmp_path: Path, settings: Settings) -> None:
    features = shop(tmp_path / "features")
    materialise(features, settings)
    first, catalogue = online_rows(settings.home), (Home.of(settings).catalogue).resolve()
    materialise(features, settings)
    assert online_rows(settings.home) == first
    assert sum(len(rows) for rows in first.values()) == 40
    assert (Home.of(settings).catalogue).resolve() == catalogue


def test_corrected_features_of_the_same_moment_replace_the_old_ones_and_lost_users_and_columns_go(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient
) -> None:
    materialise(shop(tmp_path / "old", num_users=30, features=14, seed=1), settings)
    assert client.read("user 29", timeout_s=5) is not None
    materialise(shop(tmp_path / "new", num_users=20, features=9, seed=2, version="v2"), settings)
    assert client.read("user 29", timeout_s=5) is None
    shopper = read_shopper(client, settings, "user 3")
    assert shopper is not None
    assert len(shopper.portrait_P) == 9

    undisturbed = Settings(home=tmp_path / "undisturbed")
    materialise(tmp_path / "new", undisturbed)
    rows = online_rows(settings.home)
    assert {table: rows[table] for table in online_rows(undisturbed.home)} == online_rows(undisturbed.home)
    assert read_manifest(Home.of(settings).catalogue)["version"] == "v2"
    assert len(list(Home.of(settings).catalogue.with_name("catalogue.versions").iterdir())) == 2


def test_a_portrait_kind_that_the_source_lost_is_no_view_any_more(tmp_path: Path, settings: Settings) -> None:
    users = users_table(["a", "b"], [AS_OF, AS_OF])
    materialise(write_feature_set(tmp_path / "old", users), settings)
    gone = [name for name in users.column_names if name.startswith("interest__")]
    materialise(write_feature_set(tmp_path / "new", users.drop_columns(gone)), settings)
    views = {view.name for view in open_store(settings).list_feature_views()}
    assert views == {
        "user_base", "user_behaviour", "user_consumption", "user_affinity", "user_history", "user_serving",
        "campaign_features", "item_features",
    }  # fmt: skip
    assert not [table for table in online_rows(settings.home) if "interest" in table]


def test_values_that_an_earlier_version_wrote_online_for_other_views_go(tmp_path: Path, settings: Settings) -> None:
    features = shop(tmp_path / "features")
    materialise(features, settings)
    with closing(sqlite3.connect(Home(settings.home).feature_store.online_database)) as connection, connection:
        connection.execute("CREATE TABLE campaigns_user_base AS SELECT * FROM campaigns_user_serving")
    materialise(features, settings)
    assert [*online_rows(settings.home)] == ["campaigns_user_serving"]


@pytest.mark.slow
def test_a_run_killed_half_way_is_healed_by_the_next_one_and_reads_never_stop(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient
) -> None:
    old, new = tmp_path / "old", shop(tmp_path / "new", num_users=300, features=60, seed=2, version="v2")
    materialise(shop(old, num_users=300, features=60), settings)
    before = read_shopper(client, settings, "user 7")
    assert before is not None
    program = (
        "import sys; from pathlib import Path; from recommender.settings import Settings;"
        "from feature_repo import materialise, online;"
        "online.USERS_PER_BATCH = 1;"  # long enough for a kill half-way
        "materialise(Path(sys.argv[1]), Settings(home=Path(sys.argv[2])))"
    )
    with closing(sqlite3.connect(Home.of(settings).feature_store.online_database)) as watcher:
        half_way = 'SELECT count(*) FROM (SELECT value FROM "campaigns_user_serving" EXCEPT SELECT value FROM old)'
        watcher.execute('CREATE TEMP TABLE old AS SELECT value FROM "campaigns_user_serving"')
        run = subprocess.Popen([sys.executable, "-c", program, str(new), str(settings.home)])
        try:
            while watcher.execute(half_way).fetchone()[0] == 0:
                assert run.poll() is None, "the run ended before it could be killed"
                shopper = read_shopper(client, settings, "user 7")
                assert shopper is not None
                if watcher.execute(half_way).fetchone()[0] == 0:  # else the new row may have come before the read
                    np.testing.assert_array_equal(bits(shopper.portrait_P), bits(before.portrait_P))
                time.sleep(0.02)
        finally:
            os.kill(run.pid, signal.SIGKILL)
            run.wait()
    assert read_manifest(Home.of(settings).catalogue)["version"] == "v1"
    assert client.read("user 7", timeout_s=5) is not None

    materialise(new, settings)

    undisturbed = Settings(home=tmp_path / "undisturbed")
    materialise(new, undisturbed)
    assert online_rows(settings.home) == online_rows(undisturbed.home)
    assert read_manifest(Home.of(settings).catalogue)["version"] == "v2"


def test_a_registry_that_a_kill_left_as_a_stump_is_made_anew(tmp_path: Path, settings: Settings) -> None:
    features = shop(tmp_path / "features")
    registry = materialise(features, settings).feast_registry
    registry.write_bytes(registry.read_bytes()[:-7])
    materialise(features, settings)
    assert len(open_store(settings).list_feature_services()) == 1


def test_a_corrupt_feature_set_changes_nothing_and_names_the_file(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient
) -> None:
    materialise(shop(tmp_path / "good"), settings)
    rows = online_rows(settings.home)
    bad = shop(tmp_path / "bad", seed=3)
    content = bytearray((bad / "users.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (bad / "users.parquet").write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"users\.parquet"):
        materialise(bad, settings)
    assert online_rows(settings.home) == rows


@pytest.mark.parametrize(
    ("column", "replacement", "fact"),
    [
        ("affinity", None, "missing"),
        ("base__f0", pa.array([1.0, 2.0]), "double.*float32"),
        ("mood__f0", pa.array([1.0, 2.0], pa.float32()), "behaviour"),
    ],
)
def test_a_feature_set_that_serving_could_not_read_is_refused(
    tmp_path: Path, settings: Settings, column: str, replacement: pa.Array | None, fact: str
) -> None:
    users = users_table(["a", "b"], [AS_OF, AS_OF])
    users = users.drop_columns([column]) if column in users.column_names else users
    users = users if replacement is None else users.append_column(column, replacement)
    with pytest.raises(ContractError, match=rf"users\.parquet\.{column}: .*{fact}"):
        materialise(write_feature_set(tmp_path / "features", users), settings)


def test_training_refuses_a_store_that_holds_another_feature_set(tmp_path: Path, settings: Settings) -> None:
    materialise(shop(tmp_path / "one"), settings)
    with pytest.raises(FeatureStoreError, match="materialise first"):
        training_frame(shop(tmp_path / "other", seed=5), settings)


def test_feast_apply_finds_the_same_definitions_as_the_step(tmp_path: Path, settings: Settings) -> None:
    folder = materialise(shop(tmp_path / "features"), settings)
    applied = {view.name for view in open_store(settings).list_all_feature_views()}
    folder.feast_registry.unlink()
    root = Path(__file__).parents[2]
    command = [Path(sys.executable).with_name("feast"), "--chdir", root / "feature_repo"]
    command += [
        "--feature-store-yaml",
        root / "feature_repo" / "environments" / "local" / "feature_store.yaml",
        "apply",
    ]
    environment = {
        **os.environ,
        "FEATURE_STORE_HOME": str(folder.root),
        "FEATURE_STORE_PROJECT": settings.store.project,
    }
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {view.name for view in open_store(settings).list_all_feature_views()} == applied


def test_offline_files_are_copied_to_where_feast_is_told_to_read_them(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = shop(tmp_path / "features")
    materialise(features, settings)
    here = training_frame(features, settings)
    monkeypatch.setenv("FEATURE_STORE_OFFLINE", (tmp_path / "bucket").as_uri())
    materialise(features, settings)
    assert (tmp_path / "bucket" / "users.parquet").is_file()
    pd.testing.assert_frame_equal(training_frame(features, settings).to_pandas(), here.to_pandas())


def test_an_offline_address_that_is_none_is_named(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURE_STORE_OFFLINE", "nowhere://bucket/prefix")
    with pytest.raises(FeatureStoreError, match="FEATURE_STORE_OFFLINE=nowhere://bucket/prefix"):
        materialise(shop(tmp_path / "features"), settings)
