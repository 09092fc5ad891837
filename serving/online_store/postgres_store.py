"""Feast's PostgreSQL online store.

SELECT (SELECT value FROM "<project>_<view>" WHERE entity_key = $1 AND feature_name = $2),
(SELECT body FROM "<project>_event_tails" WHERE user_id = $3)

So a user without a value may have a tail.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any

from recommender.errors import FeatureStoreError
from recommender.events.postgres import tails_table
from recommender.matching.packed_user import ServingSchema
from recommender.secrets import secret
from recommender.settings import Settings
from recommender.settings.online_store import PostgresAddress
from serving.online_store.feast_format import entity_key
from serving.online_store.postgres_pipeline import PostgresPipeline
from serving.online_store.stored import Stored


class PostgresStore:
    """Reads rows with one connection per event loop. Threads share a loop of their own, started by the first of them.

    A read is never retried. The user's password is read once, at the start.
    """

    def __init__(self, address: PostgresAddress, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._password = secret("postgres_password")
        self._here: PostgresPipeline | None = None
        self._of_threads: PostgresPipeline | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._waiting: dict[Future[Stored], float] = {}

    @classmethod
    def of(cls, settings: Settings) -> "PostgresStore":
        """The store of these settings, which connects with its first read."""
        return cls(settings.store.postgres, settings.serving.store_deadline_ms / 1_000)

    def fetch(self, schema: ServingSchema, user_id: str, *, waits: bool = True) -> Stored:
        """What the store holds of the user.

        Raises:
            FeatureStoreError: PostgreSQL cannot be reached, is late, or refuses; names host, port and database.
        """
        with self._lock:
            if self._of_threads is None:
                self._of_threads = self._pipeline(schema)
            future = self._submit(self._read(self._of_threads, schema, user_id, self._timeout_s))
            self._waiting[future] = time.monotonic() + self._timeout_s
        try:
            return future.result()
        except (TimeoutError, CancelledError):
            raise FeatureStoreError(f"PostgreSQL at {self._address}: the online store did not answer in time") from None
        finally:
            with self._lock:
                del self._waiting[future]

    async def fetch_async(self, schema: ServingSchema, user_id: str, within_s: float) -> Stored:
        """As `fetch`, on an event loop and in time.

        Raises:
            TimeoutError: PostgreSQL did not answer in time.
            FeatureStoreError: As of `fetch`.
        """
        if self._here is None:
            self._here = self._pipeline(schema)
        return await self._read(self._here, schema, user_id, within_s)

    def abandon_late(self, now: float) -> None:
        """End the reads whose deadline was before `now` (monotonic seconds), which frees their threads."""
        with self._lock:
            late = [future for future, deadline in self._waiting.items() if deadline < now]
        for future in late:
            future.cancel()

    def close(self) -> None:
        """Close the caller's connection, and the threads' with their loop."""
        if self._here is not None:
            self._here.close()
        if self._loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None

    def _pipeline(self, schema: ServingSchema) -> PostgresPipeline:
        table = f"{schema.project}_{schema.view}".replace('"', '""')
        tail = f"(SELECT body FROM {tails_table(schema.project)} WHERE user_id = $3::text)"
        value = f'(SELECT value FROM "{table}" WHERE entity_key = $1::bytea AND feature_name = $2::text)'
        return PostgresPipeline(self._address, self._password, f"SELECT {value}, {tail}", self._timeout_s)

    async def _read(self, pipeline: PostgresPipeline, schema: ServingSchema, user_id: str, within_s: float) -> Stored:
        key = entity_key(schema.join_key, user_id)
        # No event has a user with a zero byte, which PostgreSQL takes in no text.
        of_events = b"" if "\0" in user_id else user_id.encode()
        row = await pipeline.first((key, schema.field.encode(), of_events), within_s)
        return Stored(None) if row is None else Stored(row[0], row[1] or b"")

    def _submit(self, read: Coroutine[Any, Any, Stored]) -> Future[Stored]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="online-store-postgres", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(read, self._loop)

    async def _end(self) -> None:
        if self._of_threads is not None:
            self._of_threads.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
