"""The online store client reads what Feast wrote, in time or not at all."""

import asyncio
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from feature_sets import AS_OF, read_shopper, shop, users_table, write_feature_set
from online_stores import KINDS, ODD_IDS, PATIENT, ends_in_time, settings_of, write_schema

from feature_repo import materialise
from recommender.errors import FeatureStoreError, SettingsError
from recommender.matching.packed_user import SCHEMA_FILE, PackedUser, ServingSchema, layout_of
from recommender.settings import ServingSettings, Settings
from recommender.storage.home import Home
from serving.online_store.client import OnlineStoreClient


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var")


@pytest.fixture
def client(settings: Settings) -> Iterator[OnlineStoreClient]:
    client = OnlineStoreClient.open(settings)
    yield client
    client.close()


@pytest.mark.parametrize("kind", KINDS)
def test_odd_users_are_found_and_unknown_ones_are_none_in_every_store(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    settings = settings_of(kind, tmp_path / "var", request)
    users = users_table(ODD_IDS, [AS_OF] * len(ODD_IDS))
    materialise(write_feature_set(tmp_path / "features", users), settings)
    client = OnlineStoreClient.open(settings)
    for row, user_id in enumerate(ODD_IDS):
        shopper = read_shopper(client, settings, user_id)
        assert shopper is not None
        assert (shopper.user_id, shopper.affinity) == (user_id, users["affinity"][row].as_py())
    for stranger in ("nobody", "user", "USER 3", "\ud800"):
        assert client.read(stranger, timeout_s=5) is None
    client.close()


def test_a_locked_sqlite_ends_the_read_in_time_and_the_next_one_works(tmp_path: Path, settings: Settings) -> None:
    folder = materialise(shop(tmp_path / "features", num_users=3), settings)
    client = OnlineStoreClient.open(settings.updated(serving=PATIENT))
    with closing(sqlite3.connect(folder.online_database, isolation_level=None)) as locker:
        locker.execute("PRAGMA journal_mode=DELETE")
        locker.execute("BEGIN EXCLUSIVE")
        assert ends_in_time(lambda: client.read("user 1", timeout_s=0.04), "40 ms")
        locker.execute("ROLLBACK")
    assert client.read("user 1", timeout_s=5) is not None
    client.close()


def test_an_event_loop_reads_a_local_store_itself_and_leaves_a_locked_one_to_a_thread(
    tmp_path: Path, settings: Settings
) -> None:
    folder = materialise(shop(tmp_path / "features", num_users=3), settings)
    with closing(sqlite3.connect(folder.online_database, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=DELETE")

    async def read(client: OnlineStoreClient) -> None:
        assert await client.read_async("user 1") == expected
        assert await client.read_async("nobody") is None

    async def read_locked() -> None:
        with pytest.raises(FeatureStoreError, match="40 ms"):
            await client.read_async("user 1", timeout_s=0.04)

    with closing(OnlineStoreClient.open(settings)) as without_threads:
        expected = without_threads.read("user 1", timeout_s=5)  # which reads the schema, too
        without_threads._pool.shutdown()
        asyncio.run(read(without_threads))
    client = OnlineStoreClient.open(settings.updated(serving=PATIENT))
    asyncio.run(read(client))
    with closing(sqlite3.connect(folder.online_database, isolation_level=None)) as locker:
        locker.execute("BEGIN EXCLUSIVE")
        asyncio.run(read_locked())
        locker.execute("ROLLBACK")
    asyncio.run(read(client))
    client.close()


def test_a_file_of_events_that_is_none_is_named_and_leaves_no_file_open(tmp_path: Path, settings: Settings) -> None:
    materialise(shop(tmp_path / "features", num_users=3), settings)
    tails = Home.of(settings).feature_store.event_tails
    tails.write_bytes(b"no database" * 100)
    with closing(OnlineStoreClient.open(settings)) as client:
        for _ in range(5):
            with pytest.raises(FeatureStoreError, match="cannot be read"):
                client.read("user 1", timeout_s=20)
        files = [str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink()]
        assert str(Home.of(settings).feature_store.online_database.resolve()) not in files
        tails.unlink()
        assert client.read("user 1", timeout_s=20) is not None


def test_a_store_that_was_never_written_is_an_error_that_says_so(settings: Settings, client: OnlineStoreClient) -> None:
    with pytest.raises(FeatureStoreError, match=SCHEMA_FILE):
        client.read("user 1", timeout_s=5)
    write_schema(settings)
    with pytest.raises(FeatureStoreError, match=r"online\.db"):
        client.read("user 1", timeout_s=5)


def test_a_store_that_was_removed_and_written_anew_is_read_without_a_restart(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient
) -> None:
    materialise(shop(tmp_path / "old", num_users=3, features=12, seed=1), settings)
    assert client.read("user 1", timeout_s=5) is not None
    shutil.rmtree(settings.home)
    with pytest.raises(FeatureStoreError):
        client.read("user 1", timeout_s=5)
    new = shop(tmp_path / "new", num_users=3, features=8, seed=2)
    materialise(new, settings)
    shopper = read_shopper(client, settings, "user 1")
    assert shopper is not None
    assert shopper.affinity == pq.read_table(new / "users.parquet")["affinity"][7].as_py()


def test_a_layout_that_the_schema_does_not_know_is_an_error_not_a_guess(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient
) -> None:
    folder = materialise(shop(tmp_path / "features", num_users=3), settings).root
    (stored,) = ServingSchema.load(folder).layouts
    text = (folder / SCHEMA_FILE).read_text()
    (folder / SCHEMA_FILE).write_text(text.replace("base__f0", "base__other"))
    with pytest.raises(FeatureStoreError, match=layout_of(stored).hex()):
        client.read("user 1", timeout_s=5)


def test_a_closed_client_says_so(client: OnlineStoreClient) -> None:
    client.close()
    with pytest.raises(FeatureStoreError, match="closed"):
        client.read("user 1")


def test_threads_and_an_event_loop_read_the_same_users(
    tmp_path: Path, settings: Settings, client: OnlineStoreClient
) -> None:
    materialise(shop(tmp_path / "features", num_users=20), settings)

    async def all_users() -> list[PackedUser | None]:
        return await asyncio.gather(*(client.read_async(f"user {index % 21}", timeout_s=5) for index in range(210)))

    answers = asyncio.run(all_users())
    packed = {f"user {index}": client.read(f"user {index}", timeout_s=5) for index in range(20)}
    assert len(set(packed.values())) == 20
    assert answers[:21] == [*packed.values(), None]
    assert sum(answer is None for answer in answers) == 10


def test_a_read_of_150_features_takes_well_under_a_millisecond(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var", serving=ServingSettings(store_deadline_ms=5_000))
    materialise(shop(tmp_path / "features", num_users=50, features=150), settings)
    client = OnlineStoreClient.open(settings)
    times_s = []
    for index in range(1_000):
        start = time.perf_counter()
        client.read(f"user {index % 50}")
        times_s.append(time.perf_counter() - start)
    client.close()
    # Alone on a machine it is 0.1 ms; the limit leaves room for neighbours.
    assert statistics.median(times_s) < 0.001


def test_an_unknown_kind_of_store_is_refused_and_the_known_ones_are_named(settings: Settings) -> None:
    unknown = settings.model_copy(update={"store": settings.store.model_copy(update={"kind": "memcached"})})
    with pytest.raises(SettingsError, match=r"memcached.*sqlite.*redis"):
        OnlineStoreClient.open(unknown)
