"""PostgreSQL as the materialise step writes it."""

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from feature_repo.definitions import Definitions
from feature_repo.idle_tails import Shorten, Trimmed, trim_postgres
from recommender.errors import FeatureStoreError, StoreAway
from recommender.events.postgres import statements
from recommender.secrets import secret
from recommender.settings import Settings

if TYPE_CHECKING:
    import psycopg
    from feast import FeatureStore, FeatureView

CONNECT_S = 5
"""How long connecting may take. Chosen by hand: the server answers within milliseconds."""
SCHEMA = "public"
"""The schema of Feast's tables, its own default."""
_REFUSALS = ("password authentication failed", "no password supplied", "does not exist", "pg_hba.conf", "not permitted")
"""What the server says when it refuses a connection for good. libpq gives no code for these."""


class PostgresWriter:
    """A database of a PostgreSQL server, in which the user may create tables."""

    environments: tuple[str, ...] = ("staging",)

    def config(self, settings: Settings) -> dict[str, Any]:
        """Feast's `online_store` block."""
        address = settings.store.postgres
        return {
            "type": "feature_repo.ordered_stores.OrderedPostgresOnlineStore",
            "host": address.host,
            "port": address.port,
            "database": address.database,
            "db_schema": SCHEMA,
            "user": address.user,
            "password": secret("postgres_password") or "",
            "sslmode": address.sslmode,
            "sslrootcert_path": address.sslrootcert,
        }

    def check(self, settings: Settings) -> None:
        """Ask the server whether it answers, accepts the password and lets the user create tables.

        Raises:
            StoreAway: it does not answer now.
            FeatureStoreError: it refuses the password, the database or the user, or cannot be written.
        """
        with self.reached(settings), _connected(settings) as connection:
            row = connection.execute(
                "SELECT pg_is_in_recovery(), has_schema_privilege(%s, 'CREATE')", (SCHEMA,)
            ).fetchone()
        assert row is not None
        is_replica, may_create = row
        if is_replica:
            raise FeatureStoreError(
                f"store.postgres_url: {settings.store.postgres.host} is a replica, which cannot be written; "
                "name the primary"
            )
        if not may_create:
            raise FeatureStoreError(
                f"store.postgres_url: user {settings.store.postgres.user} may not create tables in the schema "
                f"{SCHEMA} of {settings.store.postgres.database}; make the user the database's owner"
            )

    @contextmanager
    def reached(self, settings: Settings) -> Iterator[None]:
        """Turn the client's errors into ours: away for a moment, or refused.

        Raises:
            StoreAway: the server does not answer, is starting, or has no connection left.
            FeatureStoreError: it refuses the password or a command.
        """
        import psycopg

        where = f"PostgreSQL at {settings.store.postgres}"
        try:
            yield
        except psycopg.OperationalError as error:
            problem = _one_line(error)
            if "password" in problem:
                has_one = secret("postgres_password") is not None
                wanted = "is wrong" if has_one else "is missing, but the server asks for a password"
                raise FeatureStoreError(
                    f"{where}: the secret postgres_password {wanted} ({problem}); put the user's password into the key "
                    "postgres_password of the Secret that cluster.store_secret names"
                ) from None
            if any(words in problem for words in _REFUSALS):
                raise FeatureStoreError(
                    f"{where}: refuses the connection ({problem}); check store.postgres_url"
                ) from None
            raise StoreAway(
                f"{where}: no answer ({problem}); check store.postgres_url, and that the server runs and may be reached"
            ) from None
        except psycopg.Error as error:
            raise FeatureStoreError(
                f"{where}: refuses a command ({_one_line(error)}); check the rights of its user"
            ) from None

    def prepare(self, settings: Settings) -> None:
        """Make the tables of users' events, which a read looks into with a user's row."""
        with self.reached(settings), _connected(settings) as connection:
            for statement in statements(settings.store.project):
                connection.execute(statement.encode())

    def forget_others(self, store: "FeatureStore", definitions: Definitions, kept: Set[bytes]) -> int:
        """Remove the rows of other users, and return their number."""
        from psycopg import sql

        online: Any = store.provider.online_store
        with online._get_conn(store.config) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE kept (entity_key bytea PRIMARY KEY) ON COMMIT DROP")
            with cursor.copy("COPY kept FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["bytea"])
                for key in kept:
                    copy.write_row((key,))
            cursor.execute(
                sql.SQL(
                    "DELETE FROM {} AS stored"
                    " WHERE NOT EXISTS (SELECT FROM kept WHERE kept.entity_key = stored.entity_key)"
                ).format(sql.Identifier(SCHEMA, f"{store.project}_{definitions.serving_view.name}"))
            )
            removed = int(cursor.rowcount)
            connection.commit()
        online.disconnect()
        return removed

    def forget_views(self, store: "FeatureStore", views: Sequence["FeatureView"]) -> None:
        """Nothing to do: no earlier version wrote other views into PostgreSQL."""

    def trim_tails(self, settings: Settings, store: "FeatureStore", shorten: Shorten) -> Trimmed:
        """Shorten the tails of all users."""
        with _connected(settings) as connection:
            connection.autocommit = True
            return trim_postgres(connection, settings.store.project, shorten)


def _connected(settings: Settings) -> "psycopg.Connection":
    import psycopg

    keywords = settings.store.postgres.keywords(secret("postgres_password"))
    return psycopg.connect(**keywords, connect_timeout=CONNECT_S)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
