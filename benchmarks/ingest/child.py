"""Runs a command as a child process and measures its CPU-seconds and its memory, which may have a limit."""

import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.05
"""A process gains some 100 MiB in this time at most, so a limit is noticed in time. Chosen by hand."""


@dataclass(frozen=True)
class Measured:
    """One child process, from its start to its end."""

    cpu_s: float
    """User and system time, of the child's own children too."""
    wall_s: float
    peak_gib: float
    """Largest resident memory."""

    def __add__(self, other: "Measured") -> "Measured":
        """Two children, one after the other."""
        return Measured(self.cpu_s + other.cpu_s, self.wall_s + other.wall_s, max(self.peak_gib, other.peak_gib))


class ChildFailed(RuntimeError):
    """The child ended with an error, or took more memory than its limit."""


def measure(
    command: Sequence[str],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    limit_gib: float | None = None,
) -> Measured:
    """Run a command in a folder.

    Args:
        command: the program and its arguments.
        folder: the working folder.
        environment: added to this process's own.
        limit_gib: the child is killed when it holds more. `RLIMIT_AS` would count what is only reserved.

    Raises:
        ChildFailed: it ended with an error; holds the end of what it printed.
    """
    began = time.monotonic()
    log = folder / "child.log"
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **(environment or {})}, stdout=output, stderr=subprocess.STDOUT
        )
        watcher = _Watcher(child.pid, limit_gib)
        watcher.start()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        watcher.ended.set()
        watcher.join()
    if child.returncode:
        last = log.read_text(encoding="utf-8")[-2000:]
        reason = f"more than {limit_gib} GiB" if watcher.killed else f"exit code {child.returncode}"
        raise ChildFailed(f"{' '.join(command)}: {reason}\n{last}")
    # The kernel's own peak (KiB) has what rises after the watcher's last look. It also counts this process, of which
    # the child was a copy until it began its program, so it says nothing where this process is as large.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = used.ru_maxrss / 2**20 if used.ru_maxrss > own else watcher.peak_gib
    return Measured(used.ru_utime + used.ru_stime, time.monotonic() - began, peak)


class _Watcher(threading.Thread):
    """Notes the peak of a process's memory, and kills one that holds more than allowed."""

    def __init__(self, pid: int, limit_gib: float | None) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.killed = False
        self.peak_gib = 0.0
        self._pid, self._limit = pid, limit_gib

    def run(self) -> None:
        while not self.ended.wait(POLL_S):
            self.peak_gib = max(self.peak_gib, memory_gib(self._pid, "VmHWM:"))
            if self._limit is not None and memory_gib(self._pid, "VmRSS:") > self._limit:
                self.killed = True
                os.kill(self._pid, 9)
                return


def memory_gib(pid: int, name: str) -> float:
    """A line of a process's status in GiB: `VmRSS:`, its memory now, or `VmHWM:`, its peak. 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # it ended in this moment
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith(name)), 0.0)
