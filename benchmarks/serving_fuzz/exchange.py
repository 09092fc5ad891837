"""One connection: sends an attempt, reads what comes back, and says how it ended."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import httptools

from benchmarks.serving_fuzz.attempts import Attempt

QUIET_S = 0.3
"""After this the rest of an unfinished request is sent, if no answer came."""
ANSWER_S = 15.0
"""An answer must come within this once everything was sent: above the 10 s after which a gateway cuts bodies off."""
PAUSE_S = 0.005
"""Between two pieces."""
REST = (b"\r\n\r\n", *(b"x" * 2**power for power in range(3, 16)), *(b"x" * 65_536 for _ in range(130)))
"""Ends every head, every chunk and every body that the server may still wait for: more than 4 MiB, of which the gateway
reads no more, and more than the 6.5 MB that TorchServe takes. Small parts come first, because what goes beyond an
announced length is a second request, and a wrong one."""
FEW = 4
"""Parts that are sent slowly."""
REST_S = 0.02
"""Between the others."""


@dataclass(frozen=True)
class Reference:
    """What another parser, that of Node.js, reads in some bytes."""

    complete: int
    """Requests that are whole."""
    is_http: bool
    """Whether it found nothing wrong."""


def reference(sent: bytes) -> Reference:
    """Read bytes as requests of HTTP."""
    counter = _Counter()
    parser = httptools.HttpRequestParser(counter)
    try:
        parser.feed_data(sent)
    except httptools.HttpParserUpgrade:
        return Reference(counter.complete + 1, True)
    except httptools.HttpParserError:
        return Reference(counter.complete, False)
    return Reference(counter.complete, True)


class _Counter:
    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        self.complete += 1


@dataclass
class Reply:
    """One answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Exchanged:
    """What came over a connection."""

    replies: list[Reply] = field(default_factory=list)
    ended: str = "open"
    """`closed` or `reset` by the server, or `open`. `unreadable`: what came is no HTTP."""

    @property
    def closes(self) -> bool:
        """Whether an answer said that the connection closes."""
        return any("close" in reply.headers.get("connection", "") for reply in self.replies)


class _Connection(asyncio.Protocol):
    """Collects answers as they arrive: a reset behind an answer does not take it back, as a stream of asyncio would."""

    def __init__(self, answers: int, *, last_is_head: bool) -> None:
        self.found, self.ended = Exchanged(), asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self._answers, self._last_is_head = answers, last_is_head
        self._now = Reply()
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("closed" if exc is None else "reset")

    def data_received(self, data: bytes) -> None:
        if self.ended.is_set():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("unreadable")

    def _end(self, how: str) -> None:
        if not self.ended.is_set():
            self.found.ended = how
            self.ended.set()

    def on_message_begin(self) -> None:
        self._now = Reply()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._now.status = self._parser.get_status_code()
        if self._last_is_head and len(self.found.replies) == self._answers - 1:
            self._note()  # its length is that of a body that does not come

    def on_body(self, body: bytes) -> None:
        self._now.body += body

    def on_message_complete(self) -> None:
        if self._now.status >= 200:
            self._note()

    def _note(self) -> None:
        self.found.replies.append(self._now)
        if len(self.found.replies) >= self._answers or self.found.closes:
            self.ended.set()


async def exchange(port: int, attempt: Attempt) -> Exchanged:
    """Send an attempt to a port of this machine, and read the answers."""
    last_is_head = attempt.content.lstrip(b"\r\n").startswith(b"HEAD ")
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: _Connection(attempt.answers, last_is_head=last_is_head), "127.0.0.1", port
    )
    transport = connection.transport
    assert transport is not None
    try:
        for place, piece in enumerate(attempt.pieces):
            if place:
                await asyncio.sleep(PAUSE_S)
            transport.write(piece)
        if attempt.hangs_up is None:
            await _wait(connection, transport, attempt)
        elif attempt.hangs_up == "reset":
            plain: socket.socket = transport.get_extra_info("socket")
            with suppress(OSError):  # the server closed it already
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        transport.close()
    return connection.found


async def _wait(connection: _Connection, transport: asyncio.Transport, attempt: Attempt) -> None:
    """Wait until all answers are there or the connection ends. Where nothing comes, send the rest of what is due."""
    whole = reference(attempt.sent).complete >= attempt.answers
    waits_s = [ANSWER_S if whole else QUIET_S, *(QUIET_S if place < FEW else REST_S for place in range(len(REST)))]
    for wait_s, part in zip(waits_s, REST, strict=False):
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.ended.wait(), wait_s)
        if connection.ended.is_set():
            return
        transport.write(part)
    with suppress(TimeoutError):
        await asyncio.wait_for(connection.ended.wait(), ANSWER_S)
