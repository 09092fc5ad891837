"""Online store client: one user's packed features within a time limit, as the bytes that the store holds.

One look-up reads one value. Feast's own read turns every number into an object and takes milliseconds, and importing
Feast takes seconds and 350 MB, so serving repeats the few lines of its storage format that a read needs
(`feast_format`). Reads run in worker threads; a caller waits no longer than its time limit, whatever the store does
meanwhile.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLong
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from recommender.datasets.time_units import DAY_S, SECOND_US
from recommender.errors import FeatureStoreError
from recommender.matching.packed_user import Newcomer, PackedUser, ServingSchema
from recommender.settings import Settings, choose
from recommender.storage.home import Home
from serving.online_store.feast_format import KEY_VERSION, bytes_value
from serving.online_store.postgres_store import PostgresStore
from serving.online_store.redis_store import RedisStore
from serving.online_store.sqlite_store import Locked, SqliteStore
from serving.online_store.stored import Stored

NUM_THREADS = 4
"""Reads at the same time. A read takes about 0.1 ms, so four are enough for one gateway. Chosen by hand."""


class UnknownLayout(Exception):
    """A portrait of a layout that the schema, as it was read last, does not list."""


DAY_US = DAY_S * SECOND_US
EXPIRED = "features_expired"
"""Why an answer is degraded: the user's features are older than `store.max_age_days`."""
CLOSED = "the online store client is closed"


class OnlineStore(Protocol):
    """A place where Feast keeps online values."""

    def fetch(self, schema: ServingSchema, user_id: str, *, waits: bool = True) -> Stored:
        """What the store holds of the user, in one look.

        Raises:
            Locked: Somebody writes to it, and `waits` is false.
        """

    async def fetch_async(self, schema: ServingSchema, user_id: str, within_s: float) -> Stored:
        """As `fetch` without `waits`, on an event loop.

        Raises:
            TimeoutError: There was no answer within `within_s` seconds.
        """

    def abandon_late(self, now: float) -> None:
        """End the reads whose deadline was before `now` (monotonic seconds), which frees their threads."""

    def close(self) -> None:
        """Release connections."""


READERS: dict[str, Callable[[Settings], OnlineStore]] = {
    "sqlite": SqliteStore.of,
    "redis": RedisStore.of,
    "postgres": PostgresStore.of,
}
"""Readers of online stores, by their name in the setting `store.kind`."""


