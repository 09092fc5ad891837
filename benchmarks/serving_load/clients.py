"""Clients that mean harm: an endless header, and connections that never send a request. Do others notice?"""

import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress

from benchmarks.decision.rows import Row
from benchmarks.serving_load.loads import UnderTest, latencies_ms, p99

RATE, TURNS = 0.3, 5
"""Rate of the other clients as a share of the capacity, and pairs of turns, without and with the harm."""
HALF_OPEN = 1_100
ENDLESS_BYTES, PART_BYTES = 64 * 2**20, 2**20
PAUSE_S = 0.5
"""Seconds between two endless headers, and between two looks for half-open connections that were closed."""
MOST = 1.2
Harm = Callable[[int], AbstractContextManager[None]]
"""Does harm to the gateway of a port for as long as its block lasts."""


def rows(endpoint: UnderTest, seconds: float, say: Callable[[str], None]) -> list[Row]:
    """Measure the p99 of other clients in turns without and with the harm."""
    rate = RATE * endpoint.capacity(5.0)
    found = []
    for name, harm in (("an endless header of 64 MiB", endless), (f"{HALF_OPEN:,} half-open connections", half_open)):
        without: list[float] = []
        during: list[float] = []
        errors = 0
        for _ in range(TURNS):
            turns: tuple[tuple[list[float], Harm | None], ...] = ((without, None), (during, harm))
            for figures, block in turns:
                with ExitStack() as stack:
                    if block is not None:
                        stack.enter_context(block(endpoint.settings.serving.port))
                    load = endpoint.load("--rate", str(rate), "--seconds", str(max(2.0, seconds / TURNS / 2)))
                figures.append(p99(latencies_ms(load, "model", "popular")))
                errors += sum(
                    len(load["latencies_s"][outcome]) for outcome in ("lost", "error", "unanswered", "refused")
                )
        ratio = statistics.median(during) / statistics.median(without)
        say(f"{name}: p99 {statistics.median(without):.1f} ms without, {statistics.median(during):.1f} ms with")
        facts = {"p99_ms_without": without, "p99_ms_with": during, "rate": round(rate, 1), "errors": errors}
        found.append(Row.at_most(f"p99 of other clients during {name}, ratio", round(ratio, 3), MOST, **facts))
        found.append(Row.at_most(f"errors of other clients during {name}", errors, 0))
    return found


@contextmanager
def endless(port: int) -> Iterator[None]:
    """Send one endless header after the other."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(PAUSE_S):
            with closing(socket.create_connection(("127.0.0.1", port))) as connection, suppress(OSError):
                connection.sendall(b"POST /v1/recommendations HTTP/1.1\r\nHost: x\r\nX-Endless: ")
                for _ in range(ENDLESS_BYTES // PART_BYTES):
                    connection.sendall(b"x" * PART_BYTES)

    with _in_a_thread(send, ended):
        yield


@contextmanager
def half_open(port: int) -> Iterator[None]:
    """Keep many connections that have sent half a head. One that the gateway closes is opened again."""
    ended = threading.Event()
    connections = [_half_open(port) for _ in range(HALF_OPEN)]

    def keep() -> None:
        while not ended.wait(PAUSE_S):
            for place, connection in enumerate(connections):
                with suppress(BlockingIOError):
                    try:
                        closed = connection.recv(1) == b""
                    except ConnectionResetError:
                        closed = True
                    if closed:
                        connection.close()
                        connections[place] = _half_open(port)

    with _in_a_thread(keep, ended):
        yield
    for connection in connections:
        connection.close()


def _half_open(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"POST /v1/recommendations HTTP/1.1\r\nHost: x\r\nX-Half")
    connection.setblocking(False)
    return connection


@contextmanager
def _in_a_thread(work: Callable[[], None], ended: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(PAUSE_S)
    try:
        yield
    finally:
        ended.set()
        thread.join()
