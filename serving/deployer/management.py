"""Client of one TorchServe: registers, probes and unregisters versions through its management and inference APIs."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from recommender.errors import ServingError
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.archive import CANNOT_LOAD, MODEL_NAME
from serving.blocking_http import call, described
from serving.deployer.processes import LOG_LINES, Running, last_lines

LOOPBACK = "127.0.0.1"
READY_S = 90.0
"""Seconds for Java to start or a worker to load. Both took 2 to 5 s on two cores. A busy machine needs more."""
CALL_S = 30.0
"""Seconds for one call. As long as TorchServe itself takes to give up on a worker (`RESPONSE_S`)."""
RESPONSE_S = 30
"""Seconds after which TorchServe takes a worker for dead. The gateway's deadline ends a request long before."""
STARTS = 2
"""Starts of each worker before its version is taken for one that cannot be loaded: the first one, and another one in
case that something outside the version ended it."""
POLL_S = 0.05
"""Seconds between looks while Java starts or a worker loads, which takes seconds. Chosen by hand."""
UNREGISTER_ATTEMPTS, UNREGISTER_PAUSE_S = 5, 0.3
"""Repeated calls with growing pauses, 3 s in all. Enough for a worker that does not end at once. Chosen by hand."""
_SEARCHED_LINES = 500
"""Lines of a worker's log in which its reason is looked for: a failed start writes some twenty."""
_TRACEBACK_LINES = 25
"""Lines shown of a worker's log: its traceback has about twenty."""