class OnlineStoreClient:
    """Reads users from the online store.

    Opening reads nothing, so an unavailable store fails a read and not the start.
    """

    def __init__(
        self, store: OnlineStore, schema_folder: Path, *, timeout_s: float, max_age_days: float | None = None
    ) -> None:
        self._store, self._schema_folder, self._timeout_s = store, schema_folder, timeout_s
        self._max_age_us = None if max_age_days is None else max_age_days * DAY_US
        self._pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="online-store")
        self._schema: ServingSchema | None = None
        self._names: dict[bytes, tuple[str, ...]] = {}
        self._closed = False

    @classmethod
    def open(cls, settings: Settings) -> "OnlineStoreClient":
        """The client of the store that the settings name.

        A read waits for `serving.store_deadline_ms` by default.

        Raises:
            SettingsError: The settings name an unknown kind of store; lists the known ones.
        """
        store = choose(READERS, settings.store.kind, "store.kind")(settings)
        timeout_s = settings.serving.store_deadline_ms / 1_000
        folder = Home.of(settings).feature_store.root
        return cls(store, folder, timeout_s=timeout_s, max_age_days=settings.store.max_age_days)

    def read(self, user_id: str, timeout_s: float | None = None) -> PackedUser | None:
        """Read one user, or None when the store does not know the user.

        Returns or raises within `timeout_s` seconds.

        Raises:
            FeatureStoreError: The store is unavailable or late, or its content cannot be read. Names the store.
        """
        waited_s = self._timeout_s if timeout_s is None else timeout_s
        future = self._submit(user_id)
        try:
            found = future.result(waited_s)
            return None if isinstance(found, Newcomer) else found
        except WaitedTooLong:
            future.cancel()
            raise self._late(waited_s) from None

    async def read_async(self, user_id: str, timeout_s: float | None = None) -> PackedUser | Newcomer | None:
        """Read one user like `read`, for an event loop: without a thread, unless somebody writes to a local store.

        Of a user whom the store does not know, it tells the events that hide campaigns.
        """
        waited_s = self._timeout_s if timeout_s is None else timeout_s
        if self._closed:
            raise FeatureStoreError(CLOSED)
        if not _can_be_stored(user_id):
            return None
        if self._schema is not None:
            try:
                stored = await self._store.fetch_async(self._schema, user_id, waited_s)
                return self._packed(stored, may_load=False)
            except (Locked, UnknownLayout):
                pass  # a thread waits for whoever writes, and reads the schema's file
            except TimeoutError:
                raise self._late(waited_s) from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._submit(user_id)), waited_s)
        except TimeoutError:
            raise self._late(waited_s) from None

    def is_expired(self, packed: PackedUser, as_of_us: int) -> bool:
        """Whether the features are older at `as_of_us` than `store.max_age_days` allows. Feast itself never checks."""
        return self._max_age_us is not None and as_of_us - packed.feature_time_us > self._max_age_us

    def close(self) -> None:
        """Release threads and connections, after the reads under way have ended or were ended."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._store.abandon_late(float("inf"))
        # Closing a SQLite connection while a thread reads from it crashes the process, so the threads end first.
        self._pool.shutdown(wait=True)
        self._store.close()

    def _late(self, waited_s: float) -> FeatureStoreError:
        self._store.abandon_late(time.monotonic())
        return FeatureStoreError(f"the online store did not answer within {waited_s * 1_000:.0f} ms")

    def _submit(self, user_id: str) -> "Future[PackedUser | Newcomer | None]":
        self._store.abandon_late(time.monotonic())
        try:
            return self._pool.submit(self._read, user_id)
        except RuntimeError:
            raise FeatureStoreError(CLOSED) from None

    def _read(self, user_id: str) -> PackedUser | Newcomer | None:
        if not _can_be_stored(user_id):
            return None
        return self._packed(self._store.fetch(self._schema or self._load_schema(), user_id))

    def _packed(self, stored: Stored, *, may_load: bool = True) -> PackedUser | Newcomer | None:
        content = None if stored.message is None else bytes_value(stored.message)
        if content is None:
            return Newcomer(stored.tail) if stored.tail else None
        packed = PackedUser.check(content)
        if packed.layout not in self._names:
            if not may_load:
                raise UnknownLayout
            # A run announces a new layout in the schema before it writes the first value of that layout.
            self._load_schema()
            if packed.layout not in self._names:
                raise FeatureStoreError(
                    f"{self._schema_folder}: the online store holds a portrait of layout {packed.layout.hex()},"
                    " which its schema does not list; materialise the features again"
                )
        return replace(packed, tail=stored.tail) if stored.tail else packed

    def names_of(self, packed: PackedUser) -> tuple[str, ...]:
        """Names of the numbers in the portrait of a user that was read."""
        return self._names[packed.layout]

    def _load_schema(self) -> ServingSchema:
        schema = ServingSchema.load(self._schema_folder)
        if schema.entity_key_serialization_version != KEY_VERSION:
            raise FeatureStoreError(
                f"{self._schema_folder}: the online store's keys have serialisation version"
                f" {schema.entity_key_serialization_version}, but this client reads version {KEY_VERSION}"
            )
        self._names = schema.by_layout()
        self._schema = schema
        return schema


def _can_be_stored(user_id: str) -> bool:
    """Whether a store can hold such a user: none can hold a lone surrogate."""
    try:
        user_id.encode()
    except UnicodeEncodeError:
        return False
    return True
