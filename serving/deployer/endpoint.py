"""The endpoint of one machine: gateway and engine as background processes (`recommender serve` and `stop`)."""

import json
import os
import sys
import time
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from recommender.errors import LONGEST_ANSWER, ServingError
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving import config
from serving.blocking_http import DIRECT
from serving.deployed import Deployed
from serving.deployer import restarts, torchserve
from serving.deployer.engines import SERVERS, loading, start_server
from serving.deployer.management import LOOPBACK
from serving.deployer.processes import Running, find, known, last_lines, require_free, start
from serving.deployer.sync import Deployer, NoChampion

NAME = "gateway"
READY_S = 60.0
"""Seconds for the gateway to start and get a real prediction. It takes 2 to 3 s here. A busy machine needs more."""
UP_S = 30.0
"""Seconds for the engine to answer at all. A gateway takes 2 s here to start. A busy machine needs more."""
STOP_S = 20.0
"""Seconds for the gateway to finish requests in flight: more than the 15 s that it gives them itself."""
ANY_HOST = ("0.0.0.0", "::", "")


@dataclass(frozen=True)
class Deployment:
    """A running endpoint of this machine, which leaving its `with` block stops."""

    settings: Settings

    @property
    def url(self) -> str:
        """The gateway's address from this machine."""
        host = self.settings.serving.host
        return f"http://{LOOPBACK if host in ANY_HOST else host}:{self.settings.serving.port}"

    def refresh(self) -> Deployed:
        """Serve what the registry wants now, while requests run, without losing one."""
        return Deployer(self.settings).refresh()

    def follow(self) -> None:
        """Follow the registry until the endpoint is stopped, by a signal to this process or by `stop` from another one.

        TorchServe is started again when it exits by itself.

        Raises:
            ServingError: The gateway exited by itself; names it.
        """
        state = ServingState.of(self.settings)
        gateway, server = known(state.pid_file(NAME)), known(state.pid_file(torchserve.NAME))
        if gateway is None:
            return
        if SERVERS[self.settings.serving.engine] is None:
            Deployer(self.settings).follow([gateway])
        elif server is not None:
            restarts.follow(self.settings, gateway, server)

    def stop(self) -> None:
        """Stop the endpoint."""
        stop(self.settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(settings: Settings) -> Deployment:
    """Start the engine and the gateway for the registry's champion and canary, and wait until a real prediction works.

    Raises:
        ServingError: A port is busy (named), there is no champion, no version loads, or the gateway did not become
            ready. Nothing is left running.
    """
    settings = config.absolute(settings)
    state = ServingState.of(settings)
    if find(state.pid_file(NAME)) is not None:
        raise ServingError(f"the endpoint runs already ({state.pid_file(NAME)}); stop it first: recommender stop")
    if Registry(settings.home).champion() is None:
        raise NoChampion(settings)
    require_free(settings.serving.host, settings.serving.port, "the gateway", "port")
    if settings.serving.health_port is not None:
        require_free(settings.serving.host, settings.serving.health_port, "the gateway's health", "health_port")
    for left_behind in (state.deployed, state.wanted, state.loaded):
        left_behind.unlink(missing_ok=True)
    start_server(settings)
    try:
        # First the gateway, which may be the engine itself.
        gateway = start_gateway(settings)
        _wait_up(settings, gateway)
        Deployer(settings).refresh(with_former=False)
        wait_ready(settings)
    except BaseException:
        stop(settings)
        raise
    return Deployment(settings)


def start_gateway(settings: Settings) -> Running:
    """Start the gateway in the background, where it follows catalogue and deployed versions by itself."""
    # One thread each: the gateway computes nothing that would use more.
    environment = {**os.environ, **config.export(settings), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "serving.gateway"]
    return start(command, name=NAME, state=ServingState.of(settings), environment=environment, folder=Path.cwd())


def _wait_up(settings: Settings, gateway: Running) -> None:
    """Wait until the engine answers, perhaps without any version.

    Raises:
        ServingError: The gateway exited, or time ran out.
    """
    engine, deadline = loading(settings), time.monotonic() + UP_S
    while not engine.is_up():
        if not gateway.alive():
            raise ServingError(f"the gateway exited while it started. {last_lines(ServingState.of(settings), NAME)}")
        if time.monotonic() > deadline:
            where = settings.serving.oip_url if settings.serving.engine == "oip" else "the gateway"
            raise ServingError(f"the engine {settings.serving.engine} does not answer within {UP_S:.0f} s ({where})")
        time.sleep(0.05)  # chosen by hand: the gateway takes seconds to start


def wait_ready(settings: Settings, *, seconds: float = READY_S) -> None:
    """Wait until the gateway reports that the champion answers.

    Raises:
        ServingError: The gateway exited, or time ran out; holds what keeps it from being ready and the end of its log.
    """
    url, state = Deployment(settings).url, ServingState.of(settings)
    deadline, answer = time.monotonic() + seconds, "no answer"
    while time.monotonic() < deadline:
        try:
            # 5 s: by hand, far longer than an idle gateway takes.
            with DIRECT.open(f"{url}/readyz", timeout=5) as ready:
                content = ready.read()
            if json.loads(content)["details"]["answers"] == "model":
                return
            answer = content[:LONGEST_ANSWER].decode()
        except urllib.error.HTTPError as error:
            with error:
                answer = error.read()[:LONGEST_ANSWER].decode(errors="replace")
        except OSError as error:
            answer = str(error)
        if find(state.pid_file(NAME)) is None:
            raise ServingError(f"the gateway exited while it started. {last_lines(state, NAME)}")
        time.sleep(0.1)  # chosen by hand: the gateway takes seconds to start
    raise ServingError(f"the gateway did not become ready within {seconds:.0f} s: {answer}. {last_lines(state, NAME)}")


def stop(settings: Settings) -> bool:
    """Stop the endpoint of this state folder, from whichever shell it was started, and tell whether anything ran.

    The gateway stops first and finishes requests in flight, then TorchServe.
    """
    settings = config.absolute(settings)
    gateway = find(ServingState.of(settings).pid_file(NAME))
    if gateway is not None:
        gateway.stop(patience_s=STOP_S)
    return torchserve.stop_torchserve(settings) or gateway is not None
