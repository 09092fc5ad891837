"""Reads of PostgreSQL on an event loop, over one connection in libpq's pipeline mode.

Several reads are under way at once, and answers come in the order of the questions, as with Redis. psycopg connects,
with passwords and TLS; its own cursors would cost several times a read, because each query holds a lock and waits.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Sequence

import psycopg
from psycopg import generators, pq
from psycopg.conninfo import make_conninfo
from psycopg.waiting import wait_conn_async

from recommender.errors import FeatureStoreError
from recommender.settings.online_store import PostgresAddress
from serving.online_store.one_connection import OneConnection

_BINARY = 1
"""libpq's code of the binary format, in which a bytea is its bytes."""
_STATEMENT = b"online_read"
_OK = pq.ExecStatus.TUPLES_OK
_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)
Row = Sequence[bytes | None]


class _Connection:
    """One connection, with the questions that it has not answered yet, the oldest first."""

    def __init__(self, libpq: pq.abc.PGconn) -> None:
        self._libpq = libpq
        self._loop = asyncio.get_running_loop()
        self._asked: deque[tuple[float, asyncio.Future[Row | None]]] = deque()
        self._row: Row | None = None
        self._problem: str | None = None
        self._socket = self._libpq.socket
        self._writes = False
        self.closed = False
        self._libpq.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._readable)

    def prepare(self, query: bytes) -> "asyncio.Future[Row | None]":
        self._libpq.send_prepare(_STATEMENT, query)
        return self._sent()

    def ask(self, parameters: Sequence[bytes]) -> "asyncio.Future[Row | None]":
        """The first row of the prepared statement with these parameters."""
        self._libpq.send_query_prepared(_STATEMENT, parameters, [_BINARY] * len(parameters), result_format=_BINARY)
        return self._sent()

    def silent_s(self) -> float:
        return time.monotonic() - self._asked[0][0] if self._asked else 0.0

    def abort(self) -> None:
        self._end(ConnectionResetError("the connection was closed"))

    def _sent(self) -> "asyncio.Future[Row | None]":
        # A synchronisation point after each question: the error of one leaves the others alone.
        self._libpq.pipeline_sync()
        future: asyncio.Future[Row | None] = self._loop.create_future()
        self._asked.append((time.monotonic(), future))
        self._flush()
        return future

    def _flush(self) -> None:
        """Send what libpq could not send yet, now or as soon as the socket takes it."""
        waits = bool(self._libpq.flush())
        if waits and not self._writes:
            self._loop.add_writer(self._socket, self._writable)
        elif self._writes and not waits:
            self._loop.remove_writer(self._socket)
        self._writes = waits

    def _writable(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self._end(ConnectionResetError(_one_line(str(error))))

    def _readable(self) -> None:
        try:
            self._libpq.consume_input()
            while self._asked and not self._libpq.is_busy():
                self._take(self._libpq.get_result())
        except psycopg.Error as error:
            self._end(ConnectionResetError(_one_line(str(error))))

    def _take(self, result: pq.abc.PGresult | None) -> None:
        if result is None:  # between the results of a question and its synchronisation point
            if self._libpq.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError("the connection was lost")
        elif result.status == pq.ExecStatus.PIPELINE_SYNC:
            _, future = self._asked.popleft()
            row, problem, self._row, self._problem = self._row, self._problem, None, None
            if future.done():
                return
            if problem is None:
                future.set_result(row)
            else:
                future.set_exception(psycopg.DatabaseError(problem))
        elif result.status in _FAILED:
            self._problem = self._problem or _one_line((result.error_message or b"").decode(errors="replace"))
        elif result.status == _OK and result.ntuples:
            self._row = [result.get_value(0, column) for column in range(result.nfields)]

    def _end(self, error: Exception) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._libpq.finish()
        for _, future in self._asked:
            if not future.done():
                future.set_exception(error)
        self._asked.clear()


class PostgresPipeline:
    """Asks one PostgreSQL one question, with varying parameters.

    Args:
        address: Where it is, and who asks.
        password: The user's, if the server asks for one.
        query: What is asked, with parameters $1, $2 …
        timeout_s: How long connecting may take, and after which a silent connection is replaced.
    """

    def __init__(self, address: PostgresAddress, password: str | None, query: str, timeout_s: float) -> None:
        self._address, self._password, self._query = address, password, query
        self._connection = OneConnection(self._connect, timeout_s)

    async def first(self, parameters: Sequence[bytes], within_s: float) -> Row | None:
        """The first row of the answer, or None where there is none.

        Raises:
            TimeoutError: There was no answer in time.
            FeatureStoreError: PostgreSQL cannot be reached, or refuses; names host, port and database.
        """
        try:
            return await self._connection.ask(lambda connection: connection.ask(parameters), within_s)
        except TimeoutError:
            raise
        except (OSError, psycopg.Error) as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Close the connection, on the loop that it belongs to."""
        self._connection.close()

    async def _connect(self) -> _Connection:
        connection = _Connection(await _connected(self._address, self._password))
        try:
            await connection.prepare(self._query.encode())
        except (OSError, psycopg.Error):
            connection.abort()
            raise
        return connection

    def _failure(self, error: Exception) -> FeatureStoreError:
        return FeatureStoreError(
            f"PostgreSQL at {self._address}: the online store cannot be read ({_one_line(str(error))})"
        )


async def _connected(address: PostgresAddress, password: str | None) -> pq.abc.PGconn:
    """A new connection. An `AsyncConnection` would complain where the caller gives up while it connects."""
    hosts, addresses = [address.host], None
    if not address.host.startswith("/"):  # otherwise the folder of a Unix socket
        # libpq would block while it looks the name up.
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        numbers = dict.fromkeys(str(place[0]) for *_, place in found)
        hosts, addresses = [address.host] * len(numbers), ",".join(numbers)
    info = make_conninfo(**{**address.keywords(password), "host": ",".join(hosts), "hostaddr": addresses})
    return await wait_conn_async(generators.connect(info))


def _one_line(text: str) -> str:
    return " ".join(text.split())
