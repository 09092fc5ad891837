"""Several gateway processes on one port: one answer about health and metrics, and no decision lost with a process."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import Shop
from gateways import JSON, PATH, Gateway, clients_until_closed, gateway
from servers import free_ports

from recommender.decision_tables import read_decisions
from recommender.errors import SettingsError
from recommender.settings import Settings
from recommender.storage.home import ServingState

NUM = 3


def until(true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


def parent_of(running: Gateway) -> int:
    assert running.process is not None
    return running.process.pid


def children(parent: int) -> list[int]:
    """The gateway processes that a parent has, by pid."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def processes(running: Gateway) -> dict[str, int]:
    return dict(running.client.get("/readyz").json()["details"]["processes"])


@contextmanager
def several(home: Settings, **serving: object) -> Iterator[Gateway]:
    """A gateway of several processes that all serve."""
    with gateway(home, gateway_processes=NUM, **serving) as running:
        until(lambda: processes(running) == {"wanted": NUM, "serving": NUM}, "all processes serve")
        yield running


def ask_over_new_connections(running: Gateway, users: list[str]) -> list[str]:
    """Ids of decisions about these users, each asked for over a connection of its own."""
    url = f"http://127.0.0.1:{running.settings.serving.port}{PATH}"
    return [httpx.post(url, json={"user_id": user}, trust_env=False).json()["request_id"] for user in users]


def writers(ids: list[str]) -> set[str]:
    return {one.split("-")[1] for one in ids}


def test_processes_share_a_port_and_are_one_gateway_to_whoever_asks_how_it_is(shop: Shop, home: Settings) -> None:
    (health_port,) = free_ports(1)
    with several(home, health_port=health_port) as running:
        ids: list[str] = []
        until(
            lambda: bool(ids.extend(ask_over_new_connections(running, shop.users[:20])) or len(writers(ids)) > 1),
            "more than one process answers",
        )
        # Whichever process a scrape reaches, it counts the answers of all of them.
        for _ in range(3):
            assert running.metric("recommender_answers_total") == len(ids)
        with httpx.Client(base_url=f"http://127.0.0.1:{health_port}", trust_env=False) as health:
            line = f'recommender_answers_total{{model_version="popular",variant="champion"}} {len(ids)}.0'
            assert line in health.get("/metrics").text.splitlines()
            assert health.get("/readyz").json()["details"]["processes"] == {"wanted": NUM, "serving": NUM}
            assert health.get("/healthz").status_code == 200
        # Any process confirms what another one recorded.
        for request_id in ids[:10]:
            confirmed = running.client.post("/v1/exposures", json={"request_id": request_id})
            assert (confirmed.status_code, confirmed.json()["request_id"]) == (200, request_id)
    assert {one["request_id"] for one in read_decisions(running.settings)} == set(ids)


def test_a_killed_process_costs_no_acknowledged_decision_and_is_started_again(shop: Shop, home: Settings) -> None:
    acknowledged: list[str] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def ask(port: int, users: list[str]) -> None:
        while not ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                for user in users:
                    connection.request("POST", PATH, json.dumps({"user_id": user}), JSON)
                    answer = connection.getresponse()
                    acknowledged.append(json.loads(answer.read())["request_id"])
            except (http.client.HTTPException, OSError) as error:
                failures.append(error)  # its process was killed
            finally:
                connection.close()

    with several(home) as running:
        threads = [
            threading.Thread(target=ask, args=(running.settings.serving.port, shop.users[place : place + 5]))
            for place in range(0, 40, 5)
        ]
        for thread in threads:
            thread.start()
        before = children(parent_of(running))
        for _ in range(2):
            until(lambda: len(acknowledged) > 50, "it answers")
            os.kill(children(parent_of(running))[0], signal.SIGKILL)
            time.sleep(0.3)
            answered = len(acknowledged)
            until(lambda answered=answered: len(acknowledged) > answered + 20, "the others go on")
            until(lambda: processes(running)["serving"] == NUM, "it is started again")
        ended.set()
        for thread in threads:
            thread.join(20)
        after = children(parent_of(running))
        assert len(after) == NUM
        assert len(set(before) & set(after)) == NUM - 2
        assert 0 < running.metric("recommender_answers_total") <= len(acknowledged)
    # At most the request that each client had under way with the process that was killed.
    assert len(failures) <= 2 * len(threads)
    assert len(writers(acknowledged)) >= NUM
    recorded = {one["request_id"] for one in read_decisions(running.settings)}
    assert set(acknowledged) <= recorded


def test_signals_to_the_parent_reach_all_processes_and_no_kept_connection_fails(home: Settings) -> None:
    ends: list[object] = []
    with several(home) as running:
        threads = clients_until_closed(running.settings.serving.port, 12, ends)
        time.sleep(0.5)
        started = children(parent_of(running))
        os.kill(parent_of(running), signal.SIGUSR1)
        for thread in threads:
            thread.join(20)
        assert ends == [200] * len(threads)
        assert running.client.get("/readyz").json()["status"] == "draining"
        os.kill(parent_of(running), signal.SIGTERM)
        until(lambda: running.process is not None and not running.process.alive(), "the parent ends")
        assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    assert (ServingState.of(home).logs / "gateway-0.log").is_file()


def test_children_end_when_their_parent_is_killed(home: Settings) -> None:
    with several(home) as running:
        started = children(parent_of(running))
        os.kill(parent_of(running), signal.SIGKILL)
        until(lambda: not any(_runs(pid) for pid in started), "they end")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_in_the_gateway_are_not_multiplied(home: Settings) -> None:
    with pytest.raises(SettingsError, match="gateway_processes"):
        home.updated(serving={"engine": "in_process", "gateway_processes": 2})
