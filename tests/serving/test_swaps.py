"""Versions are swapped while requests go on, and a version that does not load changes nothing."""

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from conftest import Endpoint, Shop, candidate, with_serving

from recommender.errors import ServingError
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving.archive import build_archive
from serving.deployed import Deployed
from serving.deployer import endpoint as running_endpoint
from serving.deployer import sync
from serving.deployer.endpoint import Deployment, serve
from serving.deployer.management import TorchServe
from serving.deployer.processes import Running, find, start
from serving.deployer.sync import Deployer
from serving.deployer.torchserve import start_torchserve


def processes_of(group: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.slow
def test_no_request_is_lost_over_two_swaps_and_a_version_that_does_not_load(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    # Without a former champion, which would still answer from memory when its files are damaged.
    home = with_serving(home, isolation={"keep_former": False})
    registry = Registry(home.home)
    first, second, third = (
        registry.add(candidate(shop, tmp_path / str(index), strength=0.001 * (index + 1))) for index in range(3)
    )
    registry.promote(first)
    answers: list[tuple[int, str, bool]] = []
    stopping = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=deployment.url, timeout=20) as client:
            index = 0
            while not stopping.is_set():
                response = client.post("/v1/recommendations", json={"user_id": shop.users[index % 100]})
                document = response.json()
                answers.append((response.status_code, document["model_version"], document["degraded"]))
                index += 1

    with serve(home) as deployment:
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.5)
            registry.promote(second)
            assert deployment.refresh().champion == second
            time.sleep(0.5)
            registry.start_canary(third, 0.4)
            swapped = deployment.refresh()
            assert (swapped.champion, swapped.canary) == (second, third)
            time.sleep(0.5)
            # The third version's weights lose a bit: it cannot be promoted, so the registry is bent by hand.
            registry.promote(third)
            registry.promote(first)
            weights = registry.path(first) / "fits" / "live" / "weights.safetensors"
            content = bytearray(weights.read_bytes())
            content[-3] ^= 1
            weights.write_bytes(content)
            broken = deployment.refresh()
            assert broken.champion == second, "the champion that served does not serve any more"
            assert "weights.safetensors" in broken.failed[first]
            assert sorted(TorchServe(home).versions()) == [second]
            time.sleep(0.5)
        finally:
            stopping.set()
            for thread in threads:
                thread.join()
        group = find(ServingState.of(home).pid_file("torchserve"))
    assert group is not None
    assert processes_of(group.pid) == []
    assert len(answers) > 50
    assert {(status, degraded) for status, _, degraded in answers} == {(200, False)}
    assert {version for _, version, _ in answers} == {first, second, third}


@pytest.mark.slow
def test_a_killed_gateway_and_java_leave_no_orphan_and_stop_works_from_another_shell(home: Settings) -> None:
    running = start_torchserve(home)
    assert processes_of(running.pid)
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + 15
    while find(ServingState.of(home).pid_file("torchserve")) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    running_endpoint.stop(home)
    assert processes_of(running.pid) == []


def test_a_busy_port_is_named(shop: Shop, home: Settings, tmp_path: Path) -> None:
    registry = Registry(home.home)
    registry.promote(registry.add(candidate(shop, tmp_path / "a", ranker="popularity")))
    for key in ("port", "health_port", "inference_port", "management_port", "metrics_port"):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            busy = with_serving(home, serving=home.serving.model_copy(update={key: port}))
            with pytest.raises(ServingError, match=f"{port}.*{key.upper()}"):
                serve(busy)
            assert find(ServingState.of(home).pid_file("torchserve")) is None


def test_nothing_starts_without_a_champion(home: Settings) -> None:
    with pytest.raises(ServingError, match=str(Home.of(home).registry)):
        serve(home)


def test_set_default_refuses_a_version_without_live_workers(endpoint: Endpoint) -> None:
    server = TorchServe(endpoint.settings)
    with pytest.raises(ServingError, match="no-such-version"):
        server.set_default("no-such-version")


def test_a_refresh_of_what_serves_already_changes_nothing(endpoint: Endpoint) -> None:
    server = TorchServe(endpoint.settings)
    before = {version: (states, server.worker_pids(version)) for version, states in server.versions().items()}
    assert before
    Deployer(endpoint.settings).refresh()
    assert {version: (states, server.worker_pids(version)) for version, states in server.versions().items()} == before


