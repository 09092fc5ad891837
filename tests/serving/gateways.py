"""Gateways without a model server behind them, and raw connections to them."""

import http.client
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from conftest import Endpoint, Shop, serving_settings, with_serving
from servers import free_ports

from recommender.settings import Settings
from recommender.storage.home import Home, ServingState
from serving import config
from serving.deployer.endpoint import Deployment, start_gateway
from serving.deployer.processes import Running
from serving.deployer.processes import find as find_process
from serving.gateway.server import prepare

START_S = 30.0
PATH = "/v1/recommendations"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Gateway:
    """A running gateway, and a client that keeps its connections."""

    settings: Settings
    client: httpx.Client
    process: Running | None = None

    def ask(self, user: str = "1", **headers: str) -> httpx.Response:
        return self.client.post(PATH, json={"user_id": user}, headers=headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.settings.serving.port), timeout=20)

    def send(self, request: bytes) -> "Reply":
        """Send bytes over a new connection, and read until the gateway closes it or the answer is whole."""
        with closing(self.connect()) as connection:
            connection.sendall(request)
            return read_reply(connection)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value, summed over what the labels leave open."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        total = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            key, _, value = line.rpartition(" ")
            if key.partition("{")[0] == name and all(label in key for label in wanted):
                total += float(value)
        return total

    def log(self) -> str:
        return ServingState.of(self.settings).log("gateway").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Reply:
    """An answer as it came over a connection. Status 0: none came."""

    status: int
    head: str
    body: bytes
    closed: bool
    """Whether the gateway closed the connection behind the answer."""

    def json(self) -> Any:
        return json.loads(self.body)


def read_reply(connection: socket.socket) -> Reply:
    """Read one answer, and look for half a second whether the gateway closes the connection unannounced."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65_536)
        if not part:
            return Reply(0, received.decode(), b"", closed=True)
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    while len(body) < length:
        body += connection.recv(65_536)
    # Where it says that it closes the connection, it does, however busy the machine is.
    connection.settimeout(20 if b"connection: close" in head.lower() else 0.5)
    try:
        closed = connection.recv(1) == b""
    except TimeoutError:
        closed = False
    except ConnectionResetError:
        closed = True
    return Reply(int(lines[0].split()[1]), head.decode().lower(), body, closed)


@contextmanager
def gateway(home: Settings, **serving: Any) -> Iterator[Gateway]:
    """Run a gateway of `home` as a process of its own."""
    settings = with_serving(home, serving=serving) if serving else home
    running = start_gateway(settings)
    try:
        with _client(settings) as client:
            yield Gateway(settings, client, find_process(ServingState.of(settings).pid_file("gateway")))
    finally:
        running.stop()


@contextmanager
def gateway_in_a_thread(home: Settings, **serving: Any) -> Iterator[Gateway]:
    """Run a gateway of `home` in this process, so that a test can shorten its patience."""
    settings = with_serving(home, serving=serving) if serving else home
    server, sockets = prepare(settings)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    try:
        with _client(settings) as client:
            yield Gateway(settings, client)
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def beside(endpoint: Endpoint, folder: Path, **serving: Any) -> Iterator[Gateway]:
    """Another gateway in front of the endpoint's TorchServe, with its own state in `folder`."""
    changes = {"inference_port": endpoint.settings.serving.inference_port, "state": folder, **serving}
    settings = with_serving(endpoint.settings, serving=serving_settings(**changes))
    ServingState.of(settings).root.mkdir(parents=True, exist_ok=True)
    for shared in (ServingState.of(endpoint.settings).deployed, ServingState.of(endpoint.settings).wire_key):
        shutil.copy(shared, ServingState.of(settings).root)
    with gateway(settings) as running:
        yield running


@contextmanager
def stopped(endpoint: Endpoint) -> Iterator[None]:
    """Let the endpoint's TorchServe stand still, as one does whose machine swaps."""
    server = find_process(ServingState.of(endpoint.settings).pid_file("torchserve"))
    assert server is not None
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGCONT)


def copied_home(shop: Shop, folder: Path) -> Settings:
    """A copy of the shop's store and catalogue below `folder`, with free ports."""
    folder.mkdir()
    theirs, ours = Home.of(shop.settings), Home(folder)
    shutil.copytree(theirs.feature_store.root, ours.feature_store.root)
    shutil.copytree(theirs.catalogue, ours.catalogue)
    serving = serving_settings(health_port=free_ports(1)[0])
    return config.absolute(with_serving(shop.settings, home=folder, serving=serving))


@contextmanager
def _client(settings: Settings) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=Deployment(settings).url, timeout=20, trust_env=False) as client:
        deadline = time.monotonic() + START_S
        while True:
            try:
                client.get("/healthz")
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the gateway did not start"
                time.sleep(0.05)
        yield client


def clients_until_closed(port: int, number: int, ends: list[object]) -> list[threading.Thread]:
    """Start clients, each of which asks over one connection until the gateway closes it. It never opens a second one.

    How each ended goes to `ends`: the status of its last answer, or the error that came instead of one.
    """

    def ask(user: str) -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            while True:
                client.request("POST", PATH, json.dumps({"user_id": user}), JSON)
                answer = client.getresponse()
                answer.read()
                if answer.status != 200 or answer.headers.get("connection") == "close":
                    ends.append(answer.status)
                    return
        except (http.client.HTTPException, OSError) as error:
            ends.append(error)

    threads = [threading.Thread(target=ask, args=(str(user),)) for user in range(number)]
    for thread in threads:
        thread.start()
    return threads
