"""One user's features from the online store, read as Feast wrote them but without Feast: one look-up, one value.

    SQLite   SELECT value FROM "<project>_user_serving" WHERE entity_key = … AND feature_name = 'packed'
    Redis    HGET <entity key><project> murmur3_32("user_serving:packed")

Feast's own read turns every number into an object and takes milliseconds; importing it takes seconds and 350 MB. What is
repeated here is three lines of its storage format (entity key, hash field, bytes value); tests hold them to Feast's.

A read runs in a worker thread and is waited for no longer than its time-out, whatever the store does meanwhile.
"""

import asyncio
import contextlib
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedTooLong
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, unquote, urlsplit

from recommender.errors import FeatureStoreError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import ServingSchema, layout_in, unpack
from recommender.secrets import secret
from recommender.settings import Settings, choose
from recommender.storage.home import Home

if TYPE_CHECKING:
    import redis

WORKERS = 4
_STRING = 2  # feast.ValueType.STRING
_BYTES_VAL_TAG = 0x0A  # field 1 of feast's Value message, length-delimited
_KEY_VERSION = 3


def entity_key(join_key: str, value: str) -> bytes:
    """Feast's serialised key of one entity with a string identifier (serialisation version 3)."""
    name, identifier = join_key.encode(), value.encode()
    return b"".join(
        (struct.pack("<III", 1, _STRING, len(name)), name, struct.pack("<II", _STRING, len(identifier)), identifier)
    )


def hash_field(view: str, field: str) -> bytes:
    """The field of a Redis hash in which Feast keeps one feature: MurmurHash3 (32 bits, seed 0) of view:field."""
    return struct.pack("<I", _murmur3_32(f"{view}:{field}".encode()))


def bytes_value(message: bytes) -> bytes | None:
    """The bytes inside Feast's serialised `Value`; None when it holds no value.

    Raises:
        FeatureStoreError: the message holds another type, or is cut short.
    """
    if not message:
        return None
    length, shift, at, ended = 0, 0, 1, False
    while at < len(message) and not ended:
        byte = message[at]
        length |= (byte & 0x7F) << shift
        at, shift, ended = at + 1, shift + 7, not byte & 0x80
    if message[0] != _BYTES_VAL_TAG or not ended or at + length != len(message):
        raise FeatureStoreError(
            "the online store's value is not bytes as Feast writes them; materialise the features again"
        )
    return message[at:]