def test_the_same_bundle_gives_the_same_archive(shop: Shop, tmp_path: Path) -> None:
    fitted = candidate(shop, tmp_path / "a", ranker="popularity") / "fits" / "live"
    copied = tmp_path / "copy"
    shutil.copytree(fitted, copied)
    os.utime(copied / "config.json", (1, 1))
    one = build_archive(fitted, tmp_path / "one.mar", version="v1")
    two = build_archive(copied, tmp_path / "two.mar", version="v1")
    assert one.read_bytes() == two.read_bytes()


def kill_java_then_gateway(settings: Settings, java: Running, gateway: Running) -> None:
    """Kill Java, wait until another one has loaded what serves, and kill the gateway."""
    pid_file, deadline = ServingState.of(settings).pid_file("torchserve"), time.monotonic() + 90
    until(lambda: list(Deployed.load(ServingState.of(settings).root).failed) != [], deadline)
    os.kill(java.pid, signal.SIGKILL)
    until(lambda: (now := find(pid_file)) is not None and now.pid != java.pid, deadline)
    champion = Deployed.load(ServingState.of(settings).root).champion
    until(lambda: champion in served(settings), deadline)
    os.kill(gateway.pid, signal.SIGKILL)


def until(true: Callable[[], bool], deadline_s: float) -> None:
    while not true() and time.monotonic() < deadline_s:
        time.sleep(0.05)


def served(settings: Settings) -> dict[str, list[str]]:
    """Versions with a READY worker. None while TorchServe starts."""
    try:
        return {version: states for version, states in TorchServe(settings).versions().items() if "READY" in states}
    except ServingError:
        return {}


@pytest.mark.slow
def test_a_flipped_bit_of_a_manifest_and_a_killed_java_end_nothing_and_a_killed_gateway_ends_the_endpoint(
    shop: Shop, home: Settings, tmp_path: Path
) -> None:
    registry = Registry(home.home)
    first, second = (
        registry.add(candidate(shop, tmp_path / str(index), strength=0.001 * (index + 1))) for index in range(2)
    )
    registry.promote(first)
    with serve(home) as deployment:
        registry.promote(second)
        manifest = registry.path(second) / "fits" / "live" / "manifest.json"
        content = bytearray(manifest.read_bytes())
        content[len(content) // 2] ^= 0x80
        manifest.write_bytes(content)
        java = find(ServingState.of(home).pid_file("torchserve"))
        assert java is not None
        gateway = find(ServingState.of(home).pid_file("gateway"))
        assert gateway is not None
        killing = threading.Thread(target=kill_java_then_gateway, args=(home, java, gateway))
        killing.start()
        with pytest.raises(ServingError, match="gateway"):
            deployment.follow()
        killing.join()
        now = Deployed.load(ServingState.of(home).root)
        assert (now.champion, list(now.failed)) == (first, [second])
        assert "manifest.json" in now.failed[second]
        assert processes_of(java.pid) == []
    assert find(ServingState.of(home).pid_file("gateway")) is None


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Deployment, dict[str, Running]]]:
    """A deployment whose gateway and TorchServe only sleep, each with a worker."""
    deployment = Deployment(Settings(home=tmp_path))
    state = ServingState.of(deployment.settings)
    state.root.mkdir(parents=True)
    monkeypatch.setattr(Deployer, "refresh", lambda _: None)
    monkeypatch.setattr(sync, "FOLLOW_S", 0.05)
    running = {
        name: start(
            ["sh", "-c", "sleep 60 & sleep 60"],
            name=name,
            state=state,
            environment=os.environ,
            folder=tmp_path,
        )
        for name in ("gateway", "torchserve")
    }
    with deployment:
        yield deployment, running


def test_a_gateway_that_is_killed_ends_the_endpoint_and_is_named(
    two: tuple[Deployment, dict[str, Running]],
) -> None:
    deployment, running = two
    os.kill(running["gateway"].pid, signal.SIGKILL)
    with pytest.raises(ServingError, match="gateway"), deployment:
        deployment.follow()
    assert [processes_of(one.pid) for one in running.values()] == [[], []]


def test_an_endpoint_that_is_stopped_from_elsewhere_ends_without_an_error(
    two: tuple[Deployment, dict[str, Running]],
) -> None:
    deployment, _ = two
    stopping = threading.Timer(0.3, deployment.stop)
    stopping.start()
    deployment.follow()
    stopping.join()
    deployment.follow()
