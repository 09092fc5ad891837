"""Store and model go away under a running gateway: the shopper still gets an answer, and it says so."""

import os
import shutil
import signal
import time
from collections.abc import Iterator

import httpx
import pytest
from conftest import Endpoint, Shop, serving_settings, with_serving
from servers import free_ports

from recommender.decisions.log import find, read_decisions
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving.deployer.endpoint import Deployment, start_gateway
from serving.deployer.processes import find as find_process


@pytest.fixture
def alone(home: Settings) -> Iterator[tuple[Settings, httpx.Client]]:
    """A gateway with a store and a catalogue, and no TorchServe behind it."""
    running = start_gateway(home)
    try:
        with httpx.Client(base_url=Deployment(home).url, timeout=20) as client:
            wait_alive(client)
            yield home, client
    finally:
        running.stop()


def wait_alive(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            client.get("/healthz")
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_without_a_model_everyone_gets_the_popular_list_degraded(
    alone: tuple[Settings, httpx.Client], shop: Shop
) -> None:
    settings, client = alone
    response = client.post("/v1/recommendations", json={"user_id": shop.users[0]})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["degraded"], answer["degraded_reasons"]) == (True, ["no_model"])
    assert {campaign["campaign_id"] for campaign in answer["campaigns"]} == set(shop.live())
    assert find(Home.of(settings).decisions, answer["request_id"])["degraded_reasons"] == ["no_model"]
    assert client.get("/readyz").status_code == 503


def test_a_store_that_is_away_degrades_and_comes_back(alone: tuple[Settings, httpx.Client], shop: Shop) -> None:
    settings, client = alone
    store = Home.of(settings).feature_store.root
    shutil.move(store, store.with_name("away"))
    answer = client.post("/v1/recommendations", json={"user_id": shop.users[0]}).json()
    assert (answer["degraded"], answer["degraded_reasons"]) == (True, ["feature_store"])
    assert answer["campaigns"]
    shutil.move(store.with_name("away"), store)
    answer = client.post("/v1/recommendations", json={"user_id": shop.users[0]}).json()
    assert answer["degraded_reasons"] == ["no_model"]


def test_a_full_decision_log_gives_an_answer_without_a_request_id(
    alone: tuple[Settings, httpx.Client], shop: Shop
) -> None:
    settings, client = alone
    log = Home.of(settings).decisions
    log.write_text("a file where the folder should be", encoding="utf-8")
    answer = client.post("/v1/recommendations", json={"user_id": "never seen"}).json()
    assert answer["request_id"] is None
    assert answer["degraded_reasons"] == ["decision_log"]
    log.unlink()
    assert client.post("/v1/recommendations", json={"user_id": "never seen"}).json()["request_id"] is not None


def test_before_any_popular_list_the_answer_is_503_with_retry_after(shop: Shop, home: Settings) -> None:
    catalogue = Home.of(home).catalogue
    shutil.move(catalogue, home.home / "later")
    running = start_gateway(home)
    try:
        with httpx.Client(base_url=Deployment(home).url, timeout=20) as client:
            wait_alive(client)
            response = client.post("/v1/recommendations", json={"user_id": shop.users[0]})
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
            assert response.json()["error"] == "unavailable"
            shutil.move(home.home / "later", catalogue)
            deadline = time.monotonic() + 10
            while client.post("/v1/recommendations", json={"user_id": shop.users[0]}).status_code == 503:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            (catalogue / "manifest.json").unlink()
            time.sleep(0.5)
            assert client.post("/v1/recommendations", json={"user_id": shop.users[0]}).status_code == 200
    finally:
        running.stop()


def test_kill_9_under_load_loses_no_acknowledged_decision(alone: tuple[Settings, httpx.Client], shop: Shop) -> None:
    settings, client = alone
    acknowledged = [
        client.post("/v1/recommendations", json={"user_id": user}).json()["request_id"] for user in shop.users[:150]
    ]
    gateway = find_process(ServingState.of(settings).pid_file("gateway"))
    assert gateway is not None
    os.kill(gateway.pid, signal.SIGKILL)
    logged = {decision["request_id"] for decision in read_decisions(Home.of(settings).decisions)}
    assert set(acknowledged) <= logged


def test_a_token_is_demanded_when_one_is_configured(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECOMMENDER_TOKEN", "s3cret")
    running = start_gateway(home)
    try:
        with httpx.Client(base_url=Deployment(home).url, timeout=20) as client:
            wait_alive(client)
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
                for path in ("/v1/recommendations", "/v1/exposures"):
                    refused = client.post(path, json={"user_id": "1"}, headers=headers)
                    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            allowed = client.post(
                "/v1/recommendations", json={"user_id": "1"}, headers={"Authorization": "Bearer s3cret"}
            )
            assert allowed.status_code == 200
    finally:
        running.stop()


def test_a_model_that_is_late_is_answered_for_by_the_deadline(endpoint: Endpoint) -> None:
    gateway_settings = with_serving(
        endpoint.settings,
        serving=serving_settings(
            inference_port=endpoint.settings.serving.inference_port,
            deadline_ms=150,
            state=endpoint.settings.home / "second_gateway",
            port=free_ports(1)[0],
        ),
    )
    ServingState.of(gateway_settings).root.mkdir(parents=True, exist_ok=True)
    shutil.copy(ServingState.of(endpoint.settings).deployed, ServingState.of(gateway_settings).root)
    running = start_gateway(gateway_settings)
    server = find_process(ServingState.of(endpoint.settings).pid_file("torchserve"))
    assert server is not None
    try:
        with httpx.Client(base_url=Deployment(gateway_settings).url, timeout=20) as client:
            wait_alive(client)
            os.killpg(server.pid, signal.SIGSTOP)
            began = time.monotonic()
            answer = client.post("/v1/recommendations", json={"user_id": endpoint.shop.users[0]}).json()
            assert time.monotonic() - began < 2
            assert answer["degraded_reasons"] == ["model_late"]
    finally:
        os.killpg(server.pid, signal.SIGCONT)
        running.stop()
    assert endpoint.ask(user_id=endpoint.shop.users[0]).json()["degraded"] is False
