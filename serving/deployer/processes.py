"""Background processes of `recommender serve`: each leads its own process group and has a pid file."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recommender.errors import ServingError
from recommender.storage.home import ServingState
from recommender.storage.manifest import write_text

PATIENCE_S = 10.0
"""Seconds between SIGTERM and SIGKILL, unless a caller knows better. Chosen by hand."""
STRAGGLERS_S = 2.0
"""Seconds that workers get to end by themselves once their leader has ended. Chosen by hand."""
POLL_S = 0.02
"""Seconds between looks at processes that are about to end. Chosen by hand: nobody notices such a wait."""
LOG_LINES = 15
"""Lines of a process's log that an error message shows. Chosen by hand: an error with its cause."""
_STATE_FIELD, _GROUP_FIELD, _START_FIELD = 0, 2, 19
"""Places in /proc/<pid>/stat behind the command's name: state, process group, start time in clock ticks (proc(5))."""
_LISTENING = "0A"
"""State of a listening socket in /proc/net/tcp (TCP_LISTEN of the kernel)."""


def require_free(host: str, port: int, what: str, key: str) -> None:
    """Check that nothing listens at an address yet.

    Args:
        host: The address.
        port: The port.
        what: What is to listen there, for the message.
        key: The setting of `serving` that chooses the port.

    Raises:
        ServingError: The port is in use; names it and the setting.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServingError(
                f"{what} cannot listen on {host}:{port}: {error.strerror or error}. Stop what uses the port "
                f"(`recommender stop` if it is this endpoint) or choose another: RECOMMENDER__SERVING__{key.upper()}=…"
            ) from None


@dataclass(frozen=True)
class Running:
    """A process group, by its leader."""

    pid: int
    started: int
    """The leader's start time from the kernel, which tells it apart from another process with a reused pid."""
    pid_file: Path

    @property
    def name(self) -> str:
        """What runs: "gateway" or "torchserve"."""
        return self.pid_file.stem

    def alive(self) -> bool:
        """Whether the leader still runs."""
        return _started(self.pid) == self.started

    def listens_on(self, port: int) -> bool:
        """Whether a process of the group listens on a TCP port, rather than another program that came first."""
        sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
        return any(_links(pid) & sockets for pid in _members(self.pid))

    def stop(self, *, patience_s: float = PATIENCE_S) -> None:
        """End the whole group: SIGTERM, and after `patience_s` SIGKILL for what is left."""
        if self.alive():
            _signal(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + patience_s
            while self.alive() and time.monotonic() < deadline:
                _reap(self.pid)
                time.sleep(POLL_S)
        # Workers that outlive their leader stay in its group. The kernel does not reuse a pid while a group has it as
        # its number, so the group cannot be anyone else's.
        deadline = time.monotonic() + STRAGGLERS_S
        while _members(self.pid) and time.monotonic() < deadline and not self.alive():
            time.sleep(POLL_S)
        if _members(self.pid):
            _signal(self.pid, signal.SIGKILL)
        while _members(self.pid):
            _reap(self.pid)
            time.sleep(POLL_S)
        self.forget()

    def forget(self) -> None:
        """Delete the pid file, unless it names another process by now."""
        if known(self.pid_file) == self:
            self.pid_file.unlink(missing_ok=True)

    def ends_within(self, seconds: float) -> bool:
        """Whether the process ends by itself within so many seconds."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def start(
    command: Sequence[str], *, name: str, state: ServingState, environment: Mapping[str, str], folder: Path
) -> Running:
    """Start a process as leader of its own session.

    Its stdout and stderr go to `state.output(name)`, and what the one before it printed is kept as `….out.1`. The
    process itself writes its structured log, to `state.log(name)`.
    """
    output_file, pid_file = state.output(name), state.pid_file(name)
    output_file.parent.mkdir(parents=True, exist_ok=True)
    if output_file.exists() and output_file.stat().st_size:
        # Its lines have no time, so an old error in it would be taken for the reason of a new end.
        output_file.replace(output_file.with_name(f"{output_file.name}.1"))
    with output_file.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # `stop`, perhaps in another process, waits for it; without this, collecting `process` would warn.
    process.returncode = 0
    return _noted(process.pid, pid_file)


def _listeners(port: int) -> set[str]:
    """Inodes of the sockets that listen on a port. Fields of /proc/net/tcp: proc(5)."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text(encoding="ascii").splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _links(pid: int) -> set[str]:
    """What the open files of a process are. None for one that has just ended."""
    found = set()
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found.add(str(link.readlink()))
    except FileNotFoundError:
        return set()
    return found


def note(name: str, state: ServingState) -> Running:
    """Write a pid file for this process."""
    return _noted(os.getpid(), state.pid_file(name))


def _noted(pid: int, pid_file: Path) -> Running:
    running = Running(pid, _started(pid) or 0, pid_file)
    write_text(pid_file, json.dumps({"pid": pid, "started": running.started}))
    return running


def find(pid_file: Path) -> Running | None:
    """The process that a pid file names, if it still runs."""
    running = known(pid_file)
    return running if running is not None and running.alive() else None


def known(pid_file: Path) -> Running | None:
    """The process that a pid file names, even if it ended by itself, or None if it was stopped or never started.

    Raises:
        ServingError: The file does not hold a process; names it.
    """
    try:
        named = json.loads(pid_file.read_text(encoding="utf-8"))
        return Running(int(named["pid"]), int(named["started"]), pid_file)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise ServingError(f"{pid_file}: not a pid file; stop the process by hand and delete the file") from None


def last_lines(state: ServingState, name: str, lines: int = LOG_LINES) -> str:
    """The end of a process's log and of what else it printed, with the files' names, for an error message."""
    files = (state.log(name), state.output(name))
    ends = {file: end for file in files if (end := _tail(file, lines))}
    if not ends:
        return f"{files[0]} is empty"
    return "\n".join(f"{file} ends with:\n{end}" for file, end in ends.items())


def _tail(log: Path, lines: int) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command's name stands in parentheses and may itself hold spaces and parentheses.
    return text.rpartition(")")[2].split()


def _started(pid: int) -> int | None:
    """The start time of a process, or None if it ended, also when nothing has waited for it yet (a zombie)."""
    fields = _stat(pid)
    return None if fields is None or fields[_STATE_FIELD] == "Z" else int(fields[_START_FIELD])


def _members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and fields[_STATE_FIELD] != "Z" and int(fields[_GROUP_FIELD]) == group:
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
