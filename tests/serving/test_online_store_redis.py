"""The online store client on Redis: the bits that SQLite serves, in time or not at all."""

import asyncio
import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import redis
from feature_sets import shop
from online_stores import PATIENT, ends_in_time, write_schema
from servers import free_ports, valkey

from feature_repo import materialise
from feature_repo.environment import open_store
from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import PackedUser
from recommender.settings import ServingSettings, Settings, StoreSettings
from serving.online_store.client import NUM_THREADS, OnlineStoreClient


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "sqlite var")


@pytest.fixture
def redis_settings(tmp_path: Path, redis_url: str) -> Settings:
    return Settings(home=tmp_path / "redis var", store=StoreSettings(kind="redis", redis_url=redis_url))


STORE_OPTIONS = ("--appendonly", "yes", "--maxmemory", "1gb", "--maxmemory-policy", "noeviction")
"""Those of k8s/base/store.yaml."""


def redis_on(port: int, home: Path) -> Settings:
    store = StoreSettings(kind="redis", redis_url=f"redis://127.0.0.1:{port}")
    return Settings(home=home, serving=PATIENT, store=store)


def read_and_close(client: OnlineStoreClient, user: str, *, timeout_s: float = 20.0) -> PackedUser | None:
    """Read on an event loop, and close there, as the gateway does. The first read, by a thread, loads the schema."""

    async def read() -> PackedUser | None:
        try:
            with contextlib.suppress(FeatureStoreError):
                await client.read_async(user, timeout_s=timeout_s)
            return await client.read_async(user, timeout_s=timeout_s)
        finally:
            client.close()

    return asyncio.run(read())


def test_redis_serves_the_bits_that_sqlite_serves_and_corrections_and_losses_arrive(
    tmp_path: Path, settings: Settings, redis_settings: Settings
) -> None:
    old = shop(tmp_path / "old", num_users=30, seed=1)
    new = shop(tmp_path / "new", num_users=20, seed=2)  # the same moments, corrected values, ten users fewer
    for features in (old, new):
        materialise(features, settings)
        materialise(features, redis_settings)
    sqlite, redis = OnlineStoreClient.open(settings), OnlineStoreClient.open(redis_settings)
    for index in range(30):
        one, other = sqlite.read(f"user {index}", timeout_s=5), redis.read(f"user {index}", timeout_s=5)
        assert (one is None) == (other is None) == (index >= 20)
        if one is not None and other is not None:
            assert one.content == other.content
    sqlite.close()
    redis.close()


def test_another_projects_users_in_the_same_redis_stay(tmp_path: Path, redis_settings: Settings) -> None:
    ours = redis_settings
    theirs = Settings(
        home=tmp_path / "theirs", store=redis_settings.store.model_copy(update={"project": "other_campaigns"})
    )
    materialise(shop(tmp_path / "features", num_users=9), theirs)
    materialise(shop(tmp_path / "fewer", num_users=2), ours)
    client = OnlineStoreClient.open(theirs)
    assert client.read("user 8", timeout_s=5) is not None
    client.close()


def test_a_redis_with_a_password_is_read_with_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMMENDER_REDIS_PASSWORD", "1234")
    with valkey(tmp_path, "--requirepass", "1234") as port:
        settings = redis_on(port, tmp_path / "var")
        materialise(shop(tmp_path / "features", num_users=3), settings)
        client = OnlineStoreClient.open(settings)
        assert client.read("user 2", timeout_s=5) is not None
        client.close()


