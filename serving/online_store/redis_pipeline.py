"""Reads of Redis on an event loop, over one connection on which answers come in the order of the questions.

A read through a thread costs four to five times as much CPU time: it wakes a thread, and the thread wakes the loop.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

import hiredis

from recommender.errors import FeatureStoreError
from recommender.settings.online_store import RedisAddress
from serving.online_store.one_connection import OneConnection


class _Connection(asyncio.Protocol):
    """One connection, with the questions that it has not answered yet, the oldest first."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._asked: deque[tuple[float, asyncio.Future[object]]] = deque()
        self._transport: asyncio.Transport | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for _, future in self._asked:
            if not future.done():
                future.set_exception(exc or ConnectionResetError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                _, future = self._asked.popleft()
                if not future.done():
                    future.set_result(answer)
        except (hiredis.ProtocolError, IndexError):  # IndexError: an answer to no question
            self.abort()

    def ask(self, *words: bytes) -> "asyncio.Future[object]":
        assert self._transport is not None
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._asked.append((time.monotonic(), future))
        self._transport.write(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub allows one word only
        return future

    def silent_s(self) -> float:
        """For how long the oldest question has had no answer."""
        return time.monotonic() - self._asked[0][0] if self._asked else 0.0

    def abort(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()


class Pipeline:
    """Asks one Redis."""

    def __init__(self, address: RedisAddress, password: str | None, timeout_s: float) -> None:
        self._address, self._password = address, password
        self._connection = OneConnection(self._connect, timeout_s)

    async def hmget(self, key: bytes, fields: Sequence[bytes], within_s: float) -> list[bytes | None]:
        """The values of fields of a hash, None where there is none.

        Raises:
            TimeoutError: There was no answer in time.
            FeatureStoreError: Redis cannot be reached or answers something else; names host and port.
        """
        (values,) = await self.ask([(b"HMGET", key, *fields)], within_s)
        if not isinstance(values, list) or not all(value is None or isinstance(value, bytes) for value in values):
            raise self._problem(f"{type(values).__name__} where Feast keeps bytes")
        return values

    async def ask(self, commands: Sequence[tuple[bytes, ...]], within_s: float) -> list[object]:
        """The answers to commands that are sent together.

        Raises:
            TimeoutError: There was no answer in time.
            FeatureStoreError: Redis cannot be reached or refuses a command; names host and port.
        """

        async def answers_of(connection: _Connection) -> list[object]:
            asked = [connection.ask(*command) for command in commands]
            return [await one for one in asked]

        try:
            answers = await self._connection.ask(answers_of, within_s)
        except TimeoutError:
            raise
        except OSError as error:
            raise self._problem(str(error)) from None
        for answer in answers:
            if isinstance(answer, hiredis.HiredisError):
                raise self._problem(str(answer))
        return answers

    def close(self) -> None:
        """Close the connection, on the loop that it belongs to."""
        self._connection.close()

    async def _connect(self) -> _Connection:
        address = self._address
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection,
            address.host,
            address.port,
            ssl=ssl.create_default_context() if address.encrypted else None,
        )
        for answer in [connection.ask(*command) for command in self._greeting()]:
            if isinstance(said := await answer, hiredis.HiredisError):
                connection.abort()
                raise ConnectionRefusedError(str(said))
        return connection

    def _greeting(self) -> list[tuple[bytes, ...]]:
        """The commands of a new connection."""
        address, commands = self._address, list[tuple[bytes, ...]]()
        if self._password is not None:
            user = () if address.user is None else (address.user.encode(),)
            commands.append((b"AUTH", *user, self._password.encode()))
        if address.db:
            commands.append((b"SELECT", b"%d" % address.db))
        return commands

    def _problem(self, problem: str) -> FeatureStoreError:
        return FeatureStoreError(f"Redis at {self._address}: the online store cannot be read ({problem})")
