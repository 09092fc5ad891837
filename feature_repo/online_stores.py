"""Online stores as the materialise step writes them: their settings in Feast, and operations that Feast lacks.

Adding a store takes three files: a class and a line of `WRITERS` here, what reads it
(`serving.online_store.client.READERS`), and its name and address in `recommender.settings.StoreSettings`.
"""

import sqlite3
import struct
from collections.abc import Iterator, Sequence, Set
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from feature_repo.definitions import Definitions
from feature_repo.idle_tails import Shorten, Trimmed, trim_redis, trim_sqlite
from feature_repo.postgres_writer import PostgresWriter
from recommender.errors import FeatureStoreError, SettingsError, StoreAway
from recommender.events.places import TAIL_FIELD
from recommender.secrets import secret
from recommender.settings import Settings, choose
from recommender.settings.online_store import RedisAddress
from recommender.storage.home import Home

if TYPE_CHECKING:
    import redis
    from feast import FeatureStore, FeatureView

LOCK_WAIT_S = 30
"""How long SQLite waits for another writer's lock. Chosen by hand: the writes here are short transactions."""
CONNECT_S = 5.0
"""How long a check waits for the server. Chosen by hand: it answers within milliseconds."""
SCAN_COUNT = 1_000
"""Keys that Redis looks at in each round of SCAN. Chosen by hand: few rounds, each short for other clients."""


class OnlineWriter(Protocol):
    """Operations on an online store that the materialise step needs beside Feast's own writing."""

    environments: tuple[str, ...]
    """The folders of feature_repo/environments that go with this store. The first one is the default."""

    def config(self, settings: Settings) -> dict[str, Any]:
        """Feast's `online_store` block."""

    def check(self, settings: Settings) -> None:
        """Refuse a store that a run could not write to. Writes nothing."""

    def prepare(self, settings: Settings) -> None:
        """Make the store ready before a run writes to it."""

    def reached(self, settings: Settings) -> AbstractContextManager[None]:
        """A block that writes to the store. Its failures become errors that say what to do."""

    def forget_others(self, store: "FeatureStore", definitions: Definitions, kept: Set[bytes]) -> int:
        """Remove the users whose entity keys are not among `kept`, and return how many rows or users went."""

    def forget_views(self, store: "FeatureStore", views: Sequence["FeatureView"]) -> None:
        """Remove the values of these views that an earlier version wrote online. Does nothing where there are none."""

    def trim_tails(self, settings: Settings, store: "FeatureStore", shorten: Shorten) -> Trimmed:
        """Shorten the tails of all users."""


def writer_of(settings: Settings) -> OnlineWriter:
    """The writer of the store that `store.kind` names."""
    return choose(WRITERS, settings.store.kind, "store.kind")


class SqliteWriter:
    """One SQLite file below `home`."""

    environments: tuple[str, ...] = ("local",)

    def config(self, settings: Settings) -> dict[str, Any]:
        """Feast's `online_store` block."""
        return {
            "type": "feature_repo.ordered_stores.OrderedSqliteOnlineStore",
            "path": str(Home(settings.home.absolute()).feature_store.online_database),
        }

    def check(self, settings: Settings) -> None:
        """Nothing to check: whoever can write `home` can write the file."""

    def reached(self, settings: Settings) -> AbstractContextManager[None]:
        """Nothing to translate: a file is never away."""
        return nullcontext()

    def prepare(self, settings: Settings) -> None:
        """Switch the file to write-ahead logging for good, so that readers read while a run writes."""
        path = Home.of(settings).feature_store.online_database
        with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")

    def forget_others(self, store: "FeatureStore", definitions: Definitions, kept: Set[bytes]) -> int:
        """Remove the rows of other users, and return their number."""
        _close_feast_connection(store)
        path = Path(store.config.online_store.path)
        with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as connection, connection:
            connection.execute("CREATE TEMP TABLE kept (entity_key BLOB PRIMARY KEY)")
            connection.executemany("INSERT INTO kept VALUES (?)", ((key,) for key in kept))
            removed = connection.execute(
                f'DELETE FROM "{store.project}_{definitions.serving_view.name}"'
                " WHERE entity_key NOT IN (SELECT entity_key FROM kept)"
            ).rowcount
        with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed

    def forget_views(self, store: "FeatureStore", views: Sequence["FeatureView"]) -> None:
        """Drop their tables."""
        path = Path(store.config.online_store.path)
        if path.is_file() and views:
            with closing(sqlite3.connect(path, timeout=LOCK_WAIT_S)) as connection, connection:
                for view in views:
                    connection.execute(f'DROP TABLE IF EXISTS "{store.project}_{view.name}"')

    def trim_tails(self, settings: Settings, store: "FeatureStore", shorten: Shorten) -> Trimmed:
        """Shorten the tails of all users."""
        return trim_sqlite(Home.of(settings).feature_store.event_tails, shorten, LOCK_WAIT_S)


