"""The event loop's turns, on a real loop of the kind that the gateway runs."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import uvloop

from serving.gateway.turns import Turns

FLOOR_S = 0.0005


class Reader(asyncio.Protocol):
    """Notes when bytes are said to have arrived and when they were read, and makes the loop busy for each of them."""

    def __init__(self, turns: Turns, work: Callable[[], object]) -> None:
        self.turns, self.work = turns, work
        self.arrivals: list[tuple[float, float]] = []
        self.worked_s: list[float] = []
        self.occupancies: list[float] = []
        """The share of time in which the loop was busy, after each work."""

    def data_received(self, data: bytes) -> None:
        self.arrivals.append((self.turns.arrived_s(), time.perf_counter()))
        self.turns.admit()
        asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        began_s = time.perf_counter()
        self.work()
        self.worked_s.append(time.perf_counter() - began_s)
        self.occupancies.append(self.turns.occupancy())


async def read(turns: Turns, work: Callable[[], object], send: Callable[[socket.socket], object]) -> Reader:
    """What was read of the bytes that `send` sends from a thread."""
    ours, theirs = socket.socketpair()
    transport, protocol = await asyncio.get_running_loop().create_connection(lambda: Reader(turns, work), sock=ours)
    await asyncio.get_running_loop().run_in_executor(None, send, theirs)
    await asyncio.sleep(0.05)
    transport.close()
    theirs.close()
    return protocol


def test_bytes_that_waited_for_a_busy_loop_count_from_before_it_was_busy() -> None:
    sent: list[float] = []
    is_busy, go_on = threading.Event(), threading.Event()

    def work() -> None:
        is_busy.set()
        assert go_on.wait(60)

    def send(connection: socket.socket) -> None:
        for _ in range(2):  # the second one comes while the loop is busy with the first
            sent.append(time.perf_counter())
            connection.sendall(b"x")
            assert is_busy.wait(60)
        time.sleep(0.1)
        go_on.set()

    (first, second) = uvloop.run(read(Turns(floor_s=FLOOR_S), work, send)).arrivals
    assert sent[0] <= first[0] <= first[1]
    assert second[1] - sent[1] >= 0.1, "it waited"
    assert second[0] <= sent[1], "the wait is charged to it"


def test_the_loops_time_for_a_request_is_measured_while_it_is_busy() -> None:
    turns = Turns(floor_s=FLOOR_S)

    def send(connection: socket.socket) -> None:
        for _ in range(80):
            connection.sendall(b"x")
            time.sleep(0.004)

    reader = uvloop.run(read(turns, lambda: time.sleep(0.005), send))
    # A turn is longer than the work in it. On a busy machine both are, and so the longest work is the measure.
    assert 0.004 < turns.request_s < 4 * max(reader.worked_s)
    # While it works: on a busy machine the loop may have slept for long before it ended.
    assert max(reader.occupancies) > 0.3
    time.sleep(1.5)
    assert turns.occupancy() < 0.05, "it sleeps now"


def test_an_idle_loop_is_not_busy() -> None:
    turns = Turns(floor_s=FLOOR_S)

    def send(connection: socket.socket) -> None:
        for _ in range(10):
            connection.sendall(b"x")
            time.sleep(0.05)

    reader = uvloop.run(read(turns, lambda: None, send))
    # The bytes come every 50 ms. Now and then, a busy machine takes the processor from the loop in the midst of a turn.
    assert sorted(reader.occupancies)[len(reader.occupancies) // 2] < 0.3
    waits_s = sorted(read_s - arrived_s for arrived_s, read_s in reader.arrivals)
    assert waits_s[len(waits_s) // 2] < 0.01, "sleeping is not waiting"


def test_a_request_never_takes_less_than_the_floor() -> None:
    turns = Turns(floor_s=10.0)
    uvloop.run(read(turns, lambda: None, lambda connection: connection.sendall(b"x")))
    assert turns.request_s == 10.0
