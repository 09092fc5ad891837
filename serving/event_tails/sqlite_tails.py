"""Tails in a SQLite file beside Feast's, which the gateways of one machine share.

A file of its own: a materialisation holds Feast's file for seconds at a time, and an event does not wait for that.
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recommender.datasets.time_units import DAY_S
from recommender.errors import FeatureStoreError
from recommender.events.places import TAILS_TABLE
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.event_tails.append import Append

BUSY_S = 2.0
"""How long a write waits for another gateway's. By hand: the writes are transactions of microseconds."""
# `synchronous`: a killed process loses nothing. What a power failure can lose is in the synced log.
SCHEMA = f"""
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS {TAILS_TABLE} (user_id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (event_id TEXT PRIMARY KEY, day INTEGER NOT NULL) WITHOUT ROWID;
"""


class SqliteTails:
    """Writes in a thread of its own, a transaction for each request.

    The connection stays open from the start: without one the file has no shared index of its write-ahead log, and every
    reader makes its own, which takes longer than all else of a read (`make bench-events`).
    """

    def __init__(self, path: Path, *, remember_days: int) -> None:
        self._path, self._remember_days, self._purged_day = path, remember_days, 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="event-tails")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # After this only the thread uses it.
            self._connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise FeatureStoreError(f"{path}: events cannot be kept there ({error})") from None

    @classmethod
    def of(cls, settings: Settings) -> "SqliteTails":
        """The tails of these settings. The file is made now, so that readers find it."""
        return cls(Home.of(settings).feature_store.event_tails.absolute(), remember_days=settings.events.remember_days)

    async def append(self, appends: Sequence[Append], within_s: float) -> list[bool]:
        """Append events, and tell which ids are new.

        Raises:
            TimeoutError: It takes longer than `within_s`.
            FeatureStoreError: The file cannot be written; names it.
        """
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._append, appends)
        return await asyncio.wait_for(writing, within_s)

    def _append(self, appends: Sequence[Append]) -> list[bool]:
        day = int(time.time() // DAY_S)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                new = [self._append_one(self._connection, one, day) for one in appends]
                if day != self._purged_day:
                    self._connection.execute("DELETE FROM seen WHERE day < ?", (day - self._remember_days,))
                    self._purged_day = day
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise FeatureStoreError(f"{self._path}: events cannot be written ({error})") from None
        return new

    @staticmethod
    def _append_one(connection: sqlite3.Connection, one: Append, day: int) -> bool:
        if not connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (one.event_id, day)).rowcount:
            return False
        if not one.line:
            return True
        if one.old:
            connection.execute(
                f"UPDATE {TAILS_TABLE} SET body = ? WHERE user_id = ? AND body = ?", (one.kept, one.user_id, one.old)
            )
        connection.execute(
            f"INSERT INTO {TAILS_TABLE} VALUES (?, ?) "
            "ON CONFLICT (user_id) DO UPDATE SET body = CAST(body || excluded.body AS BLOB)",
            (one.user_id, one.line),
        )
        return True

    def close(self) -> None:
        """Finish what is being written, and close the file."""
        self._thread.shutdown(wait=True)
        self._connection.close()
