"""The feature client reads what Feast wrote, in time or not at all."""

import asyncio
import contextlib
import itertools
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis
from feature_sets import AS_OF, shop, users_table, write_feature_set
from hypothesis import given
from hypothesis import settings as testing
from hypothesis import strategies as st
from servers import free_ports, valkey

from feature_repo import materialise
from recommender.errors import FeatureStoreError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import SCHEMA_FILE, ServingSchema, layout_of, pack, unpack
from recommender.settings import ServingSettings, Settings, StoreSettings
from recommender.storage.home import Home
from serving.feature_client import WORKERS, FeatureClient, bytes_value, entity_key, hash_field

ODD_IDS = [
    "",
    " ",
    "1",
    "user 3",
    "ü",
    "用户画像",
    "🛒" * 40,
    "x" * 100_000,
    "a\x00b",
    "'; DROP TABLE x; --",
    '"',
    "-1",
    "campaigns",
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "var")


@pytest.fixture
def client(settings: Settings) -> Iterator[FeatureClient]:
    client = FeatureClient.open(settings)
    yield client
    client.close()


@pytest.fixture
def redis_settings(tmp_path: Path, redis_url: str) -> Settings:
    return Settings(home=tmp_path / "redis var", store=StoreSettings(kind="redis", redis_url=redis_url))


PATIENT = ServingSettings(store_deadline_ms=60_000)
"""A store whose own time-outs are a minute: a read that ends sooner was ended by the time that it was given."""


STORE_OPTIONS = ("--appendonly", "yes", "--maxmemory", "1gb", "--maxmemory-policy", "noeviction")
"""Those of k8s/base/store.yaml."""


def redis_on(port: int, home: Path) -> Settings:
    store = StoreSettings(kind="redis", redis_url=f"redis://127.0.0.1:{port}")
    return Settings(home=home, serving=PATIENT, store=store)


def ends_in_time(action: Callable[[], object], words: str) -> bool:
    """Whether it failed, with these words, in far less than a store's minute: also on a machine that is busy."""
    start = time.monotonic()
    with pytest.raises(FeatureStoreError, match=words):
        action()
    return time.monotonic() - start < 20


@testing(deadline=None)  # the first example imports Feast
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_key_of_any_user_is_the_key_that_feast_makes(user_id: str) -> None:
    assert entity_key("user_id", user_id) == feast_key(user_id)


@pytest.mark.parametrize("user_id", ODD_IDS)
def test_the_key_of_an_odd_user_is_the_key_that_feast_makes(user_id: str) -> None:
    assert entity_key("user_id", user_id) == feast_key(user_id)


def feast_key(user_id: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return serialize_entity_key(EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)]))


@testing(deadline=None)  # the first example imports Feast
@given(st.text(), st.text(max_size=9))
def test_the_hash_field_of_any_feature_is_the_field_that_feast_makes(view: str, field: str) -> None:
    from feast.infra.online_stores.helpers import _mmh3

    if (view + field).isascii():
        assert hash_field(view, field) == _mmh3(f"{view}:{field}")


@testing(deadline=None)  # the first example imports Feast
@given(st.binary(max_size=70_000))
def test_any_bytes_come_out_of_feasts_value_as_they_went_in(content: bytes) -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert bytes_value(Value(bytes_val=content).SerializeToString()) == content


def test_a_value_of_another_type_or_cut_short_is_an_error() -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert bytes_value(Value().SerializeToString()) is None
    whole = Value(bytes_val=b"x" * 300).SerializeToString()
    for message in (Value(string_val="x").SerializeToString(), whole[:-1], whole + b"x", whole[:1], whole[:2]):
        with pytest.raises(FeatureStoreError):
            bytes_value(message)


@testing(deadline=None)  # the first example imports Feast
@given(st.lists(st.floats(width=32), max_size=40), st.binary(), st.binary(), st.integers(-(2**63), 2**63 - 1))
def test_a_packed_user_unpacks_to_the_same_bits(floats: list[float], affinity: bytes, history: bytes, at: int) -> None:
    names = tuple(f"base__f{index}" for index in range(len(floats)))
    shopper = Shopper("u", np.array(floats, dtype=np.float32), names, affinity, history, at)
    again = unpack("u", pack(shopper), {layout_of(names): names})
    assert (again.portrait_names, again.affinity, again.history, again.feature_time_us) == (
        names,
        affinity,
        history,
        at,
    )
    number = ~np.isnan(shopper.portrait_P)
    np.testing.assert_array_equal(again.portrait_P.view("u4")[number], shopper.portrait_P.view("u4")[number])
    assert np.isnan(again.portrait_P[~number]).all()


