"""A rolling restart of two gateways under load, for clients that keep their connections."""

import http.client
import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.decision.rows import Row
from benchmarks.serving_load.loads import PATH, UnderTest
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.deployer.endpoint import start_gateway, wait_ready
from serving.deployer.processes import Running
from serving.deployer.torchserve import free_port

RESTARTS, CLIENTS = 5, 8
LOOK_S, DRAIN_S = 0.2, 1.0
"""Seconds between looks at /readyz, as a Service's endpoints follow it, and from the drain to SIGTERM."""
PAUSE_S = 0.02
"""A client's pause between two requests: the endpoint is loaded and not overloaded."""
JSON = {"Content-Type": "application/json"}


class Balancer:
    """Knows which gateways are ready, and tells clients to which one to connect."""

    def __init__(self, ports: list[int]) -> None:
        self.ports, self.ready = ports, list(ports)
        self._turn = itertools.count()
        self.ended = threading.Event()

    def watch(self) -> None:
        """Follow /readyz of every gateway."""
        while not self.ended.wait(LOOK_S):
            self.ready = [port for port in self.ports if _status(port) == 200] or self.ready

    def choose(self) -> int:
        """The next ready gateway."""
        ready = self.ready
        return ready[next(self._turn) % len(ready)]


def rows(endpoint: UnderTest, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Restart two gateways in turn, five times each, and count the errors of the clients."""
    gateways = [_beside(endpoint, number) for number in range(2)]
    running = {settings.serving.port: start_gateway(settings) for settings in gateways}
    for settings in gateways:
        wait_ready(settings)
    balancer, errors, answers = Balancer(list(running)), [], [0] * CLIENTS
    bodies = endpoint.bodies.splitlines()

    def ask(number: int) -> None:
        connection = None
        for body in itertools.islice(itertools.cycle(bodies), number, None):
            if balancer.ended.wait(PAUSE_S):
                return
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", balancer.choose(), timeout=10)
                connection.request("POST", PATH, body, JSON)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    errors.append(f"status {answer.status}")
                if answer.will_close:
                    connection.close()
                    connection = None
                answers[number] += 1
            except (http.client.HTTPException, OSError) as error:
                errors.append(f"{type(error).__name__}: {error}")
                connection = None

    threads = [threading.Thread(target=balancer.watch)]
    threads += [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    try:
        for thread in threads:
            thread.start()
        for settings in gateways * RESTARTS:
            running[settings.serving.port] = _restarted(settings, running[settings.serving.port])
    finally:
        balancer.ended.set()
        for thread in threads:
            thread.join()
        for gateway in running.values():
            gateway.stop()
    say(f"rolling restart: {len(errors)} errors of {sum(answers)} answers {errors[:3]}")
    facts: dict[str, Any] = {"answers": sum(answers), "first_errors": errors[:5]}
    return [Row.at_most("errors in a rolling restart of two gateways, five times", len(errors), 0, **facts)]


def _restarted(settings: Settings, gateway: Running) -> Running:
    os.kill(gateway.pid, signal.SIGUSR1)
    time.sleep(DRAIN_S)
    gateway.stop()
    new = start_gateway(settings)
    wait_ready(settings)
    time.sleep(2 * LOOK_S)
    return new


def _beside(endpoint: UnderTest, number: int) -> Settings:
    """Settings of one more gateway in front of the endpoint's TorchServe."""
    state = ServingState.of(endpoint.settings).root
    own = state.with_name(f"{state.name}_{number}")
    own.mkdir(parents=True, exist_ok=True)
    shutil.copy(ServingState.of(endpoint.settings).deployed, own)
    ports = {"port": free_port(), "health_port": free_port()}
    return endpoint.settings.updated(serving={**ports, "state": own})


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    except (http.client.HTTPException, OSError):
        return 0
    finally:
        connection.close()
