"""Tails in PostgreSQL: a table beside Feast's, which one query reads with a user's row."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from recommender.datasets.time_units import DAY_S
from recommender.errors import FeatureStoreError
from recommender.events.postgres import seen_table, statements, tails_table
from recommender.secrets import secret
from recommender.settings import Settings
from recommender.settings.online_store import PostgresAddress
from serving.event_tails.append import Append

CONNECT_S = 2
"""How long connecting may take. By hand: a request waits no longer in any case."""


class PostgresTails:
    """Writes in a thread of its own, a transaction for each request. Connects with the first event."""

    def __init__(self, address: PostgresAddress, project: str, *, remember_days: int) -> None:
        self._address, self._project, self._remember_days = address, project, remember_days
        self._password = secret("postgres_password")
        self._purged_day = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="event-tails")
        self._connection: psycopg.Connection | None = None

    @classmethod
    def of(cls, settings: Settings) -> "PostgresTails":
        """The tails of these settings."""
        return cls(settings.store.postgres, settings.store.project, remember_days=settings.events.remember_days)

    async def append(self, appends: Sequence[Append], within_s: float) -> list[bool]:
        """Append events, and tell which ids are new.

        Raises:
            TimeoutError: It takes longer than `within_s`.
            FeatureStoreError: PostgreSQL cannot be reached, or refuses; names host, port and database.
        """
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._append, appends)
        return await asyncio.wait_for(writing, within_s)

    def _append(self, appends: Sequence[Append]) -> list[bool]:
        day = int(time.time() // DAY_S)
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connected()
            with self._connection.transaction():
                # In one order for all gateways, so that no two wait for each other.
                order = sorted(range(len(appends)), key=lambda place: appends[place].event_id)
                new = {place: self._append_one(self._connection, appends[place], day) for place in order}
                if day != self._purged_day:
                    forgotten = f"DELETE FROM {seen_table(self._project)} WHERE day < %s"
                    self._connection.execute(forgotten.encode(), (day - self._remember_days,))
            self._purged_day = day
        except psycopg.Error as error:
            if self._connection is not None:
                self._connection.close()
            problem = " ".join(str(error).split())
            raise FeatureStoreError(f"PostgreSQL at {self._address}: events cannot be written ({problem})") from None
        return [new[place] for place in range(len(appends))]

    def _append_one(self, connection: psycopg.Connection, one: Append, day: int) -> bool:
        tails = tails_table(self._project)
        noted = f"INSERT INTO {seen_table(self._project)} VALUES (%s, %s) ON CONFLICT DO NOTHING"
        if not connection.execute(noted.encode(), (one.event_id, day)).rowcount:
            return False
        if not one.line:
            return True
        if one.old:
            shortened = f"UPDATE {tails} SET body = %s WHERE user_id = %s AND body = %s"
            connection.execute(shortened.encode(), (one.kept, one.user_id, one.old))
        added = f"INSERT INTO {tails} AS t VALUES (%s, %s) ON CONFLICT (user_id) DO UPDATE SET body = t.body || %s"
        connection.execute(added.encode(), (one.user_id, one.line, one.line))
        return True

    def _connected(self) -> psycopg.Connection:
        keywords = self._address.keywords(self._password)
        connection = psycopg.connect(**keywords, connect_timeout=CONNECT_S, autocommit=True)
        for statement in statements(self._project):
            connection.execute(statement.encode())
        return connection

    def close(self) -> None:
        """Finish what is being written, and disconnect."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=True)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
