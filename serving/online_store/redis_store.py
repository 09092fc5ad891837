"""Feast's Redis online store.

HMGET <entity key><project> murmur3_32("<view>:<field>") _events
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from recommender.errors import FeatureStoreError
from recommender.events.places import TAIL_FIELD
from recommender.matching.packed_user import ServingSchema
from recommender.secrets import secret
from recommender.settings import Settings
from recommender.settings.online_store import RedisAddress
from serving.online_store.feast_format import entity_key, hash_field
from serving.online_store.stored import Stored

if TYPE_CHECKING:
    import redis


class RedisStore:
    """Reads the hashes with one connection per thread and one per event loop, reconnected after a failure.

    A read is never retried.

    A socket's time-out starts anew with every byte that arrives. Each read therefore also has a deadline, after which
    `abandon_late` shuts its connection.
    """

    def __init__(self, address: RedisAddress, timeout_s: float) -> None:
        # Imported here and not in the first read, because importing takes longer than a read may.
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        from serving.online_store.redis_pipeline import Pipeline

        self._timeout_s = timeout_s
        self._where, password = str(address), secret("redis_password")
        self._pipeline = Pipeline(address, password, timeout_s)
        self._connect: Callable[[], redis.Connection] = partial(
            redis.SSLConnection if address.encrypted else redis.Connection,
            host=address.host,
            port=address.port,
            db=address.db,
            username=address.user,
            password=password,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        # The parser raises ValueError or AttributeError when another thread shuts its connection during a read.
        self._failures = (redis.RedisError, OSError, ValueError, AttributeError)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._deadlines: dict[redis.Connection, float] = {}

    @classmethod
    def of(cls, settings: Settings) -> "RedisStore":
        """The store of these settings, which connects with its first read."""
        return cls(settings.store.redis, settings.serving.store_deadline_ms / 1_000)

    def fetch(self, schema: ServingSchema, user_id: str, *, waits: bool = True) -> Stored:
        """What the store holds of the user.

        Raises:
            FeatureStoreError: Redis cannot be reached, is late, or answers something else; names host and port.
        """
        connection = self._connection()
        key = entity_key(schema.join_key, user_id) + schema.project.encode()
        with self._lock:
            self._deadlines[connection] = time.monotonic() + self._timeout_s
        try:
            field = hash_field(schema.view, schema.field)
            connection.send_command("HMGET", key, field, TAIL_FIELD)  # type: ignore[no-untyped-call]
            values = connection.read_response()  # type: ignore[no-untyped-call]
        except self._failures as error:
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise FeatureStoreError(f"Redis at {self._where}: the online store cannot be read ({error})") from None
        finally:
            with self._lock:
                del self._deadlines[connection]
        if not isinstance(values, list) or not all(value is None or isinstance(value, bytes) for value in values):
            raise FeatureStoreError(f"Redis at {self._where}: answered {type(values).__name__} where Feast keeps bytes")
        message, tail = values
        return Stored(message, tail or b"")

    async def fetch_async(self, schema: ServingSchema, user_id: str, within_s: float) -> Stored:
        """As `fetch`, on an event loop and in time.

        Raises:
            TimeoutError: Redis did not answer in time.
            FeatureStoreError: As of `fetch`.
        """
        key = entity_key(schema.join_key, user_id) + schema.project.encode()
        fields = (hash_field(schema.view, schema.field), TAIL_FIELD)
        message, tail = await self._pipeline.hmget(key, fields, within_s)
        return Stored(message, tail or b"")

    def abandon_late(self, now: float) -> None:
        """Shut the connections whose read had to end before `now` (monotonic seconds), which frees their threads."""
        with self._lock:
            for connection, deadline in self._deadlines.items():
                if deadline < now:
                    _shut(connection)

    def close(self) -> None:
        """Close the event loop's connection. Each thread's is closed when the thread ends."""
        self._pipeline.close()

    def _connection(self) -> "redis.Connection":
        connection: redis.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection


def _shut(connection: "redis.Connection") -> None:
    """Wake the thread that waits for this connection's socket, so that it closes the connection."""
    sock = connection._sock
    if sock is not None:
        with contextlib.suppress(OSError):  # already closed by the other end
            sock.shutdown(socket.SHUT_RDWR)
