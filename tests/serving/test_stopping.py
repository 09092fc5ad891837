"""The processes of a serving pod end soon after SIGTERM, whatever they are doing.

Each is the init of its container, which ignores signals that it has no handler for.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from conftest import Shop, candidate
from pod import Container, Pod, wait_until

from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.deployer.management import TorchServe
from serving.deployer.sync import FOLLOW_S
from serving.stopping import PATIENCE_S

WITHIN_S = 15.0
"""Half of the grace that Kubernetes gives. A busy machine needs some of it."""
SWALLOWS = """
import time
from serving.stopping import end_at_sigterm

class Busy:
    def __del__(self):
        print("busy", flush=True)
        time.sleep(60)

end_at_sigterm()
Busy()
time.sleep(60)
"""


def refuses(container: Container, words: str) -> None:
    """Wait until a container says why it can do nothing yet."""
    wait_until(lambda: words in container.said(), f"{container.name} says {words!r}")


def events(container: Container) -> list[str]:
    """The events that a container has printed as JSON lines."""
    return [json.loads(line)["event"] for line in container.said().splitlines() if line.startswith('{"timestamp"')]


def client_of(home: Settings) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{home.serving.port}", timeout=20, trust_env=False)


def status(client: httpx.Client) -> int | None:
    """The status that /readyz answers. None while nothing listens."""
    try:
        return client.get("/readyz").status_code
    except httpx.TransportError:
        return None


def answers(client: httpx.Client) -> str | None:
    """What an answer of the gateway is made of. None while nothing listens."""
    try:
        return str(client.get("/readyz").json()["details"]["answers"])
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("name", ["deployer", "gateway"])
def test_it_ends_while_it_starts(home: Settings, tmp_path: Path, name: str) -> None:
    with Pod(tmp_path / "pod", home) as pod:
        starting = pod.start(name)
        wait_until(starting.catches_sigterm, f"{name} has a handler")
        assert starting.stop(within_s=WITHIN_S) == 0


def test_both_end_while_they_wait_for_a_champion_and_for_torchserve(shop: Shop, home: Settings, tmp_path: Path) -> None:
    registry = Registry(home.home)
    with Pod(tmp_path / "pod", home) as pod, client_of(home) as client:
        without_champion, gateway = pod.start("deployer"), pod.start("gateway")
        refuses(without_champion, str(Home.of(home).registry))
        time.sleep(2 * FOLLOW_S)
        assert sum("first champion" in event for event in events(without_champion)) == 1, "a state is said once"
        assert "problem" not in without_champion.said(), "an empty registry is no error"
        wait_until(lambda: answers(client) == "popular", "the gateway says that it has no model")
        assert without_champion.stop(within_s=WITHIN_S) == 0
        assert gateway.stop(within_s=WITHIN_S) == 0
        registry.promote(registry.add(candidate(shop, tmp_path / "champion", ranker="popularity")))
        without_torchserve = pod.start("deployer")
        refuses(without_torchserve, str(home.serving.management_port))
        assert without_torchserve.stop(within_s=WITHIN_S) == 0


@pytest.mark.slow
def test_all_end_while_a_version_loads_and_while_it_serves(shop: Shop, home: Settings, tmp_path: Path) -> None:
    registry = Registry(home.home)
    champion = registry.add(candidate(shop, tmp_path / "champion"))
    registry.promote(champion)
    server = TorchServe(home)
    with Pod(tmp_path / "pod", home) as pod, client_of(home) as client:
        torchserve, gateway = pod.start("torchserve"), pod.start("gateway")
        server.wait_up()
        loading = pod.start("deployer")
        wait_until(lambda: champion in server.versions(), "the champion is registered")
        assert loading.stop(within_s=WITHIN_S) == 0
        assert not (pod.state / "deployed.json").exists(), "it was no longer loading"
        # What the one that was stopped left behind keeps the next one from nothing.
        following = pod.start("deployer")
        wait_until(lambda: answers(client) == "model", "the champion answers")
        assert client.post("/v1/recommendations", json={"user_id": shop.users[0]}).json()["model_version"] == champion
        # Each of them may write the line after the answer that it is about.
        wait_until(lambda: {"request", "catalogue loaded"} <= set(events(gateway)), "the gateway logged the request")
        wait_until(lambda: "worker ready" in events(torchserve), "the worker logged that it is ready")
        wait_until(lambda: "deployed" in events(following), "the deployer logged the deployment")
        assert following.stop(within_s=WITHIN_S) == 0
        assert status(client) == 200, "the endpoint does not need the deployer to answer"
        with socket.create_connection(
            ("127.0.0.1", home.serving.port)
        ):  # like `client`'s own, a connection that its caller keeps open
            assert gateway.stop(within_s=WITHIN_S) == 0
        torchserve.stop(within_s=2 * WITHIN_S)


def test_it_ends_though_the_exception_is_raised_where_python_drops_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SWALLOWS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        assert busy.stdout.readline() == b"busy\n"
        busy.send_signal(signal.SIGTERM)
        assert busy.wait(PATIENCE_S + WITHIN_S) == 0
