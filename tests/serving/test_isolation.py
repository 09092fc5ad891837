"""A sick version, a dead worker or a dead Java process costs no shopper an answer, and a rollback takes seconds."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Endpoint, Shop, candidate, serving_settings, with_serving
from gateways import Gateway, copied_home, gateway

from recommender.decisions.assignment import assign
from recommender.decisions.log import find as find_decision
from recommender.decisions.log import folders_of
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving.deployed import Deployed
from serving.deployer.endpoint import serve
from serving.deployer.management import TorchServe
from serving.deployer.processes import find as find_process
from serving.deployer.sick_canary import end_sick_canary

DEADLINE_MS = 1_000
QUICK = {"failures": 3, "window_s": 1.0, "pause_s": 0.2, "canary_sick_s": 2.0}


@pytest.fixture
def beside(endpoint: Endpoint, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway with a short deadline and a registry of its own, in front of the endpoint's TorchServe."""
    home = copied_home(endpoint.shop, tmp_path / "home")
    shutil.copytree(Home.of(endpoint.settings).registry, Home.of(home).registry)
    changes = {"inference_port": endpoint.settings.serving.inference_port, "deadline_ms": DEADLINE_MS}
    settings = with_serving(home, serving=serving_settings(**changes, state=tmp_path / "state"), isolation=QUICK)
    ServingState.of(settings).root.mkdir()
    for shared in (ServingState.of(endpoint.settings).deployed, ServingState.of(endpoint.settings).wire_key):
        shutil.copy(shared, ServingState.of(settings).root)
    with gateway(settings) as running:
        yield running


@contextmanager
def workers_stopped(endpoint: Endpoint, version: str) -> Iterator[None]:
    pids = TorchServe(endpoint.settings).worker_pids(version)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def users_of(endpoint: Endpoint, variant: str) -> list[str]:
    salt = endpoint.settings.serving.assignment_salt
    users = [user for user in endpoint.shop.users if assign(user, salt=salt, canary_share=0.5).variant == variant]
    return users[:20]


