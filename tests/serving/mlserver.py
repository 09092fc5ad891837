"""A real MLServer over a folder of models, in the environment that `make .venv-mlserver/.installed` makes."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from servers import free_ports

from recommender.settings import Settings
from serving import config

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-mlserver"
START_S = 120.0
"""It takes 5 s on an idle machine, and the models that it finds in its folder as long again."""


@dataclass
class MlServer:
    """A running MLServer."""

    settings: Settings
    port: int
    folder: Path
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def start(self) -> None:
        self.process = _start(self.settings, self.folder, self.log)
        self.wait_up()

    def wait_up(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/v2/health/ready", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            said = self.log.read_text(errors="replace")[-3000:]
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)


@contextmanager
def mlserver(settings: Settings, folder: Path) -> Iterator[MlServer]:
    """Run an MLServer for these settings, which name its port and the folder of its models."""
    subprocess.run(["make", "--silent", ".venv-mlserver/.installed"], cwd=ROOT, check=True)
    models = settings.serving.oip_repository
    assert models is not None
    assert settings.serving.oip_url is not None
    models.mkdir(parents=True)
    port = int(settings.serving.oip_url.rpartition(":")[2])
    grpc_port, metrics_port = free_ports(2)
    chosen = {"http_port": port, "grpc_port": grpc_port, "metrics_port": metrics_port, "host": "127.0.0.1"}
    # One process: the model runs where the requests arrive.
    (models / "settings.json").write_text(json.dumps({**chosen, "parallel_workers": 0, "debug": False}))
    log = folder / "mlserver.log"
    server = MlServer(settings, port, models, _start(settings, models, log), log)
    try:
        server.wait_up()
        yield server
    finally:
        server.kill()


def _start(settings: Settings, models: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **config.export(settings), "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(ENVIRONMENT / "bin" / "mlserver"), "start", str(models)],
            cwd=models,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
