"""Measure the memory of a run: of this process with all its descendants, and of the running step."""

import os
import threading
from types import TracebackType
from typing import Self

import psutil

MIB = 2**20  # bytes
SAMPLE_S = 0.25
"""Seconds between samples. Chosen by hand: shorter peaks are missed, and more samples cost the run CPU time."""


def descendants(pid: int) -> list[psutil.Process]:
    """All living processes below `pid`. None once it has ended."""
    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def proportional_bytes(process: psutil.Process) -> int:
    """Memory of a process, with shared pages counted in proportion. Without kernel support, its resident size."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
    except (psutil.AccessDenied, AttributeError):
        return int(process.memory_info().rss) if process.is_running() else 0


class MemoryWatch:
    """Samples the memory of this process and its descendants while the block runs. All figures are in MiB.

    Attributes:
        runner: parent process of the steps. None while no step runs.
        peak: the highest memory of everything together.
    """

    def __init__(self, *, interval_s: float = SAMPLE_S) -> None:
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-watch", daemon=True)
        self._step_peak = 0.0
        self.runner: int | None = None
        self.peak = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def step_peak(self) -> float:
        """The highest memory of the processes below `runner` since the last call."""
        peak, self._step_peak = self._step_peak, 0.0
        return peak

    def _sample(self) -> None:
        while not self._stop.wait(self._interval_s):
            own = psutil.Process(os.getpid())
            step = {process.pid for process in descendants(self.runner)} if self.runner else set()
            taken = {process.pid: proportional_bytes(process) for process in (own, *descendants(own.pid))}
            self.peak = max(self.peak, sum(taken.values()) / MIB)
            self._step_peak = max(self._step_peak, sum(taken.get(pid, 0) for pid in step) / MIB)
