"""One connection for all reads of an event loop: opened by the first read, replaced when it stops answering."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    """A connection on which answers come in the order of the questions."""

    closed: bool

    def silent_s(self) -> float:
        """For how long the oldest question has had no answer. 0 where none waits."""

    def abort(self) -> None:
        """Close it at once. Questions without an answer fail."""


C = TypeVar("C", bound=Connection)
Answer = TypeVar("Answer")


class OneConnection(Generic[C]):
    """Holds the connection of the loop that reads.

    Args:
        connect: Opens a connection, within its own time limit.
        timeout_s: A connection whose oldest question waits longer is closed, and the next read opens another one.
    """

    def __init__(self, connect: Callable[[], Awaitable[C]], timeout_s: float) -> None:
        self._connect, self._timeout_s = connect, timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: C | None = None
        self._connecting: asyncio.Task[C] | None = None

    async def ask(self, question: Callable[[C], Awaitable[Answer]], within_s: float) -> Answer:
        """The answer to a question.

        Raises:
            TimeoutError: There was no answer in time.
        """
        connection: C | None = None
        try:
            async with asyncio.timeout(within_s):
                connection = await self._open()
                return await question(connection)
        except TimeoutError:
            # A caller in a hurry says nothing about the connection; the oldest question does.
            if connection is not None and connection.silent_s() >= self._timeout_s:
                connection.abort()
            raise

    def close(self) -> None:
        """Close the connection, on the loop that it belongs to."""
        if self._connection is not None and self._loop is not None and not self._loop.is_closed():
            self._connection.abort()
        self._connection = None

    async def _open(self) -> C:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a connection belongs to the loop that opened it
            self._loop, self._connection, self._connecting = loop, None, None
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._connecting is None or self._connecting.done():
            self._connecting = loop.create_task(self._opened())
            # All who wait may give up first. Then nobody asks for its failure, which is none of the loop's business.
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        # One reader that gives up must not take the connection from the others who wait for it.
        return await asyncio.shield(self._connecting)

    async def _opened(self) -> C:
        try:
            async with asyncio.timeout(self._timeout_s):
                self._connection = await self._connect()
        except TimeoutError:
            raise ConnectionAbortedError(f"no connection within {self._timeout_s * 1e3:.0f} ms") from None
        return self._connection
