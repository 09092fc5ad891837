"""The worker processes of one version: who gets the next request, and who takes the place of a worker that ended.

Requests that a dying worker was working on fail, and are never given to another one: one of them may be what killed
the worker. Requests that only waited behind them go to the others.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

from recommender import logs
from recommender.settings import Settings
from serving.engines.batches import Asked, Batch, Pace
from serving.engines.contract import EngineError, Reply
from serving.engines.in_process import frames

log = logs.get(__name__)
DEPTH = 2
"""Requests given to a worker at once: one that it works on, and one that it finds without waiting for the gateway."""
HUNG_S = 2.0
"""A worker whose caller has left is replaced after so long with one request: no request takes a tenth of it, and a
replacement costs seconds of CPU time. By hand."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
"""Pause before a worker is started again, doubled with each end in a row, so that a version that always ends soon takes
little of the machine. The first replacement comes at once. By hand."""
STEADY_S = 30.0
"""A worker that was ready for so long ended for a reason of its own. By hand, far above the longest pause."""


class Worker(asyncio.Protocol):
    """One worker process and the requests given to it, the oldest first."""

    def __init__(self, pool: "Pool", slot: int) -> None:
        self._pool, self.slot = pool, slot
        self.given: deque[Batch] = deque()
        self.ready_s: float | None = None
        """When it said that it is ready."""
        self.problem = ""
        self._answers = frames.Answers()
        self._transport: asyncio.Transport | None = None
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "serving.engines.in_process.worker",
                    str(theirs.fileno()),
                    str(slot),
                    pool.version,
                    str(pool.bundle),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # One thread each: more load is served by more workers.
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )
        self._connecting = asyncio.get_running_loop().create_task(self._connect(ours))

    async def _connect(self, ours: socket.socket) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the settings."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass
        self._transport.write(frames.request(self._pool.settings.model_dump_json().encode()))

    def data_received(self, data: bytes) -> None:
        """Hand the answers that are whole to those who wait for them."""
        arrived_s = self._pool.arrived_s()
        for status, body in self._answers.feed(data):
            if self.ready_s is None:
                self._said_hello(status, body)
                continue
            batch = self.given.popleft()
            if self.given:
                self.given[0].began_s = time.perf_counter()
            self._pool.pace.measured(arrived_s - batch.began_s, len(batch.asked))
            batch.deliver(Reply(status, body, arrived_s))
        self._pool.dispatch()

    def connection_lost(self, error: Exception | None) -> None:
        """The process ended: asyncio says so when its end of the sockets closes."""
        self._pool.ended(self)

    def give(self, batch: Batch) -> None:
        """Send requests to the worker."""
        assert self._transport is not None
        if not self.given:
            batch.began_s = time.perf_counter()
        self.given.append(batch)
        self._transport.write(frames.request(batch.body))

    def hangs(self) -> bool:
        """Whether it has been busy for too long with a request for which nobody waits any more."""
        if not self.given:
            return False
        first = self.given[0]
        return first.is_given_up and time.perf_counter() - first.began_s > HUNG_S

    def close(self) -> None:
        """Let the process end once it has answered what it has."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._connecting.cancel()
            self.process.kill()

    def _said_hello(self, status: int, body: bytes) -> None:
        if status == 200:
            self.ready_s = time.monotonic()
        else:
            self.problem = body.decode(errors="replace")


class Pool:
    """All workers of one version."""

    def __init__(self, version: str, bundle: Path, settings: Settings, arrived_s: Callable[[], float]) -> None:
        self.version, self.bundle, self.settings, self.arrived_s = version, bundle, settings, arrived_s
        self.problem = ""
        """Why the version could not be loaded at all, or why its last worker ended."""
        self.failed = False
        """Whether a worker ended before any was ready: then the version cannot be loaded."""
        self._was_ready = self._closed = self._scheduled = False
        self._ends_in_a_row = 0
        self._waiting: deque[Asked] = deque()
        self._ended: list[subprocess.Popen[bytes]] = []
        self.size = settings.serving.num_workers
        self.pace = Pace(self.size * DEPTH)
        self.workers = [Worker(self, slot) for slot in range(self.size)]

    @property
    def num_ready(self) -> int:
        """Workers that can answer."""
        return sum(worker.ready_s is not None for worker in self.workers)

    async def score(self, body: bytes) -> Reply:
        """The answer of one of the workers.

        Raises:
            EngineError: No worker is ready, or the one that had the request ended.
        """
        if not self.num_ready:
            raise EngineError(f"{self.version}: no worker is ready. {self.problem}".rstrip())
        asked = Asked(body)
        self._waiting.append(asked)
        if not self._scheduled:
            # After what else the event loop has to do now: requests that arrived at once leave at once.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.dispatch)
        return await asked.answer

    def dispatch(self) -> None:
        """Give waiting requests to the workers that have the least to do."""
        self._scheduled = False
        while self._waiting:
            free = [worker for worker in self.workers if worker.ready_s is not None and len(worker.given) < DEPTH]
            bodies = self.pace.most_under_way - sum(len(worker.given) for worker in self.workers)
            if not free or bodies <= 0 or (batch := Batch.of(self._waiting, min(bodies, len(free)))) is None:
                return
            min(free, key=lambda worker: len(worker.given)).give(batch)

    def look(self) -> None:
        """Replace workers that hang, and collect processes that ended."""
        for worker in self.workers:
            self._was_ready = self._was_ready or worker.ready_s is not None
            if worker.hangs():
                log.warning("worker hangs", model_version=self.version, slot=worker.slot)
                worker.process.kill()
        self._ended = [process for process in self._ended if process.poll() is None]

    def reap(self, patience_s: float) -> None:
        """Wait for the processes of a closed pool, and end those that take longer."""
        deadline = time.monotonic() + patience_s
        for process in (*self._ended, *(worker.process for worker in self.workers)):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ended(self, worker: Worker) -> None:
        """Take note of a worker that ended, and start another one in its place."""
        self._was_ready = self._was_ready or worker.ready_s is not None
        self._ended.append(worker.process)
        if self._closed:
            return
        self.workers.remove(worker)
        self.problem = worker.problem or "a worker ended"
        if worker.given:
            worker.given.popleft().fail(f"{self.version}: {self.problem} while it had the request")
        self._waiting.extendleft(asked for batch in reversed(worker.given) for asked in reversed(batch.asked))
        log.warning("worker ended", model_version=self.version, slot=worker.slot, problem=self.problem)
        if not self._was_ready:
            self.failed = True
            self.close()
            return
        steady = worker.ready_s is not None and time.monotonic() - worker.ready_s > STEADY_S
        self._ends_in_a_row = 1 if steady else self._ends_in_a_row + 1
        doubled = FIRST_PAUSE_S * 2.0 ** min(self._ends_in_a_row - 2, 20)  # 2^20 is beyond the longest pause
        pause_s = 0.0 if self._ends_in_a_row == 1 else min(doubled, LONGEST_PAUSE_S)
        asyncio.get_running_loop().call_later(pause_s, self._start, worker.slot)
        if self.num_ready:
            self.dispatch()
        else:
            self._fail_waiting()

    def close(self) -> None:
        """Let all workers end once they have answered what they have, and fail what waits for them."""
        self._closed = True
        self._fail_waiting()
        for worker in self.workers:
            worker.close()

    def _start(self, slot: int) -> None:
        if not self._closed:
            self.workers.append(Worker(self, slot))

    def _fail_waiting(self) -> None:
        while self._waiting:
            asked = self._waiting.popleft()
            if not asked.answer.done():
                asked.answer.set_exception(EngineError(f"{self.version}: no worker is left. {self.problem}"))
