"""The event loop's turns, on a real loop of the kind that the gateway runs."""

import asyncio
import socket
import time
from collections.abc import Callable

import uvloop

from serving.gateway.turns import Turns

FLOOR_S = 0.0005


class Reader(asyncio.Protocol):
    """Notes when bytes are said to have arrived, and makes the loop busy for each of them."""

    def __init__(self, turns: Turns, work_s: float) -> None:
        self.turns, self.work_s, self.arrivals = turns, work_s, []  # type: ignore[var-annotated]

    def data_received(self, data: bytes) -> None:
        self.arrivals.append((self.turns.arrived_s(), time.perf_counter()))
        self.turns.admit()
        asyncio.get_running_loop().call_soon(time.sleep, self.work_s)


async def read(turns: Turns, work_s: float, send: Callable[[socket.socket], object]) -> Reader:
    ours, theirs = socket.socketpair()
    transport, protocol = await asyncio.get_running_loop().create_connection(lambda: Reader(turns, work_s), sock=ours)
    sending = asyncio.get_running_loop().run_in_executor(None, send, theirs)
    await sending
    await asyncio.sleep(3 * work_s)
    transport.close()
    theirs.close()
    return protocol


def test_bytes_that_waited_for_a_busy_loop_count_from_before_it_was_busy() -> None:
    sent: list[float] = []

    def send(connection: socket.socket) -> None:
        for _ in range(2):  # the second one comes while the loop is busy with the first
            sent.append(time.perf_counter())
            connection.sendall(b"x")
            time.sleep(0.05)

    (first, second) = uvloop.run(read(Turns(floor_s=FLOOR_S), 0.2, send)).arrivals
    assert sent[0] <= first[0] <= first[1]
    assert second[1] - sent[1] > 0.1, "it waited"
    assert second[0] <= sent[1], "the wait is charged to it"


def test_the_loops_time_for_a_request_is_measured_while_it_is_busy() -> None:
    turns = Turns(floor_s=FLOOR_S)

    def send(connection: socket.socket) -> None:
        for _ in range(80):
            connection.sendall(b"x")
            time.sleep(0.004)

    uvloop.run(read(turns, 0.005, send))
    assert 0.004 < turns.request_s < 0.02
    assert turns.occupancy() > 0.3
    time.sleep(1.5)
    assert turns.occupancy() < 0.05, "it sleeps now"


def test_an_idle_loop_is_not_busy_and_never_below_the_floor() -> None:
    turns = Turns(floor_s=FLOOR_S)

    def send(connection: socket.socket) -> None:
        for _ in range(10):
            connection.sendall(b"x")
            time.sleep(0.05)

    reader = uvloop.run(read(turns, 0.0, send))
    assert turns.request_s == FLOOR_S
    assert turns.occupancy() < 0.3
    assert all(read_s - arrived_s < 0.04 for arrived_s, read_s in reader.arrivals), "sleeping is not waiting"
