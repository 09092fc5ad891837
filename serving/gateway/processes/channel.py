"""Questions between the parent of gateway processes and a child, over a pair of connected sockets. Both may ask.

frame   kind (1 byte: "?" or "!"), number of the question (4 bytes), length (4 bytes, little-endian), content
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import cast

_HEAD = struct.Struct("<cII")
_QUESTION, _ANSWER = b"?", b"!"


class Channel(asyncio.Protocol):
    """One end of such a pair."""

    def __init__(self, answer: Callable[[bytes], Awaitable[bytes]], lost: Callable[[], None] = lambda: None) -> None:
        self._answer, self._lost = answer, lost
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._number = 0
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def ask(self, question: bytes, *, within_s: float) -> bytes:
        """The other side's answer.

        Raises:
            OSError: The other side is gone, or does not answer in time.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the other process is gone")
        self._number = number = self._number + 1
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self._send(_QUESTION, number, question)
        try:
            async with asyncio.timeout(within_s):
                return await future
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        """Close this end."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: asyncio calls this."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits for an answer."""
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the other process is gone"))
        self._lost()

    def data_received(self, data: bytes) -> None:
        """Take whole frames apart."""
        self._received += data
        while len(self._received) >= _HEAD.size:
            kind, number, length = _HEAD.unpack_from(self._received)
            end = _HEAD.size + length
            if len(self._received) < end:
                return
            content, self._received = self._received[_HEAD.size : end], self._received[end:]
            if kind == _QUESTION:
                task = asyncio.get_running_loop().create_task(self._reply(number, content))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            elif (future := self._asked.get(number)) is not None and not future.done():
                future.set_result(content)

    async def _reply(self, number: int, question: bytes) -> None:
        self._send(_ANSWER, number, await self._answer(question))

    def _send(self, kind: bytes, number: int, content: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEAD.pack(kind, number, len(content)) + content)
