"""Feast's SQLite online store.

SELECT (SELECT value FROM "<project>_<view>" WHERE entity_key = ? AND feature_name = ?),
(SELECT body FROM events.tails WHERE user_id = ?)

So a user without a value may have a tail.
The file of tails is attached once it exists: a gateway makes it when it starts.
"""

import os
import sqlite3
import threading
from functools import cache
from pathlib import Path
from urllib.parse import quote

from recommender.errors import FeatureStoreError
from recommender.events.places import TAILS_TABLE
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.online_store.feast_format import entity_key
from serving.online_store.stored import Stored


@cache
def _statements(project: str, view: str) -> tuple[str, str]:
    """The query with tails, and the one where there is no file of tails."""
    value = f'(SELECT value FROM "{project}_{view}" WHERE entity_key = ? AND feature_name = ?)'
    tail = f"(SELECT body FROM events.{TAILS_TABLE} WHERE user_id = ?)"
    return f"SELECT {value}, {tail}", f"SELECT {value}, NULL"


class Locked(FeatureStoreError):
    """Somebody writes to the file, and the reader does not wait."""


class SqliteStore:
    """Reads the SQLite file with one read-only connection per thread, reopened when the file was replaced."""

    def __init__(self, path: Path, busy_s: float, tails: Path | None = None) -> None:
        self._path, self._name, self._busy_s, self._tails = path, str(path), busy_s, tails
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []

    @classmethod
    def of(cls, settings: Settings) -> "SqliteStore":
        """The store of these settings, which waits for a locked file as long as a read may take."""
        folder = Home.of(settings).feature_store
        return cls(folder.online_database, settings.serving.store_deadline_ms / 1_000, folder.event_tails.absolute())

    def fetch(self, schema: ServingSchema, user_id: str, *, waits: bool = True) -> Stored:
        """What the store holds of the user.

        A thread reads either always with `waits` or always without: its connection keeps how long it waits.

        Raises:
            Locked: Somebody writes to it, and `waits` is false.
            FeatureStoreError: The file is missing, locked, or not a Feast store; names the file.
        """
        try:
            connection = self._connection(self._busy_s if waits else 0.0)
            key = (entity_key(schema.join_key, user_id), schema.field)
            with_tail, without = _statements(schema.project, schema.view)
            if self._local.has_tails:
                row = connection.execute(with_tail, (*key, user_id)).fetchone()
            else:
                row = connection.execute(without, key).fetchone()
        except (sqlite3.Error, OSError) as error:
            if not waits and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise Locked(f"{self._path}: locked") from None
            self._drop()
            raise FeatureStoreError(f"{self._path}: the online store cannot be read ({error})") from None
        return Stored(None) if row is None else Stored(row[0], row[1] or b"")

    async def fetch_async(self, schema: ServingSchema, user_id: str, within_s: float) -> Stored:
        """As `fetch` without `waits`: a look into a file of this machine needs no waiting."""
        return self.fetch(schema, user_id, waits=False)

    def abandon_late(self, now: float) -> None:
        """Do nothing: SQLite itself waits for a lock no longer than its configured limit."""

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def _connection(self, busy_s: float) -> sqlite3.Connection:
        status = os.stat(self._name)  # noqa: PTH116 (once a request: a `Path` is spelled out again at each call)
        identity = (status.st_dev, status.st_ino)
        if getattr(self._local, "identity", None) != identity:
            self._drop()
            uri = f"file:{quote(str(self._path.absolute()))}?mode=ro"
            connection = sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)
            # Known before it is attached, so that a failure closes it too.
            with self._lock:
                self._open.append(connection)
            self._local.connection = connection
            self._local.has_tails = self._tails is not None and self._tails.is_file()
            if self._local.has_tails:
                connection.execute("ATTACH ? AS events", (f"file:{quote(str(self._tails))}?mode=ro",))
            self._local.identity = identity
        connection = self._local.connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def _drop(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.connection = self._local.identity = None
        if connection is not None:
            with self._lock:
                self._open.remove(connection)
            connection.close()
