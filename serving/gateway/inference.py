"""A small HTTP/1.1 client for one TorchServe: kept connections, one write per request, no copies of the answer.

General clients spend more on a request than TorchServe spends on a no-op. This one only posts a body and reads an
answer that has a Content-Length.
"""

import asyncio
from collections import deque
from typing import NamedTuple, cast

import httptools

from serving.gateway.turns import Turns

MAX_IDLE = 64
"""Connections kept for the next request. Chosen by hand, well above the requests that one gateway has in flight."""


class InferenceError(Exception):
    """TorchServe is unavailable, or its answer is not HTTP."""


class Stale(InferenceError):
    """A kept connection had been closed by the other side before it took the request."""

    def __init__(self) -> None:
        super().__init__("the connection was closed before an answer began")


class Reply(NamedTuple):
    """TorchServe's answer to one request."""

    status: int
    body: bytes
    arrived_s: float
    """When it arrived, on the clock of `time.perf_counter`. Its reader runs later, after what else the loop does."""


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._arrived_s = turns, 0.0
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._answer: asyncio.Future[Reply] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

    def data_received(self, data: bytes) -> None:
        self._begun, self._arrived_s = True, self._turns.arrived_s()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(InferenceError(f"not HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._fail(Stale() if not self._begun else InferenceError("the connection was lost in the middle of an answer"))

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


class InferenceClient:
    """Posts to `host:port` over kept connections.

    Cancelling a call closes its connection, so that no later request reads its answer.
    """

    def __init__(self, host: str, port: int, turns: Turns) -> None:
        self._host, self._port, self._turns = host, port, turns
        self._idle: deque[_Connection] = deque()
        self._fixed = f" HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: ".encode()

    async def post(self, path: str, body: bytes, *, content_type: bytes = b"application/json") -> Reply:
        """Post a body and return status and body of the answer, for as long as the caller lets it take.

        Raises:
            InferenceError: There is no connection, or it broke; names host and port or what happened.
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
                lambda: _Connection(self._turns), self._host, self._port
            )
        except OSError as error:
            raise InferenceError(f"{self._host}:{self._port}: {error}") from None
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