def _murmur3_32(key: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0 (Appleby 2011)."""
    mask = 0xFFFFFFFF

    def mix(block: int) -> int:
        block = block * 0xCC9E2D51 & mask
        return ((block << 15 | block >> 17) & mask) * 0x1B873593 & mask

    state, whole = 0, len(key) & ~3
    for (block,) in struct.iter_unpack("<I", key[:whole]):
        state ^= mix(block)
        state = ((state << 13 | state >> 19) & mask) * 5 + 0xE6546B64 & mask
    if key[whole:]:
        state ^= mix(int.from_bytes(key[whole:], "little"))
    state ^= len(key)
    state = (state ^ state >> 16) * 0x85EBCA6B & mask
    state = (state ^ state >> 13) * 0xC2B2AE35 & mask
    return state ^ state >> 16


class OnlineStore(Protocol):
    """A place where Feast keeps online values."""

    def fetch(self, schema: ServingSchema, user_id: str) -> bytes | None:
        """Feast's serialised value of the user; None: the store does not know the user."""

    def abandon_late(self, now: float) -> None:
        """End the reads whose time was over at `now` (monotonic seconds), so that their workers are free again."""

    def close(self) -> None: ...


class SqliteStore:
    """Feast's SQLite file, read-only, one connection a thread, opened anew when the file is another one."""

    def __init__(self, path: Path, busy_s: float) -> None:
        self._path, self._busy_s = path, busy_s
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[sqlite3.Connection] = []

    def fetch(self, schema: ServingSchema, user_id: str) -> bytes | None:
        try:
            row = (
                self._connection()
                .execute(
                    f'SELECT value FROM "{schema.project}_{schema.view}" WHERE entity_key = ? AND feature_name = ?',
                    (entity_key(schema.join_key, user_id), schema.field),
                )
                .fetchone()
            )
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise FeatureStoreError(f"{self._path}: the online store cannot be read ({error})") from None
        return None if row is None else row[0]

    def _connection(self) -> sqlite3.Connection:
        status = self._path.stat()
        identity = (status.st_dev, status.st_ino)
        if getattr(self._local, "identity", None) != identity:
            self._drop()
            uri = f"file:{quote(str(self._path.absolute()))}?mode=ro"
            connection = sqlite3.connect(
                uri, uri=True, timeout=self._busy_s, isolation_level=None, check_same_thread=False
            )
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

    def abandon_late(self, now: float) -> None:
        """Nothing to do: SQLite waits for a lock no longer than it was told."""

    def close(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()


class RedisStore:
    """Feast's Redis hashes, one connection a thread, made anew after a failure. Nothing is tried twice within a read.

    A socket's time-out starts again with every byte, so a read also has a deadline, after which its connection is closed.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        # Here, not in the first read: importing takes longer than a read may.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._timeout_s = timeout_s
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 6379
        self._where = f"{host}:{port}"
        self._connect: Callable[[], redis.Connection] = partial(
            redis.SSLConnection if parts.scheme == "rediss" else redis.Connection,
            host=host,
            port=port,
            db=int(parts.path.strip("/") or 0),
            username=unquote(parts.username) if parts.username else None,
            password=secret("redis_password"),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        # Closed by another thread while it reads, the client's parser fails with whatever it trips over.
        self._failures = (redis.RedisError, OSError, ValueError, AttributeError)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._deadlines: dict[redis.Connection, float] = {}

    def fetch(self, schema: ServingSchema, user_id: str) -> bytes | None:
        connection = self._connection()
        key = entity_key(schema.join_key, user_id) + schema.project.encode()
        with self._lock:
            self._deadlines[connection] = time.monotonic() + self._timeout_s
        try:
            connection.send_command("HGET", key, hash_field(schema.view, schema.field))  # type: ignore[no-untyped-call]
            value = connection.read_response()  # type: ignore[no-untyped-call]
        except self._failures as error:
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise FeatureStoreError(f"Redis at {self._where}: the online store cannot be read ({error})") from None
        finally:
            with self._lock:
                del self._deadlines[connection]
        if value is not None and not isinstance(value, bytes):
            raise FeatureStoreError(f"Redis answered {type(value).__name__} where Feast keeps bytes")
        return value

    def abandon_late(self, now: float) -> None:
        with self._lock:
            for connection, deadline in self._deadlines.items():
                if deadline < now:
                    _shut(connection)

    def close(self) -> None:
        """Nothing to do: each thread's connection goes with the thread."""

    def _connection(self) -> "redis.Connection":
        connection: redis.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection


def _shut(connection: "redis.Connection") -> None:
    """Wake the thread that waits for this connection's socket; the thread itself closes it."""
    sock = connection._sock
    if sock is not None:
        with contextlib.suppress(OSError):  # already closed by the other end
            sock.shutdown(socket.SHUT_RDWR)


READERS: dict[str, Callable[[Settings, float], OnlineStore]] = {
    "sqlite": lambda settings, timeout_s: SqliteStore(Home.of(settings).feature_store.online_database, timeout_s),
    "redis": lambda settings, timeout_s: RedisStore(settings.store.redis_url, timeout_s),
}
"""Online store (`store.kind`) -> what reads it, given the settings and the time-out of a read in seconds."""


class FeatureClient:
    """Reads users from the online store. Opening reads nothing: a store that is away is an error of a read, not of a start."""

    def __init__(self, store: OnlineStore, schema_folder: Path, *, timeout_s: float) -> None:
        self._store, self._schema_folder, self._timeout_s = store, schema_folder, timeout_s
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="feature-store")
        self._schema: ServingSchema | None = None
        self._layouts: dict[bytes, tuple[str, ...]] = {}

    @classmethod
    def open(cls, settings: Settings) -> "FeatureClient":
        """The client of the store that the settings name; reads wait `serving.store_deadline_ms` unless told otherwise."""
        timeout_s = settings.serving.store_deadline_ms / 1_000
        store = choose(READERS, settings.store.kind, "store.kind")(settings, timeout_s)
        return cls(store, Home.of(settings).feature_store.root, timeout_s=timeout_s)

    def read(self, user_id: str, timeout_s: float | None = None) -> Shopper | None:
        """The user's features; None for a user whom the store does not know. Returns or raises within `timeout_s`.

        Raises:
            FeatureStoreError: the store is away or late, or its content cannot be read; says which.
        """
        waited_s = self._timeout_s if timeout_s is None else timeout_s
        future = self._submit(user_id)
        try:
            return future.result(waited_s)
        except WaitedTooLong:
            future.cancel()
            self._store.abandon_late(time.monotonic())
            raise FeatureStoreError(f"the online store did not answer within {waited_s * 1_000:.0f} ms") from None

    async def read_async(self, user_id: str, timeout_s: float | None = None) -> Shopper | None:
        """`read` for an event loop, without a thread of the loop's own pool."""
        waited_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._submit(user_id)), waited_s)
        except TimeoutError:
            self._store.abandon_late(time.monotonic())
            raise FeatureStoreError(f"the online store did not answer within {waited_s * 1_000:.0f} ms") from None

    def close(self) -> None:
        """Give connections and threads back, after the reads under way have ended or were ended."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._store.abandon_late(float("inf"))
        # A SQLite connection that is closed under a reading thread takes the process with it.
        self._pool.shutdown(wait=True)
        self._store.close()

    def _submit(self, user_id: str) -> "Future[Shopper | None]":
        self._store.abandon_late(time.monotonic())
        try:
            return self._pool.submit(self._read, user_id)
        except RuntimeError:
            raise FeatureStoreError("the feature client is closed") from None

    def _read(self, user_id: str) -> Shopper | None:
        try:
            user_id.encode()
        except UnicodeEncodeError:
            return None  # a lone surrogate: no store can hold such a user
        schema = self._schema or self._load_schema()
        message = self._store.fetch(schema, user_id)
        value = None if message is None else bytes_value(message)
        if value is None:
            return None
        if layout_in(value) not in self._layouts:
            self._load_schema()  # a run has begun to write a new layout: it is announced before the first value
        return unpack(user_id, value, self._layouts)

    def _load_schema(self) -> ServingSchema:
        schema = ServingSchema.load(self._schema_folder)
        if schema.entity_key_serialization_version != _KEY_VERSION:
            raise FeatureStoreError(
                f"the online store's keys are of version {schema.entity_key_serialization_version}, this client reads"
                f" version {_KEY_VERSION}"
            )
        self._layouts = schema.by_layout()
        self._schema = schema
        return schema
