"""A gateway on a real Redis or PostgreSQL that hangs, holds garbage, is killed, or is replaced by something else.

Requests run all the time. Each is answered within the deadline, and says that the features are missing.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from conftest import Shop, serving_settings, with_serving
from gateways import Gateway, copied_home, gateway
from servers import Postgres, ServerError, valkey

from feature_repo import materialise
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings, StoreSettings
from recommender.storage.home import Home
from serving.online_store.feast_format import entity_key, hash_field

DEADLINE_S = 1.0
"""Far above the 250 ms of the default settings, for a busy machine."""
WELL, AWAY = ["no_model"], ["feature_store"]


@dataclass
class Shoppers:
    """Two shoppers who ask again and again from threads of their own."""

    running: Gateway
    users: list[str]
    slowest_s: float = 0.0
    statuses: set[int] = field(default_factory=set)
    _ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, user: str) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self.statuses.add(self.running.ask(user).status_code)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            time.sleep(0.01)

    @contextmanager
    def asking(self) -> Iterator["Shoppers"]:
        threads = [threading.Thread(target=self.ask, args=(user,)) for user in self.users]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()


def on_redis(shop: Shop, folder: Path, port: int) -> Settings:
    return on_store(shop, folder, StoreSettings(kind="redis", redis_url=f"redis://127.0.0.1:{port}"))


def on_store(shop: Shop, folder: Path, store: StoreSettings) -> Settings:
    settings = copied_home(shop, folder)
    serving = serving_settings(deadline_ms=round(DEADLINE_S * 1e3), store_deadline_ms=300)
    return with_serving(settings, serving=serving, store=store)


def reasons(running: Gateway, user: str) -> list[str]:
    answer = running.ask(user)
    assert answer.status_code == 200, answer.text
    assert answer.json()["campaigns"]
    found: list[str] = answer.json()["degraded_reasons"]
    return found


def until(running: Gateway, user: str, wanted: list[str]) -> None:
    deadline = time.monotonic() + 60
    while reasons(running, user) != wanted:
        assert time.monotonic() < deadline, f"the answer never said {wanted}"
        time.sleep(0.05)


def test_a_store_that_hangs_or_dies_costs_no_answer_and_is_found_again(shop: Shop, tmp_path: Path) -> None:
    user, other = shop.users[:2]
    (tmp_path / "store").mkdir()
    with ExitStack() as stack:
        with valkey(tmp_path / "store") as port:
            settings = on_redis(shop, tmp_path / "home", port)
            materialise(shop.features, settings)
            running = stack.enter_context(gateway(settings))
            shoppers = stack.enter_context(Shoppers(running, [user, other]).asking())
            until(running, user, WELL)
            with redis.Redis(port=port) as server:
                pid = int(server.info("server")["process_id"])
            os.kill(pid, signal.SIGSTOP)
            until(running, user, AWAY)
            os.kill(pid, signal.SIGCONT)
            until(running, user, WELL)
        until(running, user, AWAY)
        with valkey(tmp_path / "store", port=port):
            materialise(shop.features, settings)
            until(running, user, WELL)
    assert shoppers.statuses == {200}
    # As seen by a thread beside a materialisation on a busy machine. A request that waits for the store would wait on.
    assert shoppers.slowest_s < 5 * DEADLINE_S
    assert "Traceback" not in running.log()


def started_again(server: Postgres) -> AbstractContextManager[None]:
    """PostgreSQL started after it was killed: it refuses until the processes of the killed one have ended."""
    deadline = time.monotonic() + 60
    while True:
        running = server.running()
        try:
            running.__enter__()
        except ServerError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            stack = ExitStack()
            stack.push(running)
            return stack


def test_a_postgresql_that_is_killed_costs_no_answer_and_is_found_again_with_all_users(
    shop: Shop, tmp_path: Path
) -> None:
    user, other = shop.users[:2]
    with Postgres.made() as server, ExitStack() as stack:
        url = f"postgresql://postgres@/postgres?host={server.folder}"
        settings = on_store(shop, tmp_path / "home", StoreSettings(kind="postgres", postgres_url=url))
        with server.running(ended_by=signal.SIGKILL):
            materialise(shop.features, settings)
            running = stack.enter_context(gateway(settings))
            shoppers = stack.enter_context(Shoppers(running, [user, other]).asking())
            until(running, user, WELL)
        until(running, user, AWAY)
        with started_again(server):
            until(running, user, WELL)
            until(running, other, WELL)
            stack.close()
    assert shoppers.statuses == {200}
    assert shoppers.slowest_s < 5 * DEADLINE_S
    assert "Traceback" not in running.log()


@pytest.mark.parametrize("garbage", ["text", "a flipped bit", "another type", "nothing"])
def test_garbage_of_one_user_costs_no_other_one_the_features(
    shop: Shop, tmp_path: Path, redis_url: str, garbage: str
) -> None:
    user, other = shop.users[:2]
    port = int(redis_url.partition("127.0.0.1:")[2].partition("/")[0])
    settings = on_redis(shop, tmp_path / "home", port)
    materialise(shop.features, settings)
    schema = ServingSchema.load(Home.of(settings).feature_store.root)
    key = entity_key(schema.join_key, user) + schema.project.encode()
    place = hash_field(schema.view, schema.field)
    with redis.Redis(port=port) as server:
        whole = server.hget(key, place)
        assert isinstance(whole, bytes)
        if garbage == "another type":
            server.set(key, "text")
        else:
            flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
            server.hset(key, place, {"text": b"garbage", "a flipped bit": flipped, "nothing": b"\x0a\x00"}[garbage])
    with gateway(settings) as running:
        until(running, other, WELL)
        assert reasons(running, user) == AWAY
        assert reasons(running, other) == WELL
    assert "Traceback" not in running.log()


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nab", b":1\r\n" * 9, b"\x00" * 900, b""])
def test_something_else_on_the_store_s_port_is_a_store_that_is_away(shop: Shop, tmp_path: Path, says: bytes) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4_096)
                    connection.sendall(says)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with gateway(on_redis(shop, tmp_path / "home", listening.getsockname()[1])) as running:
                began = time.monotonic()
                assert [reasons(running, user) for user in shop.users[:10]] == [AWAY] * 10
                assert time.monotonic() - began < 10 * DEADLINE_S
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert "Traceback" not in running.log()


def test_features_that_are_too_old_at_the_decision_count_as_none_and_the_answer_says_so(
    shop: Shop, tmp_path: Path
) -> None:
    settings = copied_home(shop, tmp_path / "home").updated(time={"as_of": shop.as_of + timedelta(days=2)})
    for max_age_days, expected in ((3.0, WELL), (1.0, ["features_expired"])):
        with gateway(settings.updated(store={"max_age_days": max_age_days})) as running:
            assert reasons(running, shop.users[0]) == expected
            assert running.ask(shop.users[0]).json()["cold_start"] == (expected != WELL)
            assert running.ask("nobody").json()["degraded_reasons"] == []
            count = running.metric("recommender_degraded_total", reason="features_expired")
            assert count == (0 if expected == WELL else 2)
