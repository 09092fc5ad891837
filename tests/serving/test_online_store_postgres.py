"""The online store client on PostgreSQL: in time or not at all, and each refusal in one sentence."""

import asyncio
import re
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from feature_sets import shop
from online_stores import PATIENT, ends_in_time, settings_of, write_schema
from servers import free_ports

from feature_repo import materialise
from feature_repo.online_stores import writer_of
from recommender.errors import FeatureStoreError, StoreAway
from recommender.matching.packed_user import PackedUser
from recommender.settings import Settings, StoreSettings
from serving.online_store.client import NUM_THREADS, OnlineStoreClient


@pytest.fixture
def settings(tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    return settings_of("postgres", tmp_path / "var", request).updated(serving=PATIENT)


def at(url: str, home: Path) -> Settings:
    return Settings(home=home, serving=PATIENT, store=StoreSettings(kind="postgres", postgres_url=url))


def admin(settings: Settings) -> "psycopg.Connection":
    address = settings.store.postgres
    return psycopg.connect(host=address.host, user="postgres", dbname=address.database, autocommit=True)


def end_connections(settings: Settings) -> None:
    """As a restart of the server does."""
    with admin(settings) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def as_user(settings: Settings, user: str) -> Settings:
    url = settings.store.postgres_url.replace("//postgres@", f"//{user}@")
    return settings.updated(store={"postgres_url": url})


@pytest.fixture
def guarded(settings: Settings, shared_postgres: Path) -> Settings:
    """The same database, as a user who needs the password `1234`."""
    rules = shared_postgres / "data" / "pg_hba.conf"
    if "guarded" not in rules.read_text():
        rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())
    with admin(settings) as connection:
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP ROLE IF EXISTS guarded")
        connection.execute("CREATE ROLE guarded LOGIN PASSWORD '1234'")
        connection.execute("GRANT ALL ON SCHEMA public TO guarded")
    return as_user(settings, "guarded")


def test_threads_and_an_event_loop_read_the_same_users(tmp_path: Path, settings: Settings) -> None:
    materialise(shop(tmp_path / "features", num_users=20), settings)
    with closing(OnlineStoreClient.open(settings)) as client:

        async def all_users() -> list[PackedUser | None]:
            return await asyncio.gather(
                *(client.read_async(f"user {index % 21}", timeout_s=20) for index in range(210))
            )

        packed = {f"user {index}": client.read(f"user {index}", timeout_s=20) for index in range(20)}
        answers = asyncio.run(all_users())
    assert len(set(packed.values())) == 20
    assert answers[:21] == [*packed.values(), None]


def test_connections_that_the_server_ended_cost_one_read_each(tmp_path: Path, settings: Settings) -> None:
    materialise(shop(tmp_path / "features", num_users=3), settings)

    async def read(client: OnlineStoreClient) -> None:
        assert await client.read_async("user 1", timeout_s=20) is not None
        await asyncio.to_thread(end_connections, settings)
        await asyncio.sleep(0.2)  # until the loop has seen the connection end
        assert await client.read_async("user 1", timeout_s=20) is not None
        client.close()

    client = OnlineStoreClient.open(settings)
    assert client.read("user 1", timeout_s=20) is not None
    asyncio.run(read(client))


def test_a_table_that_is_not_there_is_named_and_found_once_it_is_written(tmp_path: Path, settings: Settings) -> None:
    write_schema(settings)
    client = OnlineStoreClient.open(settings)
    for _ in range(2):
        with pytest.raises(FeatureStoreError, match=r"PostgreSQL at .*:5432/test_\d+.*campaigns_user_serving"):
            client.read("user 1", timeout_s=20)
    materialise(shop(tmp_path / "features", num_users=3), settings)
    assert client.read("user 1", timeout_s=20) is not None
    client.close()


def test_a_server_that_takes_connections_and_never_answers_ends_the_read_in_time(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(64)
        settings = at(f"postgresql://u@127.0.0.1:{mute.getsockname()[1]}/d", tmp_path / "var")
        write_schema(settings)
        client = OnlineStoreClient.open(settings)
        for _ in range(NUM_THREADS + 2):
            assert ends_in_time(lambda: client.read("user 1", timeout_s=0.03), "30 ms")
        assert ends_in_time(lambda: asyncio.run(client.read_async("user 1", timeout_s=0.03)), "30 ms")
        client.close()


def test_the_password_is_the_secret_and_a_wrong_one_is_named_by_the_step_and_by_serving(
    tmp_path: Path, guarded: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = shop(tmp_path / "features", num_users=3)
    monkeypatch.setenv("RECOMMENDER_POSTGRES_PASSWORD", "1234")
    writer_of(guarded).check(guarded)
    materialise(features, guarded)
    with closing(OnlineStoreClient.open(guarded)) as client:
        assert client.read("user 2", timeout_s=20) is not None
    monkeypatch.setenv("RECOMMENDER_POSTGRES_PASSWORD", "another")
    with pytest.raises(FeatureStoreError, match=r"secret postgres_password is wrong") as refused:
        writer_of(guarded).check(guarded)
    with closing(OnlineStoreClient.open(guarded)) as client, pytest.raises(FeatureStoreError, match="password") as said:
        client.read("user 2", timeout_s=20)
    for error in (refused, said):
        assert not isinstance(error.value, StoreAway)
        assert "another" not in str(error.value)
        assert "\n" not in str(error.value)
    monkeypatch.delenv("RECOMMENDER_POSTGRES_PASSWORD")
    with pytest.raises(FeatureStoreError, match=r"secret postgres_password is missing"):
        materialise(features, guarded)


def test_a_server_that_is_away_is_an_error_to_try_again_and_a_wrong_name_is_none(
    tmp_path: Path, settings: Settings
) -> None:
    away = at(f"postgresql://u@127.0.0.1:{free_ports(1)[0]}/d", tmp_path / "away")
    with pytest.raises(StoreAway, match=re.escape(f"PostgreSQL at {away.store.postgres}: no answer")):
        writer_of(away).check(away)
    database = urlsplit(settings.store.postgres_url).path.strip("/")
    elsewhere = settings.updated(store={"postgres_url": settings.store.postgres_url.replace(database, "nowhere")})
    for wrong, fact in ((elsewhere, "nowhere"), (as_user(settings, "nobody"), "nobody")):
        with pytest.raises(FeatureStoreError, match=rf"refuses the connection.*{fact}.*store\.postgres_url"):
            writer_of(wrong).check(wrong)


def test_a_user_who_may_create_no_table_is_refused_before_anything_runs(settings: Settings) -> None:
    with admin(settings) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN")
    with pytest.raises(FeatureStoreError, match=r"reader may not create tables"):
        writer_of(settings).check(as_user(settings, "reader"))