def test_every_flipped_bit_and_every_truncation_of_a_packed_user_is_found() -> None:
    names = ("base__a", "base__b")
    value = pack(Shopper("u", np.array([1, 2], dtype=np.float32), names, b"affinity", b"history", 17))
    for bit in range(8 * len(value)):
        broken = bytearray(value)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FeatureStoreError):
            unpack("u", bytes(broken), {layout_of(names): names})
    for length in range(len(value)):
        with pytest.raises(FeatureStoreError):
            unpack("u", value[:length], {layout_of(names): names})


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_odd_users_are_found_and_unknown_ones_are_none_in_every_store(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    settings = request.getfixturevalue("redis_settings" if kind == "redis" else "settings")
    users = users_table(ODD_IDS, [AS_OF] * len(ODD_IDS))
    materialise(write_feature_set(tmp_path / "features", users), settings)
    client = FeatureClient.open(settings)
    for row, user_id in enumerate(ODD_IDS):
        shopper = client.read(user_id, timeout_s=5)
        assert shopper is not None
        assert (shopper.user_id, shopper.affinity) == (user_id, users["affinity"][row].as_py())
    for stranger in ("nobody", "user", "USER 3", "\ud800"):
        assert client.read(stranger, timeout_s=5) is None
    client.close()


def test_redis_serves_the_bits_that_sqlite_serves_and_corrections_and_losses_arrive(
    tmp_path: Path, settings: Settings, redis_settings: Settings
) -> None:
    old = shop(tmp_path / "old", num_users=30, seed=1)
    new = shop(tmp_path / "new", num_users=20, seed=2)  # the same moments, corrected values, ten users fewer
    for features in (old, new):
        materialise(features, settings)
        materialise(features, redis_settings)
    sqlite, redis = FeatureClient.open(settings), FeatureClient.open(redis_settings)
    for index in range(30):
        one, other = sqlite.read(f"user {index}", timeout_s=5), redis.read(f"user {index}", timeout_s=5)
        assert (one is None) == (other is None) == (index >= 20)
        if one is not None and other is not None:
            assert pack(one) == pack(other)
    sqlite.close()
    redis.close()


def test_another_projects_users_in_the_same_redis_stay(tmp_path: Path, redis_settings: Settings) -> None:
    ours = redis_settings
    theirs = Settings(
        home=tmp_path / "theirs", store=redis_settings.store.model_copy(update={"project": "other_campaigns"})
    )
    materialise(shop(tmp_path / "features", num_users=9), theirs)
    materialise(shop(tmp_path / "fewer", num_users=2), ours)
    client = FeatureClient.open(theirs)
    assert client.read("user 8", timeout_s=5) is not None
    client.close()


def test_a_redis_with_a_password_is_read_with_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMMENDER_REDIS_PASSWORD", "1234")
    with valkey(tmp_path, "--requirepass", "1234") as port:
        settings = redis_on(port, tmp_path / "var")
        materialise(shop(tmp_path / "features", num_users=3), settings)
        client = FeatureClient.open(settings)
        assert client.read("user 2", timeout_s=5) is not None
        client.close()


def test_a_locked_sqlite_ends_the_read_in_time_and_the_next_one_works(tmp_path: Path, settings: Settings) -> None:
    folder = materialise(shop(tmp_path / "features", num_users=3), settings)
    client = FeatureClient.open(settings.updated(serving=PATIENT))
    with closing(sqlite3.connect(folder.online_database, isolation_level=None)) as locker:
        locker.execute("PRAGMA journal_mode=DELETE")
        locker.execute("BEGIN EXCLUSIVE")
        assert ends_in_time(lambda: client.read("user 1", timeout_s=0.04), "did not answer within 40 ms")
        locker.execute("ROLLBACK")
    assert client.read("user 1", timeout_s=5) is not None
    client.close()


def test_a_redis_that_takes_connections_and_never_answers_ends_the_read_in_time(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(64)
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}/0"
        settings = Settings(home=tmp_path / "var", serving=PATIENT, store=StoreSettings(kind="redis", redis_url=url))
        write_schema(settings)
        client = FeatureClient.open(settings)
        for _ in range(6):  # more than there are workers
            assert ends_in_time(lambda: client.read("user 1", timeout_s=0.03), "did not answer within 30 ms")
        assert ends_in_time(
            lambda: asyncio.run(client.read_async("user 1", timeout_s=0.03)), "did not answer within 30 ms"
        )
        client.close()


def test_the_first_read_of_a_redis_imports_nothing_of_its_client(tmp_path: Path) -> None:
    first_read = f"""
import sys
from recommender.errors import FeatureStoreError
from recommender.settings import Settings, StoreSettings
from serving.feature_client import FeatureClient

store = StoreSettings(kind="redis", redis_url="redis://127.0.0.1:{free_ports(1)[0]}")
client = FeatureClient.open(Settings(home={str(tmp_path / "var")!r}, store=store))
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
    """Every worker reads a drip, which no socket's time-out ends; a later connection is answered at once: unknown user."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while not stop.wait(0.01):
                connection.sendall(b"$")

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(4096):
                connection.sendall(b"$-1\r\n" * (data.count(b"$6\r\nCLIENT\r\n") + data.count(b"$4\r\nHGET\r\n")))

    def serve(door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for accepted in itertools.count():
                behave = drip if accepted < WORKERS else answer
                threading.Thread(target=behave, args=(door.accept()[0],), daemon=True).start()

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        threading.Thread(target=serve, args=(door,), daemon=True).start()
        url = f"redis://127.0.0.1:{door.getsockname()[1]}/0"
        settings = Settings(home=tmp_path / "var", store=StoreSettings(kind="redis", redis_url=url))
        write_schema(settings)
        client = FeatureClient.open(settings)
        for _ in range(WORKERS):
            assert ends_in_time(lambda: client.read("user 1", timeout_s=0.1), "did not answer within 100 ms")
        assert client.read("user 1", timeout_s=20) is None
        stop.set()
        client.close()


def write_schema(settings: Settings) -> None:
    Home.of(settings).feature_store.root.mkdir(parents=True)
    ServingSchema(
        project="campaigns",
        view="user_serving",
        field="packed",
        join_key="user_id",
        entity_key_serialization_version=3,
        layouts=(("base__f0",),),
        features_hash="",
        catalogue_hash="",
        as_of=AS_OF.isoformat(),
    ).save(Home.of(settings).feature_store.root)


def test_a_redis_that_went_away_is_an_error_and_is_found_again_when_it_is_back(tmp_path: Path) -> None:
    features = shop(tmp_path / "features", num_users=3)
    with valkey(tmp_path) as port:
        settings = redis_on(port, tmp_path / "var")
        materialise(features, settings)
        client = FeatureClient.open(settings)
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
                    server.execute_command("WAITAOF", 1, 0, 20_000)  # under load the file is written up to 2 s later
            client = FeatureClient.open(settings)
            served.append(client.read("user 1", timeout_s=5))
            client.close()
    assert None not in served
    assert len({pack(shopper) for shopper in served if shopper is not None}) == 1


def test_a_store_that_was_never_written_is_an_error_that_says_so(settings: Settings, client: FeatureClient) -> None:
    with pytest.raises(FeatureStoreError, match="nothing was materialised yet"):
        client.read("user 1", timeout_s=5)
    write_schema(settings)
    with pytest.raises(FeatureStoreError, match=r"online\.db"):
        client.read("user 1", timeout_s=5)


def test_a_store_that_was_removed_and_written_anew_is_read_without_a_restart(
    tmp_path: Path, settings: Settings, client: FeatureClient
) -> None:
    materialise(shop(tmp_path / "old", num_users=3, features=12, seed=1), settings)
    assert client.read("user 1", timeout_s=5) is not None
    shutil.rmtree(settings.home)
    with pytest.raises(FeatureStoreError):
        client.read("user 1", timeout_s=5)
    new = shop(tmp_path / "new", num_users=3, features=8, seed=2)
    materialise(new, settings)
    shopper = client.read("user 1", timeout_s=5)
    assert shopper is not None
    assert shopper.affinity == pq.read_table(new / "users.parquet")["affinity"][7].as_py()


def test_a_layout_that_the_schema_does_not_know_is_an_error_not_a_guess(
    tmp_path: Path, settings: Settings, client: FeatureClient
) -> None:
    folder = materialise(shop(tmp_path / "features", num_users=3), settings)
    text = (folder.root / SCHEMA_FILE).read_text()
    (folder.root / SCHEMA_FILE).write_text(text.replace("base__f0", "base__other"))
    with pytest.raises(FeatureStoreError, match="another layout"):
        client.read("user 1", timeout_s=5)


def test_a_closed_client_says_so(client: FeatureClient) -> None:
    client.close()
    with pytest.raises(FeatureStoreError, match="closed"):
        client.read("user 1")


def test_threads_and_an_event_loop_read_the_same_users(
    tmp_path: Path, settings: Settings, client: FeatureClient
) -> None:
    materialise(shop(tmp_path / "features", num_users=20), settings)

    async def all_users() -> list[Shopper | None]:
        return await asyncio.gather(*(client.read_async(f"user {index % 21}", timeout_s=5) for index in range(210)))

    answers = asyncio.run(all_users())
    assert [None if answer is None else answer.user_id for answer in answers[:21]] == [
        *(f"user {index}" for index in range(20)),
        None,
    ]
    assert sum(answer is None for answer in answers) == 10


def test_a_read_of_150_features_takes_well_under_a_millisecond(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var", serving=ServingSettings(store_deadline_ms=5_000))
    materialise(shop(tmp_path / "features", num_users=50, features=150), settings)
    client = FeatureClient.open(settings)
    times_s = []
    for index in range(1_000):
        start = time.perf_counter()
        client.read(f"user {index % 50}")
        times_s.append(time.perf_counter() - start)
    client.close()
    # Alone on a machine it is 0.1 ms; the limit leaves room for neighbours.
    assert statistics.median(times_s) < 0.001
