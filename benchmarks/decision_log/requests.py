"""Requests over kept connections that cost the client little, so that it does not measure itself."""

import asyncio
from collections import deque

from serving.load.connection import Connection

HOST = "127.0.0.1"


class Connections:
    """Kept connections to one port, one request at a time over each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: deque[Connection] = deque()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a prepared request. Status 0: there was none."""
        loop = asyncio.get_running_loop()
        connection = await self._connection()
        answered: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        connection.send(request, lambda _, status, body: answered.set_result((status, body)))
        found = await answered
        if connection.usable:
            self._free.append(connection)
        return found

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(Connection, HOST, self._port)
        return connection

    def close(self) -> None:
        """Close all that are free."""
        while self._free:
            self._free.pop().abandon()
