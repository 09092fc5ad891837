"""Processes that serving starts: each leads a group of its own, has a pid file, and leaves nothing behind when it is stopped."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recommender.errors import ServingError
from recommender.storage.manifest import write_text


def require_free(host: str, port: int, what: str, key: str) -> None:
    """Raise a ServingError that names the port if something listens there already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServingError(
                f"{what} cannot listen on {host}:{port}: {error.strerror or error}. Stop what uses the port "
                f"(`recommender stop` if it is ours) or choose another: RECOMMENDER__SERVING__{key.upper()}=…"
            ) from None


@dataclass(frozen=True)
class Running:
    """A process group by its leader. `started`: the kernel's start time, so that a reused pid is never ours."""

    pid: int
    started: int
    pid_file: Path

    def alive(self) -> bool:
        return _started(self.pid) == self.started

    def stop(self, *, patience_s: float = 10.0) -> None:
        """End the whole group: SIGTERM, and SIGKILL for what is left after `patience_s`."""
        if self.alive():
            _signal(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + patience_s
            while self.alive() and time.monotonic() < deadline:
                _reap(self.pid)
                time.sleep(0.02)
        # A worker that outlived its leader is still in the group; a group of this number without it is no one else's:
        # the kernel does not reuse a pid while it names a group.
        deadline = time.monotonic() + 2
        while _members(self.pid) and time.monotonic() < deadline and not self.alive():
            time.sleep(0.02)
        _signal(self.pid, signal.SIGKILL) if _members(self.pid) else None
        while _members(self.pid):
            _reap(self.pid)
            time.sleep(0.02)
        self.pid_file.unlink(missing_ok=True)


def start(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path, pid_file: Path, folder: Path
) -> Running:
    """Start a process as leader of its own session, its output appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process.returncode = 0  # its exit is read by `stop`, in whichever process that happens; no warning at collection
    started = _started(process.pid)
    write_text(pid_file, json.dumps({"pid": process.pid, "started": started}))
    return Running(process.pid, started or 0, pid_file)


def find(pid_file: Path) -> Running | None:
    """The process that a pid file names, if it still runs."""
    running = known(pid_file)
    return running if running is not None and running.alive() else None


def known(pid_file: Path) -> Running | None:
    """The process that a pid file names, whether it runs or ended by itself; None: it was stopped, or never started."""
    try:
        named = json.loads(pid_file.read_text(encoding="utf-8"))
        return Running(int(named["pid"]), int(named["started"]), pid_file)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise ServingError(f"{pid_file}: not a pid file; find the process yourself and delete the file") from None


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return f"({log} is empty)"


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _started(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def _members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and fields[0] != "Z" and int(fields[2]) == group:
                found.append(int(entry.name))
    return found


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
