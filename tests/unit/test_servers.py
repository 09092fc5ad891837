"""The servers that tests start are real, ask for what they were told to ask for, and are gone when their block ends."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import redis
import servers
from redis.backoff import NoBackoff
from redis.retry import Retry


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_valkey_demands_its_password_and_its_append_only_file_outlives_a_crash(tmp_path: Path) -> None:
    options = ("--requirepass", "1234", "--appendonly", "yes")
    with servers.valkey(tmp_path, *options) as port:
        once = Retry(NoBackoff(), 0)  # by default the client tries ten times in 9 s
        with redis.Redis(port=port, retry=once) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.get("key")
        with redis.Redis(port=port, password="1234") as client:
            client.set("key", "value")
    assert not listens(port)
    with servers.valkey(tmp_path, *options, port=port), redis.Redis(port=port, password="1234") as client:
        assert client.get("key") == b"value"


def test_a_valkey_without_options_forgets_all_when_it_ends(tmp_path: Path) -> None:
    with servers.valkey(tmp_path) as port, redis.Redis(port=port) as client:
        client.set("key", "value")
    with servers.valkey(tmp_path, port=port), redis.Redis(port=port) as client:
        assert client.dbsize() == 0


def test_a_server_that_cannot_start_is_an_error_that_quotes_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(servers.ServerError, match=r"(?s)exited with 1.*requirepas"),
        servers.valkey(tmp_path, "--requirepas", "1234"),
    ):
        pass


def test_a_port_that_another_process_took_is_replaced_by_a_free_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    with servers.valkey(tmp_path) as taken:
        offers = [[taken], servers.free_ports(1)]
        monkeypatch.setattr(servers, "free_ports", lambda count: offers.pop(0))
        with servers.valkey(tmp_path / "other") as port:
            assert port != taken
            assert listens(port)
    assert not offers


def test_a_postgresql_leaves_no_process_and_no_folder() -> None:
    with servers.postgres() as folder:
        process = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        with psycopg.connect(host=str(folder), user="postgres") as connection:
            version = connection.execute("SELECT version()").fetchone()
    assert version is not None
    assert version[0].startswith("PostgreSQL 18.")
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert not folder.exists()


def test_a_seaweedfs_keeps_objects_for_its_key_alone_and_leaves_no_socket(tmp_path: Path) -> None:
    with servers.seaweedfs(tmp_path) as store:
        store.files.create_dir("bucket")
        with store.files.open_output_stream("bucket/folder/object") as stream:
            stream.write(b"value")
        assert store.files.open_input_file("bucket/folder/object").read() == b"value"
        with pytest.raises(OSError, match="ACCESS_DENIED"):
            replace(store, secret_key="another").files.open_input_file("bucket/folder/object")
        sockets = set(Path("/tmp").glob("seaweedfs-*.sock"))
    assert not listens(int(store.endpoint.rpartition(":")[2]))
    assert len(sockets - set(Path("/tmp").glob("seaweedfs-*.sock"))) >= 4, "one for each role"
