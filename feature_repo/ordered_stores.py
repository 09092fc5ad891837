"""Feast's online stores with one rule for the order of rows, which Feast leaves to each store.

Feast's SQLite and PostgreSQL let an older row replace a newer one, and its Redis keeps a wrong row when the corrected
one has the same time. Here a row replaces the stored one unless it is older, in every store. A row from the future is
refused, because it would keep out every later one.

The rule holds for `FeatureStore.push`, `write_to_online_store` and `materialize`. The materialise step replaces what is
stored, whatever its time (`replace`): it settles the order itself, and an operator may go back to older features.
Reading the stored time and writing are two steps: of two pushes of one user at the same moment either may win.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from feast.infra.online_stores.postgres_online_store.postgres import PostgreSQLOnlineStore, PostgreSQLOnlineStoreConfig
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.infra.utils.postgres.connection_utils import _get_conn

from recommender.errors import FeatureStoreError

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.infra.online_stores.online_store import OnlineStore
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.repo_config import RepoConfig
    from psycopg import Connection

    Store = OnlineStore
else:
    Store = object

CLOCKS_DIFFER = timedelta(minutes=5)
"""How far ahead of this machine's clock a row may be. Chosen by hand: clocks of one cluster differ by seconds."""
Rows = list[tuple["EntityKey", dict[str, Any], datetime, datetime | None]]
"""Entity key, values by feature, event time and creation time, as Feast hands them to a store."""


class InOrder(Store):
    """Mixed into a Feast store: keeps out rows that are older than the stored one."""

    def online_write_batch(
        self, config: "RepoConfig", table: "FeatureView", data: Rows, progress: Callable[[int], Any] | None
    ) -> None:
        """Write the rows that are not older than what is stored.

        Raises:
            FeatureStoreError: a row lies in the future; nothing was written.
        """
        newest = _newest_of_each(data)
        # The features by name: Feast's PostgreSQL fails where none is named.
        names = [field.name for field in table.features]
        stored = self.online_read(config, table, [row[0] for row in newest], names)
        fresh = [
            row for row, (time, _) in zip(newest, stored, strict=True) if time is None or _utc(row[2]) >= _utc(time)
        ]
        if fresh:
            super().online_write_batch(config, table, fresh, None)  # type: ignore[safe-super]
        if progress:
            progress(len(data))

    def replace(self, config: "RepoConfig", table: "FeatureView", data: Rows) -> None:
        """Write the rows, whatever is stored."""
        super().online_write_batch(config, table, data, None)  # type: ignore[safe-super]


class OrderedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """The store's section of `feature_store.yaml`, a class that Feast requires of every online store."""

    type: str = "feature_repo.ordered_stores.OrderedSqliteOnlineStore"  # type: ignore[assignment]


class OrderedSqliteOnlineStore(InOrder, SqliteOnlineStore):
    """SQLite."""


class OrderedRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """The store's section of `feature_store.yaml`."""

    type: str = "feature_repo.ordered_stores.OrderedRedisOnlineStore"  # type: ignore[assignment]


class OrderedRedisOnlineStore(InOrder, RedisOnlineStore):
    """Redis."""


class OrderedPostgresOnlineStoreConfig(PostgreSQLOnlineStoreConfig):
    """The store's section of `feature_store.yaml`."""

    type: str = "feature_repo.ordered_stores.OrderedPostgresOnlineStore"  # type: ignore[assignment]


class OrderedPostgresOnlineStore(InOrder, PostgreSQLOnlineStore):
    """PostgreSQL, over one connection that is opened again when it was lost."""

    @contextmanager
    def _get_conn(self, config: "RepoConfig", autocommit: bool = False) -> Iterator["Connection"]:
        # Feast's own refuses every `type` but its own, and keeps a connection that was lost.
        if self._conn is None or self._conn.closed:
            self._conn = _get_conn(config.online_store)
        self._conn.set_autocommit(autocommit)
        try:
            yield self._conn
        except BaseException:
            self._conn.close()  # which ends the transaction, too
            raise

    def disconnect(self) -> None:
        """Close the connection. The next use opens another one."""
        if self._conn is not None:
            self._conn.close()


def _newest_of_each(data: Rows) -> Rows:
    """One row of each entity, the newest, and of rows of one moment the last."""
    latest = datetime.now(UTC) + CLOCKS_DIFFER
    newest: dict[bytes, Any] = {}
    for row in data:
        key, _, time, _ = row
        if _utc(time) > latest:
            names = ", ".join(value.string_val for value in key.entity_values)
            raise FeatureStoreError(f"online store: the row of {names!r} lies in the future ({_utc(time).isoformat()})")
        identity = key.SerializeToString(deterministic=True)
        if identity not in newest or _utc(newest[identity][2]) <= _utc(time):
            newest[identity] = row
    return [*newest.values()]


def _utc(time: datetime) -> datetime:
    """The moment with its zone: Feast's stores answer without one."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
