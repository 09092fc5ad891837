"""One connection: sends an attempt, reads what comes back, and says how it ended."""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field

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


class _Parser:
    """Collects answers; httptools calls it."""

    def __init__(self, found: Exchanged, *, without_bodies: bool) -> None:
        self._found, self._without_bodies = found, without_bodies
        self._now = Reply()
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._now = Reply()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._now.status = self._parser.get_status_code()
        if self._without_bodies:
            self._found.replies.append(self._now)

    def on_body(self, body: bytes) -> None:
        self._now.body += body

    def on_message_complete(self) -> None:
        if not self._without_bodies and self._now.status >= 200:
            self._found.replies.append(self._now)


async def exchange(port: int, attempt: Attempt) -> Exchanged:
    """Send an attempt to a port of this machine, and read the answers."""
    found = Exchanged()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(ConnectionError):  # the server may refuse before it has read everything
            for place, piece in enumerate(attempt.pieces):
                if place:
                    await asyncio.sleep(PAUSE_S)
                writer.write(piece)
                await writer.drain()
        if attempt.hangs_up is None:
            await _read(reader, writer, attempt, found)
        elif attempt.hangs_up == "reset":
            plain: socket.socket = writer.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return found


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, attempt: Attempt, found: Exchanged) -> None:
    """Read until all answers are there or the connection ends. Where nothing comes, send the rest of what is due."""
    parser = _Parser(found, without_bodies=attempt.sent.lstrip(b"\r\n").startswith(b"HEAD "))
    rest = list(reversed(REST))
    quiet_s = ANSWER_S if reference(attempt.sent).complete >= attempt.answers else QUIET_S
    while len(found.replies) < attempt.answers and not found.closes:
        if len(rest) == len(REST):
            wait_s = quiet_s
        else:
            wait_s = QUIET_S if len(REST) - len(rest) <= FEW else REST_S if rest else ANSWER_S
        try:
            data = await asyncio.wait_for(reader.read(65_536), wait_s)
        except TimeoutError:
            if not rest:
                return
            with suppress(ConnectionError):
                writer.write(rest.pop())
                await asyncio.wait_for(writer.drain(), ANSWER_S)
            continue
        except ConnectionError:
            found.ended = "reset"
            return
        if not data:
            found.ended = "closed"
            return
        try:
            parser.feed(data)
        except httptools.HttpParserError:
            found.ended = "unreadable"
            return
