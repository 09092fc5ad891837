"""A small HTTP/1.1 client for one model server: kept connections, one write per request, no copies of the answer.

General clients spend more on a request than TorchServe spends on a no-op. This one only posts a body and reads an
answer that has a Content-Length.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from serving.engines.contract import EngineError, Reply

MAX_IDLE = 64
"""Connections kept for the next request. Chosen by hand, well above the requests that one gateway has in flight."""


class Stale(EngineError):
    """A kept connection had been closed by the other side before it took the request."""

    def __init__(self) -> None:
        super().__init__("the connection was closed before an answer began")


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, arrived_s: Callable[[], float]) -> None:
        self._clock, self._arrived_s = arrived_s, 0.0
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._answer: asyncio.Future[Reply] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

    def data_received(self, data: bytes) -> None:
        self._begun, self._arrived_s = True, self._clock()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(EngineError(f"not HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._fail(Stale() if not self._begun else EngineError("the connection was lost in the middle of an answer"))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._body)
        self.closed = self.closed or not self._parser.should_keep_alive()
        self._parser, self._body = httptools.HttpResponseParser(self), []
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Reply(status, body, self._arrived_s))

    def post(self, head: bytes, body: bytes) -> "asyncio.Future[Reply]":
        assert self.transport is not None
        self._answer, self._begun = asyncio.get_running_loop().create_future(), False
        self.transport.write(head + body)
        return self._answer

    def close(self) -> None:
        self.closed = True
        if self.transport is not None:
            self.transport.abort()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


class Client:
    """Posts to `host:port` over kept connections.

    Cancelling a call closes its connection, so that no later request reads its answer.
    """

    def __init__(self, host: str, port: int, arrived_s: Callable[[], float]) -> None:
        self._host, self._port, self._arrived_s = host, port, arrived_s
        self._idle: deque[_Connection] = deque()
        self._fixed = f" HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: ".encode()

    async def post(self, path: str, body: bytes, *, content_type: bytes = b"application/json") -> Reply:
        """Post a body and return status and body of the answer, for as long as the caller lets it take.

        Raises:
            EngineError: There is no connection, or it broke; names host and port or what happened.
        """
        head = b"POST %b%b%b\r\nContent-Length: %d\r\n\r\n" % (path.encode(), self._fixed, content_type, len(body))
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                try:
                    return await self._ask(connection, head, body)
                except Stale:
                    continue  # a prediction changes nothing, so it may be asked for again
        return await self._ask(await self._connect(), head, body)

    async def _connect(self) -> _Connection:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self._arrived_s), self._host, self._port
            )
        except OSError as error:
            raise EngineError(f"{self._host}:{self._port}: {error}") from None
        return connection

    async def _ask(self, connection: _Connection, head: bytes, body: bytes) -> Reply:
        try:
            answer = await connection.post(head, body)
        except BaseException:
            connection.close()
            raise
        if connection.closed or len(self._idle) >= MAX_IDLE:
            connection.close()
        else:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the kept connections."""
        while self._idle:
            self._idle.pop().close()
