"""Users leave every kind of online store, with the events beside them and what the store's files kept of both."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis
import servers
from feature_sets import AS_OF, users_table, write_feature_set
from online_stores import KINDS, PATIENT, settings_of

from feature_repo import materialise
from recommender.privacy.scanner import Scanner
from recommender.settings import Settings, StoreSettings
from recommender.storage.home import Home
from serving.event_tails.append import Append
from serving.event_tails.tails import open_tails
from serving.online_store.client import OnlineStoreClient
from serving.online_store.erasure import erasure_of

WITHIN_S = 20.0
GONE, STAYS = "QWERTZUIOPASDFGHJKLY", "YXCVBNMASDFGHJKLQWER"


def filled(settings: Settings, folder: Path) -> None:
    """The rows of two users, and three events beside each."""
    users = users_table([GONE, STAYS], [AS_OF] * 2)
    materialise(write_feature_set(folder, users, decisions=[(GONE, "c1", AS_OF)]), settings)
    appends = [
        Append(user, f"id {number} of {user}", b'{"q":"%d"}\n' % number, b'{"user_id":"%s"}' % user.encode())
        for user in (GONE, STAYS)
        for number in range(3)
    ]

    async def append() -> list[bool]:
        tails = open_tails(settings)
        try:
            return await tails.append(appends, WITHIN_S)
        finally:
            tails.close()

    assert asyncio.run(append()) == [True] * 6


def read(settings: Settings, user: str) -> bytes | None:
    store = OnlineStoreClient.open(settings)
    try:
        found = store.read(user, WITHIN_S)
        return None if found is None else found.tail
    finally:
        store.close()


def remove(settings: Settings, users: Sequence[str]) -> list[str]:
    return erasure_of(settings).remove(users, [f"id {number} of {user}" for user in users for number in range(3)])


@pytest.mark.parametrize("kind", KINDS)
def test_one_user_leaves_and_the_other_stays(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = settings_of(kind, tmp_path / "var", request)
    filled(settings, tmp_path / "features")
    found = erasure_of(settings).find([GONE])
    assert (found["rows"], found["events beside them"]) == (1, 1)
    remove(settings, [GONE])
    assert set(erasure_of(settings).find([GONE]).values()) == {0}
    assert erasure_of(settings).find([STAYS])["rows"] == 1
    assert read(settings, GONE) is None
    assert read(settings, STAYS) == b'{"q":"0"}\n{"q":"1"}\n{"q":"2"}\n'
    remove(settings, [GONE])  # again, as after a kill


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_store_holds_nobody(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = settings_of(kind, tmp_path / "var", request)
    assert set(erasure_of(settings).find([GONE]).values()) == {0}
    remove(settings, [GONE])


def test_sqlite_keeps_no_page_of_the_user_while_a_gateway_has_the_files_open(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var", serving=PATIENT)
    filled(settings, tmp_path / "features")
    folder, scanner = Home.of(settings).feature_store.root, Scanner([GONE])
    tails, store = open_tails(settings), OnlineStoreClient.open(settings)
    try:
        assert store.read(GONE, WITHIN_S) is not None
        assert {seen.path.name for seen in scanner.scan(folder)} >= {"online.db"}
        remove(settings, [GONE])
        left = [seen.path.name for seen in scanner.scan(folder, leave_out=[Home.of(settings).feature_store.offline])]
        assert left == []
        assert store.read(GONE, WITHIN_S) is None
        assert store.read(STAYS, WITHIN_S) is not None
    finally:
        tails.close()
        store.close()


def test_redis_keeps_nothing_in_stream_dump_snapshot_or_append_only_file(tmp_path: Path) -> None:
    # Without compression, which would hide an id from the scanner.
    with servers.valkey(tmp_path, "--appendonly", "yes", "--save", "3600 1", "--rdbcompression", "no") as port:
        url = f"redis://127.0.0.1:{port}/0"
        settings = Settings(home=tmp_path / "var", store=StoreSettings(kind="redis", redis_url=url), serving=PATIENT)
        filled(settings, tmp_path / "features")
        scanner = Scanner([GONE])
        with redis.Redis(port=port) as client:
            client.save()
            client.xgroup_create("campaigns:events", "readers", "$")
            entries = client.xrange("campaigns:events")
            assert scanner.in_content(client.dump("campaigns:events") or b"") == {GONE}
            assert {seen.path.suffix for seen in scanner.scan(tmp_path, leave_out=[tmp_path / "var"])} >= {
                ".aof",
                ".rdb",
            }
            assert erasure_of(settings).find([GONE])["entries of the stream"] == 3
            # The server is writing its snapshot, with the user in it, when the removal wants another one.
            client.config_set("rdb-key-save-delay", 100_000)
            client.bgsave()
            assert client.info("persistence")["rdb_bgsave_in_progress"] == 1
            assert remove(settings, [GONE]) == []
            assert not [key for key in client.scan_iter() if GONE.encode() in key]
            assert scanner.in_content(client.dump("campaigns:events") or b"") == set()
            assert client.xrange("campaigns:events") == [one for one in entries if STAYS.encode() in one[1][b"event"]]
            (group,) = client.xinfo_groups("campaigns:events")
            assert group["last-delivered-id"] == entries[-1][0]
            assert list(scanner.scan(tmp_path, leave_out=[tmp_path / "var", tmp_path / "features"])) == []


def test_redis_that_refuses_to_write_its_files_says_so_and_loses_the_user(tmp_path: Path) -> None:
    with servers.valkey(tmp_path, "--appendonly", "yes", "--rename-command", "BGREWRITEAOF", "") as port:
        url = f"redis://127.0.0.1:{port}/0"
        settings = Settings(home=tmp_path / "var", store=StoreSettings(kind="redis", redis_url=url), serving=PATIENT)
        filled(settings, tmp_path / "features")
        (problem,) = remove(settings, [GONE])
        assert "BGREWRITEAOF" in problem
        assert set(erasure_of(settings).find([GONE]).values()) == {0}


def test_postgres_keeps_the_user_of_a_project_whose_name_begins_like_ours(tmp_path: Path) -> None:
    with servers.postgres() as socket:
        url = f"postgresql://postgres@/postgres?host={socket}"
        ours, theirs = (
            Settings(
                home=tmp_path / project,
                store=StoreSettings(kind="postgres", postgres_url=url, project=project),
                serving=PATIENT,
            )
            for project in ("campaigns", "campaigns_eu")
        )
        for settings in (ours, theirs):
            filled(settings, tmp_path / f"features of {settings.store.project}")
        assert erasure_of(ours).find([GONE])["rows"] == 1
        remove(ours, [GONE])
        assert read(ours, GONE) is None
        assert read(theirs, GONE) == b'{"q":"0"}\n{"q":"1"}\n{"q":"2"}\n'


def test_postgres_keeps_no_tuple_of_the_user_in_its_tables(tmp_path: Path) -> None:
    import psycopg

    with servers.postgres() as socket:
        url = f"postgresql://postgres@/postgres?host={socket}"
        settings = Settings(
            home=tmp_path / "var", store=StoreSettings(kind="postgres", postgres_url=url), serving=PATIENT
        )
        filled(settings, tmp_path / "features")
        tables, scanner = Path(socket) / "data" / "base", Scanner([GONE])
        with psycopg.connect(host=str(socket), user="postgres", autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            assert list(scanner.scan(tables))
            remove(settings, [GONE])
            connection.execute("CHECKPOINT")
        assert list(scanner.scan(tables)) == []
