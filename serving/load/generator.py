"""Sends requests at a given rate, whatever the endpoint does, and notes every answer.

Open loop: send times are drawn in advance (a Poisson process), and a latency counts from the intended send time. So a
stalled endpoint cannot slow the generator down and thereby hide its own stall ("coordinated omission"). A closed loop
with a fixed number of requests under way finds the capacity.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serving.load.connection import Connection
from serving.load.results import Result, outcome_of

MOST_CONNECTIONS = 800
"""Connections of one run. A request that finds none free waits, and its latency counts. Below the gateway's cap."""
PATIENCE_S = 10.0
"""Seconds after which a request counts as unanswered. Longer than a browser's user would wait."""
LATE_LOOK_S = 0.5
"""Seconds between looks for requests that ran out of patience."""
LONGEST_SLEEP_S = 0.05
MOST_SENT_AT_ONCE = 64
"""Requests that a generator which is behind sends before it reads answers. It must not starve itself."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to send what: prepared requests, sent in turn."""

    host: str
    port: int
    requests: Sequence[bytes]


def post(path: str, body: bytes, *, host: str, token: str | None = None) -> bytes:
    """A prepared POST of a JSON body."""
    authorization = b"" if token is None else b"Authorization: Bearer " + token.encode() + b"\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return b"".join((head.encode(), authorization, b"\r\n", body))


def get(path: str, *, host: str) -> bytes:
    """A prepared GET."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def send_times(rate: float, seconds: float, *, seed: int = 17) -> Iterator[float]:
    """Send times of a Poisson process, in seconds from the start."""
    draw, at_s = random.Random(seed), 0.0
    while (at_s := at_s + draw.expovariate(rate)) < seconds:
        yield at_s


class _Run:
    """Requests under way, free connections, and requests that wait for a connection."""

    def __init__(self, target: Target, result: Result, most_connections: int, patience_s: float) -> None:
        self.target, self.result, self.most, self.patience_s = target, result, most_connections, patience_s
        self.free: deque[Connection] = deque()
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.under_way: dict[Connection, float] = {}
        """Connection -> intended send time of its request."""
        self.open = 0
        self.began_s = time.perf_counter()
        self.closed_loop_until_s: float | None = None
        self._turn = 0
        self._opening: set[asyncio.Task[None]] = set()

    def next_request(self) -> bytes:
        """The next prepared request."""
        self._turn += 1
        return self.target.requests[self._turn % len(self.target.requests)]

    def send(self, intended_s: float, request: bytes) -> None:
        """Send now over a free or a new connection, or let the request wait for one."""
        while self.free:
            connection = self.free.pop()
            if connection.usable:
                self._send_over(connection, intended_s, request)
                return
        if self.open < self.most:
            self.open += 1
            self.result.most_connections = max(self.result.most_connections, self.open)
            task = asyncio.get_running_loop().create_task(self._open(intended_s, request))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.result.waited += 1
            self.waiting.append((intended_s, request))

    async def _open(self, intended_s: float, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.patience_s):
                _, connection = await loop.create_connection(Connection, self.target.host, self.target.port)
        except (OSError, TimeoutError):
            self.open -= 1
            self._note(intended_s, 0, b"")
            return
        self._send_over(connection, intended_s, request)

    def _send_over(self, connection: Connection, intended_s: float, request: bytes) -> None:
        self.under_way[connection] = intended_s
        connection.send(request, self._answered)

    def _answered(self, connection: Connection, status: int, body: bytes) -> None:
        intended_s = self.under_way.pop(connection)
        self._note(intended_s, status, body)
        if self.closed_loop_until_s is not None and time.perf_counter() < self.closed_loop_until_s:
            self.waiting.append((time.perf_counter(), self.next_request()))
        if not connection.usable:
            self.open -= 1
            if self.waiting:
                self.send(*self.waiting.popleft())
        elif self.waiting:
            self._send_over(connection, *self.waiting.popleft())
        else:
            self.free.append(connection)

    def _note(self, intended_s: float, status: int, body: bytes, outcome: str | None = None) -> None:
        now_s = time.perf_counter()
        self.result.note(outcome or outcome_of(status, body), status, now_s - intended_s, now_s - self.began_s, body)

    def hang_up_late(self) -> None:
        """Give up requests that have waited longer than the patience."""
        limit_s = time.perf_counter() - self.patience_s
        for connection, intended_s in [(c, s) for c, s in self.under_way.items() if s < limit_s]:
            del self.under_way[connection]
            self._note(intended_s, 0, b"", "unanswered")
            connection._done = None
            connection.abandon()
            self.open -= 1
        while self.waiting and self.waiting[0][0] < limit_s:
            self._note(self.waiting.popleft()[0], 0, b"", "unanswered")

    async def finish(self) -> None:
        """Wait for what is under way, at most as long as the patience, and close everything."""
        while self.under_way or self.waiting or self._opening:
            self.hang_up_late()
            await asyncio.sleep(0.02)
        for connection in self.free:
            connection.abandon()


async def open_loop(
    target: Target,
    *,
    rate: float,
    seconds: float,
    most_connections: int = MOST_CONNECTIONS,
    patience_s: float = PATIENCE_S,
    seed: int = 17,
) -> Result:
    """Send `rate` requests per second for `seconds`, and return what came of them."""
    result = Result(rate=rate)
    run = _Run(target, result, most_connections, patience_s)
    cpu_s, looked_s = time.process_time(), 0.0
    for number, at_s in enumerate(send_times(rate, seconds, seed=seed)):
        while (left_s := at_s - (time.perf_counter() - run.began_s)) > 0:
            await asyncio.sleep(min(left_s, LONGEST_SLEEP_S))
        result.late_s.append(-left_s)
        if number % MOST_SENT_AT_ONCE == 0:
            await asyncio.sleep(0)
        run.send(run.began_s + at_s, run.next_request())
        if at_s - looked_s > LATE_LOOK_S:
            looked_s = at_s
            run.hang_up_late()
            await asyncio.sleep(0)
    result.seconds = time.perf_counter() - run.began_s
    result.cpu_seconds = time.process_time() - cpu_s
    await run.finish()
    return result


async def closed_loop(
    target: Target, *, concurrency: int, seconds: float, warm_up_s: float = 0.0, patience_s: float = PATIENCE_S
) -> Result:
    """Keep `concurrency` requests under way for `seconds`, after a warm-up that is not counted."""
    if warm_up_s:
        await closed_loop(target, concurrency=concurrency, seconds=warm_up_s, patience_s=patience_s)
    result = Result(rate=None)
    run = _Run(target, result, concurrency, patience_s)
    cpu_s = time.process_time()
    run.closed_loop_until_s = run.began_s + seconds
    for _ in range(concurrency):
        run.send(time.perf_counter(), run.next_request())
    await asyncio.sleep(seconds)
    result.seconds = time.perf_counter() - run.began_s
    result.cpu_seconds = time.process_time() - cpu_s
    await run.finish()
    return result
