"""Settings of the online store: its kind, and the address of a Redis or a PostgreSQL server."""

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, field_validator

from recommender.settings.sections import Section

OnlineStoreName = Literal["sqlite", "redis", "postgres"]
"""Read by `serving.online_store.client.READERS`, written by `feature_repo.online_stores.WRITERS`."""
REDIS_PORT, POSTGRES_PORT = 6379, 5432
"""Their registered ports, for a URL that names none."""
_REDIS_FORM = "must be redis://host:port/db or rediss://host:port/db"
_POSTGRES_FORM = "must be postgresql://user@host:port/database"
_POSTGRES_OPTIONS = ("host", "sslmode", "sslrootcert")
"""What may follow `?`. `host` is the folder of a Unix socket."""
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True)
class RedisAddress:
    """Where Redis is, and who asks. Without the password, which is a secret."""

    host: str
    port: int
    db: int
    user: str | None
    encrypted: bool

    @classmethod
    def of(cls, url: str) -> "RedisAddress":
        """The parts of a URL.

        Raises:
            ValueError: it is no such URL or holds a password. Never repeats the URL.
        """
        try:
            parts = urlsplit(url)
            port = REDIS_PORT if parts.port is None else parts.port
        except ValueError:
            raise ValueError(f"{_REDIS_FORM}; the port is a number from 1 to 65535") from None
        if parts.password is not None:
            raise ValueError("must not hold a password; give it as the secret redis_password")
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or port == 0:
            raise ValueError(_REDIS_FORM)
        db = parts.path.strip("/") or "0"  # Redis' first database
        if not db.isdecimal():
            raise ValueError(f"{_REDIS_FORM}; the database must be a number (got {db!r})")
        user = unquote(parts.username) if parts.username else None
        return cls(parts.hostname, port, int(db), user, parts.scheme == "rediss")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class PostgresAddress:
    """Where PostgreSQL is, and who asks. Without the password, which is a secret."""

    host: str
    """A name, an address, or the folder of a Unix socket."""
    port: int
    database: str
    user: str
    sslmode: str = "prefer"
    """`prefer` is libpq's default: encrypted where the server offers it."""
    sslrootcert: str | None = None

    @classmethod
    def of(cls, url: str) -> "PostgresAddress":
        """The parts of a URL.

        Raises:
            ValueError: it is no such URL or holds a password. Never repeats the URL.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or POSTGRES_PORT
        except ValueError:
            raise ValueError(f"{_POSTGRES_FORM}; the port is a number from 1 to 65535") from None
        if parts.password is not None:
            raise ValueError("must not hold a password; give it as the secret postgres_password")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "password" in options:
            raise ValueError("must not hold a password; give it as the secret postgres_password")
        if unknown := [name for name in options if name not in _POSTGRES_OPTIONS]:
            known = ", ".join(_POSTGRES_OPTIONS)
            raise ValueError(f"{_POSTGRES_FORM}; unknown option {unknown[0]!r}, choose from {known}")
        host, database = options.get("host") or parts.hostname, unquote(parts.path.strip("/"))
        if parts.scheme != "postgresql" or not (host and database and parts.username) or parts.port == 0:
            raise ValueError(_POSTGRES_FORM)
        sslmode = options.get("sslmode", "prefer")
        if sslmode not in _SSL_MODES:
            raise ValueError(f"sslmode must be one of {', '.join(_SSL_MODES)} (got {sslmode!r})")
        return cls(host, port, database, unquote(parts.username), sslmode, options.get("sslrootcert"))

    def keywords(self, password: str | None) -> dict[str, Any]:
        """Libpq's parameters of a connection."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": password,
            "sslmode": self.sslmode,
            "sslrootcert": self.sslrootcert,
        }

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


class StoreSettings(Section):
    """The online store, which the materialise step writes and serving reads."""

    kind: OnlineStoreName = Field("sqlite", description="Which online store.")
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="redis:// or rediss://, with user@ before the host if there is a user. Never with a password: "
        "that is the secret `redis_password`.",
    )
    postgres_url: str = Field(
        "postgresql://recommender@127.0.0.1:5432/recommender",
        repr=False,
        description="postgresql://user@host:port/database, with ?sslmode=require where the server must be encrypted. "
        "Never with a password: that is the secret `postgres_password`.",
    )
    max_age_days: float | None = Field(
        None,
        gt=0,
        description="A user whose features are older at the decision is answered like an unknown one, and the answer "
        "is marked `features_expired`. None: features never expire. See also `serving.max_feature_age_s`.",
    )
    project: str = Field("campaigns", description="Feast's project, which is part of every key in the store.")

    @property
    def redis(self) -> RedisAddress:
        """The parts of `redis_url`."""
        return RedisAddress.of(self.redis_url)

    @property
    def postgres(self) -> PostgresAddress:
        """The parts of `postgres_url`."""
        return PostgresAddress.of(self.postgres_url)

    @field_validator("postgres_url")
    @classmethod
    def _is_postgres_url(cls, url: str) -> str:
        PostgresAddress.of(url)
        return url

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, url: str) -> str:
        RedisAddress.of(url)
        return url