class RedisWriter:
    """A Redis server, which other applications may use too."""

    environments: tuple[str, ...] = ("staging",)

    def config(self, settings: Settings) -> dict[str, Any]:
        """Feast's `online_store` block.

        Raises:
            SettingsError: the secret `redis_password` cannot be expressed in Feast's connection string.
        """
        return {
            "type": "feature_repo.ordered_stores.OrderedRedisOnlineStore",
            "connection_string": redis_connection(settings.store.redis),
            "skip_dedup": True,  # the order of rows is settled before they come to Redis
        }

    def check(self, settings: Settings) -> None:
        """Ask the server whether it answers, accepts the password and can be written.

        Raises:
            StoreAway: it does not answer now.
            FeatureStoreError: it refuses the password, or is a replica that cannot be written.
        """
        import redis

        with self.reached(settings):
            client = redis.Redis.from_url(
                settings.store.redis_url,
                password=secret("redis_password"),
                socket_connect_timeout=CONNECT_S,
                socket_timeout=CONNECT_S,
            )
            with closing(client):
                client.ping()
                role = "master"
                with suppress(redis.exceptions.NoPermissionError):  # a user that may only write its own keys
                    role = str(client.info("replication")["role"])  # type: ignore[index]
        if role != "master":
            raise FeatureStoreError(
                f"store.redis_url: {settings.store.redis.host} is a replica, which cannot be written; name the master"
            )

    @contextmanager
    def reached(self, settings: Settings) -> Iterator[None]:
        """Turn the client's errors into ours: away for a moment, or refused.

        Raises:
            StoreAway: the server does not answer, or is still loading.
            FeatureStoreError: it refuses the password or a command.
        """
        import redis

        where = f"Redis at {settings.store.redis}"
        try:
            yield
        except redis.AuthenticationError as error:
            wanted = "is wrong" if secret("redis_password") else "is missing, but the server asks for a password"
            raise FeatureStoreError(
                f"{where}: the secret redis_password {wanted} ({error}); put the server's password into the key "
                f"redis_password of the Secret that cluster.store_secret names"
            ) from None
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise StoreAway(
                f"{where}: no answer ({error}); check store.redis_url, and that the server runs and may be reached"
            ) from None
        except redis.RedisError as error:
            raise FeatureStoreError(f"{where}: refuses a command ({error}); check the rights of its user") from None

    def prepare(self, settings: Settings) -> None:
        """Nothing to do: Redis needs no preparation."""

    def forget_others(self, store: "FeatureStore", definitions: Definitions, kept: Set[bytes]) -> int:
        """Remove other users of this project, each one hash for all views, and return their number."""
        online: Any = store.provider.online_store
        client, removed = online._get_client(store.config.online_store), 0
        for key in _redis_keys(client, store.project):
            # A newcomer's hash holds only a tail, which is no stale row: it hides campaigns.
            if key[: -len(store.project.encode())] not in kept and client.hkeys(key) != [TAIL_FIELD]:
                removed += client.delete(key)
        return removed

    def forget_views(self, store: "FeatureStore", views: Sequence["FeatureView"]) -> None:
        """Remove their fields from the hash of every user."""
        from feast.infra.online_stores.helpers import _mmh3

        online_views = [view for view in views if view.online]
        if not online_views:
            return
        online: Any = store.provider.online_store
        client = online._get_client(store.config.online_store)
        fields = [f"_ts:{view.name}".encode() for view in online_views]
        fields += [_mmh3(f"{view.name}:{field.name}") for view in online_views for field in view.features]
        for key in _redis_keys(client, store.project):
            client.hdel(key, *fields)

    def trim_tails(self, settings: Settings, store: "FeatureStore", shorten: Shorten) -> Trimmed:
        """Shorten the tails of all users."""
        online: Any = store.provider.online_store
        client = online._get_client(store.config.online_store)
        return trim_redis(client, _redis_keys(client, store.project), shorten)


WRITERS: dict[str, OnlineWriter] = {"sqlite": SqliteWriter(), "redis": RedisWriter(), "postgres": PostgresWriter()}
"""Online store (`store.kind`) -> what writes it."""


def redis_connection(address: RedisAddress) -> str:
    """Feast's connection string for an address, with the secret `redis_password`.

    Raises:
        SettingsError: the password holds a comma, which separates the parts of such a string.
    """
    options = [str(address), f"db={address.db}"]
    if address.encrypted:
        options.append("ssl=true")
    if address.user:
        options.append(f"username={address.user}")
    if password := secret("redis_password"):
        if "," in password:
            raise SettingsError(
                "the secret redis_password holds a comma, which Feast's connection string cannot express; "
                "choose another password"
            )
        # Feast reads each part as JSON where it can: digits alone would become a number.
        options.append(f'password="{password}"' if password.isdigit() else f"password={password}")
    return ",".join(options)


def _redis_keys(client: "redis.Redis", name: str) -> Iterator[bytes]:
    """The keys of this project's users."""
    from feast.infra.key_encoding_utils import serialize_entity_key_prefix

    prefix, project = serialize_entity_key_prefix(["user_id"]), name.encode()
    for key in client.scan_iter(match=prefix + b"*" + project, count=SCAN_COUNT):
        value = key[len(prefix) :]
        # A value is its type, its length (bytes 4 to 7) and the text itself; the project's name follows.
        (length,) = struct.unpack_from("<I", value, 4)
        # Another project's name may end like ours: only a key that is ours to the last byte counts.
        if value[8 + length :] == project:
            yield key


def _close_feast_connection(store: "FeatureStore") -> None:
    """Close Feast's own SQLite connection: as long as it is open, the write-ahead log stays beside the file."""
    online: Any = store.provider.online_store
    if online._conn is not None:
        online._conn.close()
        online._conn = None
