"""The containers of k8s/base/serving.yaml as local processes.

Where the machine allows it, each is the init of a pid namespace. The kernel treats an init in a special way: a signal
for which it has no handler does nothing.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from recommender.settings import Settings

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "k8s" / "base" / "serving.yaml"


@dataclass(frozen=True)
class Container:
    """A container's process. `pid` is the init. `launcher` is the process that started it, or the init itself."""

    name: str
    pid: int
    launcher: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def catches_sigterm(self) -> bool:
        """Whether the process has a handler for SIGTERM by now."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def stop(self, *, within_s: float) -> int:
        """Send SIGTERM as a kubelet does, and return the exit code. Fail if it still runs after `within_s`."""
        # For machines that allow no pid namespace: there the signal would end a process without a handler, too.
        assert self.catches_sigterm(), f"{self.name} has no handler for SIGTERM, so a container's init would ignore it"
        os.kill(self.pid, signal.SIGTERM)
        try:
            return self.launcher.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} still runs {within_s} s after SIGTERM; it said:\n{self.said()}"
            ) from None


@dataclass
class Pod:
    """One replica, with settings, state and secrets in `folder`. Leaving its block kills what still runs."""

    folder: Path
    settings: Settings
    python: str = sys.executable
    token: str = ""
    containers: list[Container] = field(default_factory=list)
    tmp: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pod-")))
    """Short, as a container's /tmp is: TorchServe's worker sockets lie in it, and a socket's path holds 107 bytes."""

    def __post_init__(self) -> None:
        for name in ("settings", "state", "secrets"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "judgement.toml", self.folder)
        chosen, as_of = self.settings.serving, self.settings.time.as_of
        ports = ("port", "inference_port", "management_port", "metrics_port", "deadline_ms", "store_deadline_ms")
        lines = [f'home = "{self.settings.home}"']
        lines += ["[time]", f"as_of = {as_of.isoformat()}"] if as_of is not None else []
        lines += ["[serving]", *(f"{key} = {getattr(chosen, key)}" for key in ports)]
        (self.folder / "settings" / "recommender.toml").write_text("\n".join(lines))
        if self.token:
            (self.folder / "secrets" / "token").write_text(self.token)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def start(self, name: str) -> Container:
        """Start a container with the manifest's command and environment."""
        (spec,) = (one for one in _containers() if one["name"] == name)
        mounts = {
            "/etc/recommender": self.folder / "settings",
            "/run/recommender": self.state,
            "/run/secrets/recommender": self.folder / "secrets",
            "/tmp": self.tmp,
        }
        environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        for variable in spec["env"]:
            mount = max((one for one in mounts if variable["value"].startswith(one)), key=len)
            environment[variable["name"]] = variable["value"].replace(mount, str(mounts[mount]), 1)
        command = [self.python if word == "python" else word for word in spec["command"]]
        log = self.folder / f"{name}-{len(self.containers)}.log"
        with log.open("wb") as output:
            launcher = subprocess.Popen(
                [*_as_init(), *command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        container = Container(name, _init_of(launcher) if _as_init() else launcher.pid, launcher, log)
        self.containers.append(container)
        return container

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for container in self.containers:
            if container.launcher.poll() is None:
                os.killpg(container.launcher.pid, signal.SIGKILL)
                container.launcher.wait()
        shutil.rmtree(self.tmp, ignore_errors=True)


def wait_until(true: Callable[[], bool], what: str, *, seconds: float = 180.0) -> None:
    """Wait until `true()`, and fail with `what` when it does not become true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


@cache
def _containers() -> tuple[dict[str, Any], ...]:
    documents = yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))
    (deployment,) = (one for one in documents if one["kind"] == "Deployment")
    return tuple(deployment["spec"]["template"]["spec"]["containers"])


@cache
def _as_init() -> tuple[str, ...]:
    """Words that make a command the init of a pid namespace. Empty where the machine does not allow that."""
    for user in ((), ("--user", "--map-root-user")):
        prefix = ("unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc")
        if (
            shutil.which("unshare")
            and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
        ):
            return prefix
    return ()


def _init_of(launcher: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    wait_until(lambda: bool(children.read_text().split()), "unshare starts its command", seconds=10)
    return int(children.read_text().split()[0])
