"""Worker processes of the gateway: what one that dies or hangs costs, and a whole endpoint without a model server."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from conftest import Shop, candidate, with_serving
from engines import FOLLOW_S, Engine, running_engine, until

from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.deployer.endpoint import serve
from serving.deployer.processes import find
from serving.engines.contract import EngineError
from serving.engines.in_process.scoring import InProcessScoring
from serving.engines.in_process.workers import DEPTH


@pytest.fixture(scope="module")
def two(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, str]]:
    """Two workers of one version."""
    folder = tmp_path_factory.mktemp("two")
    with running_engine("in_process", shop, folder, workers=2) as engine:
        version = Registry(engine.settings.home).add(candidate(shop, folder / "candidate"))
        engine.load(version)
        yield engine, version


def num_ready(engine: Engine, version: str) -> int:
    return engine.loading.versions()[version].count("READY")


def until_whole(engine: Engine, version: str) -> None:
    """Wait until both workers are ready, by what the gateway says from now on."""
    time.sleep(5 * FOLLOW_S)
    until(lambda: num_ready(engine, version) == 2, "the worker is replaced")


def test_a_request_that_kills_its_worker_is_the_only_one_that_fails(two: tuple[Engine, str]) -> None:
    engine, version = two
    first, second = engine.processes()
    body = engine.body(engine.shop.users[0])
    assert isinstance(engine.scoring, InProcessScoring)
    _, pool = engine.scoring._pools[version]
    for pid in (first, second):
        os.kill(pid, signal.SIGSTOP)

    def ask(_: int) -> int | str:
        try:
            return engine.ask(version, body)[0]
        except EngineError:
            return "lost"

    with ThreadPoolExecutor(6) as threads:
        asked = []
        for place in range(6):  # one after another, because requests that arrive together may share a batch
            asked.append(threads.submit(ask, place))
            until(lambda: sum(len(one.given) for one in pool.workers) + len(pool._waiting) == len(asked), "it is there")
        assert [len(one.given) for one in pool.workers] == [DEPTH, DEPTH], "and two wait"
        os.kill(first, signal.SIGKILL)
        until(lambda: first not in [one.process.pid for one in pool.workers], "its end is noticed")
        os.kill(second, signal.SIGCONT)
        outcomes = [one.result() for one in asked]
    assert sorted(outcomes, key=str) == [200] * 5 + ["lost"]
    until_whole(engine, version)
    assert first not in engine.processes()


def test_a_worker_that_hangs_is_replaced_and_the_other_one_answers(two: tuple[Engine, str]) -> None:
    engine, version = two
    hanging, _ = engine.processes()
    body = engine.body(engine.shop.users[0])
    os.kill(hanging, signal.SIGSTOP)
    outcomes = []
    for _ in range(4):
        try:
            outcomes.append(engine.ask(version, body, seconds=1.5)[0])
        except TimeoutError:
            outcomes.append(0)
    assert 1 <= outcomes.count(0) <= 2  # as many as a worker is given at once
    assert set(outcomes) == {0, 200}
    until(lambda: hanging not in engine.processes(), "the worker that hangs is ended")
    until_whole(engine, version)


def test_a_worker_killed_again_and_again_leaves_no_second_without_an_answer(two: tuple[Engine, str]) -> None:
    engine, version = two
    body = engine.body(engine.shop.users[0])
    longest_s, to_replace_s = 0.0, 0.0
    for _ in range(3):
        os.kill(engine.processes()[0], signal.SIGKILL)
        killed_s = answered_s = time.monotonic()
        noticed = False
        while not noticed or num_ready(engine, version) < 2:
            noticed = noticed or num_ready(engine, version) < 2
            try:
                assert engine.ask(version, body)[0] == 200
                longest_s = max(longest_s, time.monotonic() - answered_s)
                answered_s = time.monotonic()
            except EngineError:
                time.sleep(0.01)
        to_replace_s = max(to_replace_s, time.monotonic() - killed_s)
    # The other worker answers meanwhile. A machine that is busy for long needs long for a new one, too.
    assert 0 < longest_s < max(1.0, to_replace_s / 2)


@pytest.mark.slow
def test_an_endpoint_without_a_model_server_swaps_rolls_back_and_leaves_no_process(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    settings = with_serving(home, serving={"engine": "in_process"})
    registry = Registry(settings.home)
    first, second = (
        registry.add(candidate(shop, tmp_path / str(index), strength=0.001 * (index + 1))) for index in range(2)
    )
    registry.promote(first)
    with serve(settings) as deployment, httpx.Client(base_url=deployment.url, timeout=20, trust_env=False) as client:

        def answer() -> tuple[str, bool]:
            document = client.post("/v1/recommendations", json={"user_id": shop.users[0]}).json()
            return document["model_version"], document["degraded"]

        assert answer() == (first, False)
        registry.start_canary(second, 0.5)
        assert deployment.refresh().versions == (first, second)
        registry.promote(second)
        assert deployment.refresh().champion == second
        until(lambda: answer() == (second, False), "the gateway follows")
        registry.rollback()
        assert deployment.refresh().champion == first
        until(lambda: answer() == (first, False), "the gateway follows")
        gateway = find(ServingState.of(settings).pid_file("gateway"))
        assert find(ServingState.of(settings).pid_file("torchserve")) is None
        assert gateway is not None
    assert _members(gateway.pid) == []


def _members(group: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
