"""One kept HTTP/1.1 connection of the load generator, with one request at a time."""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

Done = Callable[["Connection", int, bytes], None]
"""Called with status and body of an answer. The status is 0 if the connection ended before the answer was whole."""


class Connection(asyncio.Protocol):
    """Sends a prepared request and hands the answer to a callback. No task and no future per request."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.usable = False
        self._done: Done | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport: asyncio calls this."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass
        self.usable = True

    def send(self, request: bytes, done: Done) -> None:
        """Write a request. `done` is called once, with its answer or with its end."""
        assert self.transport is not None
        self._done = done
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abandon()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the answer."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand over the answer."""
        status, body = self._parser.get_status_code(), b"".join(self._body)
        if not self._parser.should_keep_alive():
            self.usable = False
            if self.transport is not None:
                self.transport.close()
        self._parser, self._body = httptools.HttpResponseParser(self), []
        self._finish(status, body)

    def connection_lost(self, error: Exception | None) -> None:
        """Let a request under way end as lost."""
        self.usable = False
        self._finish(0, b"")

    def abandon(self) -> None:
        """Hang up, whatever is under way."""
        self.usable = False
        if self.transport is not None:
            self.transport.abort()

    def _finish(self, status: int, body: bytes) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self, status, body)