@dataclass(frozen=True)
class TorchServe:
    """One running TorchServe, by its addresses."""

    settings: Settings

    @property
    def model_store(self) -> Path:
        """The folder from which TorchServe loads archives."""
        return ServingState.of(self.settings).model_store

    @property
    def inference_port(self) -> int:
        """The port of predictions and /ping."""
        return self.settings.serving.inference_port

    def is_up(self) -> bool:
        """Whether Java answers. It may do so without any model (see `wait_ready`)."""
        try:
            return self._call("GET", "/ping", port=self.inference_port)[0] == 200
        except ServingError:
            return False

    def wait_up(self, running: Running | None = None, *, seconds: float = READY_S) -> None:
        """Wait until Java answers: the one that was started, not that of another home that took the port first.

        Raises:
            ServingError: It exited, or did not answer in time; holds the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not self.is_up() or not (running is None or running.listens_on(self.inference_port)):
            if running is not None and not running.alive():
                raise ServingError(f"TorchServe exited while it started. {self._last_lines()}")
            if time.monotonic() > deadline:
                raise ServingError(f"TorchServe did not answer within {seconds:.0f} s. {self._last_lines()}")
            time.sleep(POLL_S)

    def versions(self, name: str = MODEL_NAME) -> dict[str, list[str]]:
        """Registered versions of a model, each with the states of its workers: READY or, for any other, UNLOADING."""
        return {
            version: [worker["status"] for worker in workers] for version, workers in self._all_workers(name).items()
        }

    def worker_pids(self, version: str, name: str = MODEL_NAME) -> list[int]:
        """Processes of a version's workers that are READY."""
        status, body = self._call("GET", f"/models/{name}/{version}")
        workers = json.loads(body)[0].get("workers", ()) if status == 200 else ()
        return [int(worker["pid"]) for worker in workers if worker["status"] == "READY"]

    def register(self, archive: str, *, name: str = MODEL_NAME) -> None:
        """Begin to load an archive of the model store, without waiting: a synchronous call would stall inference.

        Raises:
            ServingError: TorchServe refuses the archive; holds its answer.
        """
        options = {
            "url": archive,
            "model_name": name,
            "initial_workers": self.settings.serving.num_workers,
            "synchronous": "false",
            "batch_size": 1,
            "response_timeout": RESPONSE_S,
            "startup_timeout": int(READY_S),
        }
        status, body = self._call("POST", f"/models?{urlencode(options)}")
        if status not in (200, 202):
            raise ServingError(f"TorchServe refuses {archive}: {described(status, body)}")

    def wait_ready(self, version: str, *, name: str = MODEL_NAME, seconds: float = READY_S) -> None:
        """Wait until every worker of a version is READY.

        Raises:
            ServingError: A worker failed to load, or time ran out; holds the end of the workers' log.
        """
        wanted, deadline = self.settings.serving.num_workers, time.monotonic() + seconds
        started: set[int] = set()
        while True:
            workers = self._all_workers(name).get(version, [])
            states = [str(worker["status"]) for worker in workers]
            if states.count("READY") >= wanted:
                return
            # TorchServe starts a worker that fails again and again, and does not say that it failed.
            started |= {int(worker["pid"]) for worker in workers if int(worker.get("pid", -1)) > 0}
            if time.monotonic() > deadline or len(started) > STARTS * wanted:
                if (problem := self._problem(version)) is not None:
                    raise ServingError(f"{name} {version} cannot be loaded: {problem}")
                raise ServingError(
                    f"{name} {version}: workers are {states}, not READY. {self._last_lines(_TRACEBACK_LINES)}"
                )
            time.sleep(POLL_S)

    def set_default(self, version: str, *, name: str = MODEL_NAME) -> None:
        """Let `/predictions/<name>` answer from `version`.

        Raises:
            ServingError: The version has no READY worker. TorchServe would accept it and then fail every request.
        """
        states = self.versions(name).get(version, [])
        if "READY" not in states:
            raise ServingError(f"{name} {version} has no READY worker ({states}); the default stays as it is")
        status, body = self._call("PUT", f"/models/{name}/{version}/set-default")
        if status != 200:
            raise ServingError(f"{name} {version} cannot be the default: {described(status, body)}")

    def unregister(self, version: str, *, name: str = MODEL_NAME) -> None:
        """Unload a version.

        The default version cannot be unloaded before another one is made the default. TorchServe answers 500 and keeps
        the version when a worker does not end at once, so the call is repeated.

        Raises:
            ServingError: TorchServe keeps the version; holds its answer.
        """
        for attempt in range(UNREGISTER_ATTEMPTS):
            time.sleep(attempt * UNREGISTER_PAUSE_S)
            status, body = self._call("DELETE", f"/models/{name}/{version}")
            if status in (200, 404):
                return
            if status != 500:
                break
        raise ServingError(f"{name} {version} cannot be unregistered: {described(status, body)}")

    def predict(self, request: Mapping[str, Any], version: str, *, name: str = MODEL_NAME) -> dict[str, Any]:
        """One prediction of one version.

        Raises:
            ServingError: The answer is not 200; holds it.
        """
        path = f"/predictions/{name}/{version}"
        status, body = self._call("POST", path, port=self.inference_port, content=json.dumps(request).encode())
        if status != 200:
            raise ServingError(f"{name} {version} answers {described(status, body)}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _all_workers(self, name: str) -> dict[str, list[dict[str, Any]]]:
        status, body = self._call("GET", f"/models/{name}/all")
        if status == 404:
            return {}
        return {str(one["modelVersion"]): list(one.get("workers", ())) for one in json.loads(body)}

    def _problem(self, version: str) -> str | None:
        """What a worker's log says of a version that cannot be loaded."""
        for line in reversed(last_lines(ServingState.of(self.settings), "torchserve", _SEARCHED_LINES).splitlines()):
            if CANNOT_LOAD in line and version in line:
                try:
                    return str(json.loads(line)["problem"])
                except (ValueError, KeyError, TypeError):
                    return None
        return None

    def _last_lines(self, lines: int = LOG_LINES) -> str:
        return last_lines(ServingState.of(self.settings), "torchserve", lines)

    def _call(
        self, method: str, path: str, *, port: int | None = None, content: bytes | None = None
    ) -> tuple[int, bytes]:
        url = f"http://{LOOPBACK}:{port or self.settings.serving.management_port}{path}"
        return call(method, url, content, seconds=CALL_S)