def until(true: Any, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


def details(running: Gateway) -> Any:
    response = running.client.get("/readyz")
    assert response.status_code == 200, response.text
    return response.json()["details"]


def test_a_hung_canary_is_answered_for_by_the_champion_and_ended_once(endpoint: Endpoint, beside: Gateway) -> None:
    deployed = Deployed.load(ServingState.of(endpoint.settings).root)
    assert deployed.champion is not None
    assert deployed.canary is not None
    canary_users = users_of(endpoint, "canary")
    until(lambda: details(beside)["answers"] == "model", "the gateway knows that the champion answers")
    assert beside.ask(canary_users[0]).json()["model_version"] == deployed.canary
    registry = Registry(beside.settings.home)
    seconds = []
    with workers_stopped(endpoint, deployed.canary):
        stopped_s, waited = time.monotonic(), 0
        while not end_sick_canary(beside.settings):
            assert time.monotonic() - stopped_s < 60
            began_s = time.monotonic()
            answer = beside.ask(canary_users[waited % len(canary_users)]).json()
            seconds.append(time.monotonic() - began_s)
            waited += 1
            assert (answer["model_version"], answer["variant"]) == (deployed.champion, "champion"), answer
            assert answer["degraded_reasons"] == ["canary_away"]
            details(beside)
            time.sleep(0.05)
        record = find_decision(folders_of(beside.settings), answer["request_id"])
        assert (record["assigned_version"], record["model_version"]) == (deployed.canary, deployed.champion)
        assert (record["variant"], record["propensity"]) == ("champion", 1.0)
        assert beside.metric("recommender_breaker_state", model_version=deployed.canary) > 0
        assert beside.metric("recommender_breaker_state", model_version=deployed.champion) == 0
        assert beside.metric("recommender_version_sick_seconds", model_version=deployed.canary) > 1
        assert beside.ask(users_of(endpoint, "champion")[0]).json()["degraded"] is False
    # Wide, because other tests may run on the same cores. Once it is open, nothing waits for the canary.
    assert max(seconds) < 10 * DEADLINE_MS / 1e3
    assert sorted(seconds)[len(seconds) // 2] < DEADLINE_MS / 1e3
    assert registry.canary() is None
    ended = [event for event in registry.history() if event["what"] == "canary ended"]
    assert [event["version"] for event in ended] == [deployed.canary]
    until(lambda: details(beside)["versions"][deployed.canary]["breaker"] == "closed", "a probe closes the breaker")
    assert beside.ask(canary_users[0]).json()["model_version"] == deployed.canary
    until(lambda: details(beside)["versions"][deployed.canary]["sick_s"] is None, "it is well again")


def test_without_its_champion_answers_are_popular_and_do_not_wait_for_it(endpoint: Endpoint, beside: Gateway) -> None:
    deployed = Deployed.load(ServingState.of(endpoint.settings).root)
    assert deployed.champion is not None
    user = users_of(endpoint, "champion")[0]
    with workers_stopped(endpoint, deployed.champion):
        until(lambda: beside.ask(user).json()["degraded_reasons"] == ["model_sick"], "the breaker opens")
        began_s = time.monotonic()
        assert {beside.ask(user).json()["model_version"] for _ in range(20)} == {"popular"}
        assert time.monotonic() - began_s < 20 * DEADLINE_MS / 1e3, "none waited until its deadline"
        assert details(beside)["answers"] == "popular"
    until(lambda: beside.ask(user).json()["model_version"] == deployed.champion, "the champion is back")


class Shoppers(threading.Thread):
    """Asks again and again, and notes when the model answered and by which version."""

    def __init__(self, url: str, users: list[str]) -> None:
        super().__init__()
        self.client, self.users, self.stopping = httpx.Client(base_url=url, timeout=20), users, threading.Event()
        self.statuses: set[int] = set()
        self.answers: list[tuple[float, str]] = []

    def run(self) -> None:
        index = 0
        with self.client:
            while not self.stopping.wait(0.01):
                response = self.client.post("/v1/recommendations", json={"user_id": self.users[index % 50]})
                self.statuses.add(response.status_code)
                self.answers.append((time.monotonic(), response.json()["model_version"]))
                index += 1

    def longest_without_model_s(self, since_s: float) -> float:
        times = [since_s, *(at_s for at_s, version in self.answers if version != "popular" and at_s >= since_s)]
        return max(after - before for before, after in pairwise(times))

    def __enter__(self) -> "Shoppers":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.join()


@pytest.mark.slow
def test_a_dead_worker_is_not_missed_a_rollback_takes_seconds_and_a_dead_java_comes_back(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    registry = Registry(home.home)
    first, second = (registry.add(candidate(shop, tmp_path / str(size), strength=0.001 * size)) for size in (1, 2))
    registry.promote(first)
    settings = with_serving(home, serving={"workers": 2})
    server = TorchServe(settings)
    with serve(settings) as deployment:
        following = threading.Thread(target=deployment.follow)
        following.start()
        with Shoppers(deployment.url, shop.users) as shoppers:
            until(lambda: len(shoppers.answers) > 20, "answers")
            killed_s = time.monotonic()
            pids = server.worker_pids(first)
            assert len(pids) == 2
            os.kill(pids[0], signal.SIGKILL)
            until(lambda: len({*server.worker_pids(first)} - {*pids}) == 1, "a new worker is READY")
            # The other worker answered meanwhile. A machine that is busy for long needs long for a new one, too.
            assert shoppers.longest_without_model_s(killed_s) < max(1.0, (time.monotonic() - killed_s) / 2)

            registry.promote(second)
            promoted_s = time.monotonic()
            until(lambda: shoppers.answers[-1][1] == second, "the second version serves", 90)
            to_load_s = time.monotonic() - promoted_s
            assert Deployed.load(ServingState.of(settings).root).former == first
            assert len(server.worker_pids(first)) == 2
            registry.rollback()
            changed_s = time.monotonic()
            until(lambda: shoppers.answers[-1][1] == first, "the first version serves again")
            assert time.monotonic() - changed_s < max(10.0, to_load_s / 2), "it was still loaded"
            until(lambda: sorted(server.versions()) == [first], "what is not needed is unloaded")

            java = find_process(ServingState.of(settings).pid_file("torchserve"))
            assert java is not None
            os.kill(java.pid, signal.SIGKILL)
            until(lambda: shoppers.answers[-1][1] == "popular", "the popular list answers meanwhile")
            until(lambda: shoppers.answers[-1][1] == first, "the model answers again", 90)
            assert following.is_alive()
        assert shoppers.statuses == {200}
        deployment.stop()
        following.join(30)
    assert not following.is_alive()