def test_a_redis_that_takes_connections_and_never_answers_ends_the_read_in_time(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(64)
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        settings = Settings(home=tmp_path / "var", serving=PATIENT, store=StoreSettings(kind="redis", redis_url=url))
        write_schema(settings)
        client = OnlineStoreClient.open(settings)
        for _ in range(6):  # more than there are workers
            assert ends_in_time(lambda: client.read("user 1", timeout_s=0.03), "30 ms")
        assert ends_in_time(lambda: read_and_close(client, "user 1", timeout_s=0.03), "30 ms")


def test_the_first_read_of_a_redis_imports_nothing_of_its_client(tmp_path: Path) -> None:
    first_read = f"""
import sys
from recommender.errors import FeatureStoreError
from recommender.settings import Settings, StoreSettings
from serving.online_store.client import OnlineStoreClient

store = StoreSettings(kind="redis", redis_url="redis://127.0.0.1:{free_ports(1)[0]}")
client = OnlineStoreClient.open(Settings(home={str(tmp_path / "var")!r}, store=store))
before = set(sys.modules)
try:
    client.read("user 1", timeout_s=30)
except FeatureStoreError as error:
    assert "Redis at 127.0.0.1" in str(error), error
print(*(name for name in set(sys.modules) - before if "redis" in name))
"""
    write_schema(Settings(home=tmp_path / "var"))
    done = subprocess.run([sys.executable, "-c", first_read], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_redis_that_drips_its_answer_ends_the_read_in_time_and_holds_no_worker(tmp_path: Path) -> None:
    """Every worker reads a dripping answer, which no socket timeout ends. A later connection is answered at once."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while not stop.wait(0.01):
                connection.sendall(b"$")

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(4096):
                nothing = b"*2\r\n$-1\r\n$-1\r\n" * data.count(b"$5\r\nHMGET\r\n")
                connection.sendall(b"$-1\r\n" * data.count(b"$6\r\nCLIENT\r\n") + nothing)

    def serve(door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for accepted in itertools.count():
                behave = drip if accepted < NUM_THREADS else answer
                threading.Thread(target=behave, args=(door.accept()[0],), daemon=True).start()

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        threading.Thread(target=serve, args=(door,), daemon=True).start()
        url = f"redis://127.0.0.1:{door.getsockname()[1]}/0"
        # Its own time-outs are a second: on a busy machine a drop may come late.
        serving = ServingSettings(store_deadline_ms=1_000)
        settings = Settings(home=tmp_path / "var", serving=serving, store=StoreSettings(kind="redis", redis_url=url))
        write_schema(settings)
        client = OnlineStoreClient.open(settings)
        for _ in range(NUM_THREADS):
            assert ends_in_time(lambda: client.read("user 1", timeout_s=0.1), "100 ms")
        time.sleep(1.1)  # the next read ends those whose time is over
        assert client.read("user 1", timeout_s=20) is None
        stop.set()
        client.close()


def test_a_redis_that_went_away_is_an_error_and_is_found_again_when_it_is_back(tmp_path: Path) -> None:
    features = shop(tmp_path / "features", num_users=3)
    with valkey(tmp_path) as port:
        settings = redis_on(port, tmp_path / "var")
        materialise(features, settings)
        client = OnlineStoreClient.open(settings)
        assert client.read("user 1", timeout_s=5) is not None
    assert ends_in_time(lambda: client.read("user 1", timeout_s=60), "Redis at 127.0.0.1")
    with valkey(tmp_path, port=port):
        assert client.read("user 1", timeout_s=5) is None  # the new one is empty
        materialise(features, settings)
        assert client.read("user 1", timeout_s=5) is not None
        client.close()


def test_a_redis_with_an_append_only_file_serves_the_same_users_after_a_crash(tmp_path: Path) -> None:
    served = []
    for features in (shop(tmp_path / "features", num_users=3), None):
        with valkey(tmp_path, *STORE_OPTIONS) as port:
            settings = redis_on(port, tmp_path / "var")
            if features is not None:
                materialise(features, settings)
                with redis.Redis(port=port) as server:
                    # WAITAOF waits for the last write of its own connection and so for all before it. Under load the
                    # file is written up to 2 s later.
                    server.set("last write", "")
                    server.execute_command("WAITAOF", 1, 0, 20_000)
            client = OnlineStoreClient.open(settings)
            served.append(client.read("user 1", timeout_s=5))
            client.close()
    assert None not in served
    assert len(set(served)) == 1


def test_many_reads_at_once_on_an_event_loop_get_each_the_bits_of_a_thread_s(tmp_path: Path) -> None:
    with valkey(tmp_path) as port:
        store = StoreSettings(kind="redis", redis_url=f"redis://127.0.0.1:{port}/3")
        settings = Settings(home=tmp_path / "var", serving=PATIENT, store=store)
        materialise(shop(tmp_path / "features", num_users=20), settings)
        client = OnlineStoreClient.open(settings)
        users = [f"user {index % 25}" for index in range(500)]

        expected = {user: client.read(user, timeout_s=20) for user in users}
        assert sum(packed is not None for packed in expected.values()) == 20

        async def read() -> None:
            found = await asyncio.gather(*(client.read_async(user, timeout_s=20) for user in users))
            assert found == [expected[user] for user in users]
            assert await client.read_async("\ud800", timeout_s=20) is None
            client.close()
            with pytest.raises(FeatureStoreError, match="closed"):
                await client.read_async("user 1", timeout_s=20)

        asyncio.run(read())


def test_a_password_is_sent_on_an_event_loop_too_and_a_wrong_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with valkey(tmp_path, "--requirepass", "1234") as port:
        monkeypatch.setenv("RECOMMENDER_REDIS_PASSWORD", "1234")
        settings = redis_on(port, tmp_path / "var")
        materialise(shop(tmp_path / "features", num_users=3), settings)
        assert read_and_close(OnlineStoreClient.open(settings), "user 2") is not None
        monkeypatch.setenv("RECOMMENDER_REDIS_PASSWORD", "another")
        with pytest.raises(FeatureStoreError, match=f"127.0.0.1:{port}.*WRONGPASS") as refused:
            read_and_close(OnlineStoreClient.open(settings), "user 2")
        assert "another" not in str(refused.value)


def test_on_an_event_loop_a_redis_that_went_away_is_an_error_and_is_found_again(tmp_path: Path) -> None:
    features = shop(tmp_path / "features", num_users=3)
    first, second = valkey(tmp_path), None
    port = first.__enter__()
    settings = redis_on(port, tmp_path / "var")
    materialise(features, settings)
    client = OnlineStoreClient.open(settings)

    async def read() -> None:
        nonlocal second
        for _ in range(2):
            assert await client.read_async("user 1", timeout_s=20) is not None
        await asyncio.to_thread(first.__exit__, None, None, None)
        for _ in range(2):
            with pytest.raises(FeatureStoreError, match=f"Redis at 127.0.0.1:{port}"):
                await client.read_async("user 1", timeout_s=20)
        second = valkey(tmp_path, port=port)
        await asyncio.to_thread(second.__enter__)
        await asyncio.to_thread(materialise, features, settings)
        assert await client.read_async("user 1", timeout_s=20) is not None
        client.close()

    try:
        asyncio.run(read())
    finally:
        if second is not None:
            second.__exit__(None, None, None)


def test_on_an_event_loop_a_connection_that_drips_is_replaced_and_a_hurried_read_replaces_none(tmp_path: Path) -> None:
    accepted: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        drips = len(accepted) == 2  # the first is a thread's
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                for question, nothing in ((b"CLIENT", b"$-1\r\n"), (b"HMGET", b"*2\r\n$-1\r\n$-1\r\n")):
                    for _ in range(data.count(b"\r\n" + question + b"\r\n")):
                        await asyncio.sleep(0.05)
                        writer.write(b"$" if drips else nothing)

    async def read() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        store = StoreSettings(kind="redis", redis_url=f"redis://127.0.0.1:{port}")
        serving = ServingSettings(store_deadline_ms=1_000)
        settings = Settings(home=tmp_path / "var", serving=serving, store=store)
        write_schema(settings)
        client = OnlineStoreClient.open(settings)
        assert await client.read_async("user 1", timeout_s=20) is None
        with pytest.raises(FeatureStoreError, match="1000 ms"):
            await client.read_async("user 1")
        for _ in range(3):  # answered after 50 ms, which is too late for a hurried read and no reason to connect again
            with pytest.raises(FeatureStoreError, match="10 ms"):
                await client.read_async("user 1", timeout_s=0.01)
            assert await client.read_async("user 1", timeout_s=20) is None
        assert len(accepted) == 3
        client.close()
        server.close()
        for writer in accepted:
            writer.close()

    asyncio.run(read())


def test_fields_that_an_earlier_version_wrote_for_other_views_go_and_the_packed_value_stays(
    tmp_path: Path, redis_settings: Settings
) -> None:
    features = shop(tmp_path / "features", num_users=3)
    materialise(features, redis_settings)
    store = open_store(redis_settings)
    view = store.get_feature_view("user_base")
    view.online = True
    store.apply([view])
    frame = pq.read_table(features / "users.parquet").to_pandas().tail(3)
    store.write_to_online_store("user_base", frame[["user_id", "event_timestamp", *(f.name for f in view.features)]])
    with redis.Redis.from_url(redis_settings.store.redis_url) as server:
        (key, *_) = server.keys()
        before = server.hgetall(key)
        materialise(features, redis_settings)
        after = server.hgetall(key)
    assert len(before) > len(after) == 2  # the packed value and its time
    assert after.items() <= before.items()
