"""Clients that hang up and gateways that stop: no work for nobody, and no request lost."""

import asyncio
import http.client
import json
import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from conftest import Endpoint, Shop
from gateways import JSON, PATH, beside, clients_until_closed, gateway, gateway_in_a_thread, stopped

from recommender.decision_tables import read_decisions
from recommender.decisions.log import find, folders_of
from recommender.settings import Settings
from serving.gateway import app as application
from serving.gateway.arrival import Arrival


def until(true: object, what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_client_that_hangs_up_is_counted_as_499_and_its_work_is_cancelled(endpoint: Endpoint, tmp_path: Path) -> None:
    user = endpoint.shop.users[7]
    body = json.dumps({"user_id": user, "context": {"caller": "left"}}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with beside(endpoint, tmp_path, deadline_ms=20_000) as running:
        with stopped(endpoint):
            with closing(running.connect()) as connection:
                connection.sendall(head.encode() + body)
                until(lambda: running.metric("recommender_model_in_flight") == 1, "the model is asked")
            until(lambda: running.metric("recommender_refusals_total", status="499") == 1, "the hang-up is counted")
            until(lambda: running.metric("recommender_in_flight") <= 1, "only the request for the metrics is under way")
            until(lambda: running.metric("recommender_model_in_flight") == 0, "the model's work is cancelled")
        until(lambda: f'"path":"{PATH}"' in running.log(), "the request is logged")
        lines = [json.loads(line) for line in running.log().splitlines()]
        assert [line["status"] for line in lines if line["event"] == "request" and line["path"] == PATH] == [499]
        assert not [line for line in lines if line["level"] == "error" or "exception" in line]
        answered = running.ask(user).json()
        assert answered["degraded"] is False
    counted = [one for one in read_decisions(running.settings) if one["user_id"] == user]
    assert answered["request_id"] in [one["request_id"] for one in counted]
    assert [one["request_id"] for one in counted if one["context"] == {"caller": "left"}] == []


def test_a_decision_whose_caller_left_before_the_answer_is_recorded_and_not_counted(shop: Shop, home: Settings) -> None:
    gateway_app = application.create(home)
    left: list[bool] = []

    async def served(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"arrival": Arrival(deadline_s=5.0, caller_left=lambda: left[-1])}
        await gateway_app(scope, receive, send)

    async def ask() -> list[str]:
        ids = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://gateway") as client:
            for gone in (False, True):
                left.append(gone)
                answer = await client.post(PATH, json={"user_id": shop.users[0]})
                ids.append(answer.json()["request_id"])
        return ids

    stayed, gone = asyncio.run(ask())
    gateway_app.state.decisions.close()
    assert [one["request_id"] for one in read_decisions(home)] == [stayed]
    assert find(folders_of(home), gone)["user_id"] == shop.users[0]


def test_a_draining_gateway_answers_and_asks_its_clients_to_go(home: Settings) -> None:
    with gateway(home) as running:
        assert "connection" not in running.ask().headers
        assert running.process is not None
        os.kill(running.process.pid, signal.SIGUSR1)
        until(lambda: running.client.get("/readyz").json()["status"] == "draining", "it drains")
        assert running.client.get("/readyz").status_code == 503
        assert running.client.get("/healthz").status_code == 200
        for _ in range(3):
            answer = running.ask()
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")


def test_clients_with_kept_connections_see_no_error_when_a_gateway_stops(home: Settings) -> None:
    ends: list[object] = []
    with gateway(home) as running:
        threads = clients_until_closed(running.settings.serving.port, 8, ends)
        time.sleep(1)
        assert running.process is not None
        os.kill(running.process.pid, signal.SIGTERM)
        for thread in threads:
            thread.join(20)
        until(lambda: running.process is not None and not running.process.alive(), "the gateway ends", 20)
    assert ends == [200] * 8


def test_an_idle_connection_stays_longer_than_a_load_balancer_keeps_it(home: Settings) -> None:
    from serving.gateway import connection as connections

    assert connections.KEEP_ALIVE_S > 60
    with gateway_in_a_thread(home) as running:
        client = http.client.HTTPConnection("127.0.0.1", running.settings.serving.port, timeout=20)
        for wait_s in (0, 6):  # longer than uvicorn's own five seconds
            time.sleep(wait_s)
            client.request("POST", PATH, json.dumps({"user_id": "1"}), JSON)
            answer = client.getresponse()
            answer.read()
            assert answer.status == 200
            assert not answer.will_close
        client.close()
