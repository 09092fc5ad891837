"""Feast's SQLite online store.

SELECT value FROM "<project>_<view>" WHERE entity_key = ? AND feature_name = ?
"""

import os
import sqlite3
import threading
from pathlib import Path
from urllib.parse import quote

from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import ServingSchema
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.online_store.feast_format import entity_key


class Locked(FeatureStoreError):
    """Somebody writes to the file, and the reader does not wait."""


class SqliteStore:
    """Reads the SQLite file with one read-only connection per thread, reopened when the file was replaced."""

    def __init__(self, path: Path, busy_s: float) -> None:
        self._path, self._name, self._busy_s = path, str(path), busy_s
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []

    @classmethod
    def of(cls, settings: Settings) -> "SqliteStore":
        """The store of these settings, which waits for a locked file as long as a read may take."""
        return cls(Home.of(settings).feature_store.online_database, settings.serving.store_deadline_ms / 1_000)

    def fetch(self, schema: ServingSchema, user_id: str, *, waits: bool = True) -> bytes | None:
        """Feast's serialised value of the user, or None when the store does not know the user.

        A thread reads either always with `waits` or always without: its connection keeps how long it waits.

        Raises:
            Locked: Somebody writes to it, and `waits` is false.
            FeatureStoreError: The file is missing, locked, or not a Feast store; names the file.
        """
        try:
            row = (
                self._connection(self._busy_s if waits else 0.0)
                .execute(
                    f'SELECT value FROM "{schema.project}_{schema.view}" WHERE entity_key = ? AND feature_name = ?',
                    (entity_key(schema.join_key, user_id), schema.field),
                )
                .fetchone()
            )
        except (sqlite3.Error, OSError) as error:
            if not waits and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise Locked(f"{self._path}: locked") from None
            self._drop()
            raise FeatureStoreError(f"{self._path}: the online store cannot be read ({error})") from None
        return None if row is None else row[0]

    async def fetch_async(self, schema: ServingSchema, user_id: str, within_s: float) -> bytes | None:
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
            with self._lock:
                self._open.append(connection)
            self._local.connection, self._local.identity = connection, identity
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
