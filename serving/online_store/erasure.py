"""Removes users from the online store: their rows, the events beside them, and what the store's files keep of both.

Works beside gateways that read and write. Each store is left so that no page, record or file of it holds the users:
SQLite is vacuumed, PostgreSQL's tables are rewritten, Redis' stream and files are written anew.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from recommender.errors import FeatureStoreError
from recommender.events.places import TAIL_FIELD, TAILS_TABLE
from recommender.events.postgres import seen_table, tails_table
from recommender.secrets import secret
from recommender.settings import Settings, choose
from recommender.storage.home import Home
from serving.online_store.feast_format import entity_key

if TYPE_CHECKING:
    import psycopg

JOIN_KEY = "user_id"
BUSY_S, RETRY_S = 30.0, 0.2
"""Seconds that SQLite waits for gateways, and between tries. By hand: their transactions take microseconds."""
FILES_S = 600.0
"""Seconds for Redis to write its files anew. By hand: a gigabyte takes some ten."""
WRITING = ("rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
"""What Redis' INFO says while it writes its files."""
CONNECT_S = 5
"""How long connecting may take. By hand."""


class Erasure(Protocol):
    """What removes users from one kind of store."""

    def find(self, users: Sequence[str]) -> dict[str, int]:
        """Part of the store -> how many of its records are about these users."""

    def remove(self, users: Sequence[str], event_ids: Sequence[str]) -> list[str]:
        """Remove them, and the ids of their events. Returns what of it could not be done, each in a sentence."""


def erasure_of(settings: Settings) -> Erasure:
    """What removes users from the store that the settings name."""
    kinds: Mapping[str, Callable[[Settings], Erasure]] = {
        "sqlite": SqliteErasure,
        "redis": RedisErasure,
        "postgres": PostgresErasure,
    }
    return choose(kinds, settings.store.kind, "store.kind")(settings)


class SqliteErasure:
    """Feast's file of rows, and the file of events beside it."""

    def __init__(self, settings: Settings) -> None:
        folder = Home.of(settings).feature_store
        self._rows, self._tails = folder.online_database, folder.event_tails

    def find(self, users: Sequence[str]) -> dict[str, int]:
        """Rows and tails of these users."""
        found = {"rows": 0, "events beside them": 0}
        if self._rows.is_file():
            with self._opened(self._rows) as connection:
                for table in _tables_of_keys(connection):
                    asked = f'SELECT count(*) FROM "{table}" WHERE entity_key = ?'
                    found["rows"] += sum(connection.execute(asked, (key,)).fetchone()[0] for key in _keys(users))
        if self._tails.is_file():
            with self._opened(self._tails) as connection:
                asked = f"SELECT count(*) FROM {TAILS_TABLE} WHERE user_id = ?"
                found["events beside them"] = sum(connection.execute(asked, (user,)).fetchone()[0] for user in users)
        return found

    def remove(self, users: Sequence[str], event_ids: Sequence[str]) -> list[str]:
        """Delete them, and write both files without their free pages."""
        if self._rows.is_file():
            with self._opened(self._rows) as connection:
                for table in _tables_of_keys(connection):
                    connection.executemany(
                        f'DELETE FROM "{table}" WHERE entity_key = ?', [(key,) for key in _keys(users)]
                    )
                _vacuum(connection, str(self._rows))
        if self._tails.is_file():
            with self._opened(self._tails) as connection:
                connection.executemany(f"DELETE FROM {TAILS_TABLE} WHERE user_id = ?", [(user,) for user in users])
                connection.executemany("DELETE FROM seen WHERE event_id = ?", [(one,) for one in event_ids])
                _vacuum(connection, str(self._tails))
        return []

    @contextmanager
    def _opened(self, path: Any) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise FeatureStoreError(f"{path}: users cannot be removed ({error}); run it again") from None


def _keys(users: Sequence[str]) -> list[bytes]:
    return [entity_key(JOIN_KEY, user) for user in users]


def _tables_of_keys(connection: sqlite3.Connection) -> list[str]:
    asked = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = ?"
    return [name for (name,) in connection.execute(asked, ("entity_key",))]


def _vacuum(connection: sqlite3.Connection, name: str) -> None:
    """Write the file anew, without what was deleted, and empty its write-ahead log."""
    connection.execute("VACUUM")
    deadline = time.monotonic() + BUSY_S
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:  # a reader has not ended meanwhile
            raise FeatureStoreError(f"{name}: a reader keeps its write-ahead log from being emptied; run it again")
        time.sleep(RETRY_S)


# Streams keep deleted entries in their blocks, and with them in Redis' files. So the stream is made again without them.
# Groups of readers go on where they were; what they had not acknowledged yet is not kept.
WITHOUT = b"""
local gone, kept, removed = {}, {}, 0
for _, user in ipairs(ARGV) do gone[user] = true end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  local known, event = pcall(cjson.decode, entry[2][2])
  if known and type(event) == 'table' and gone[event['user_id']] then removed = removed + 1
  else kept[#kept + 1] = entry end
end
if removed == 0 then return 0 end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
local last = '0-0'
for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
redis.call('DEL', KEYS[1])
for _, entry in ipairs(kept) do redis.call('XADD', KEYS[1], entry[1], unpack(entry[2])) end
for _, group in ipairs(groups) do
  local name, at
  for i = 1, #group, 2 do
    if group[i] == 'name' then name = group[i + 1] end
    if group[i] == 'last-delivered-id' then at = group[i + 1] end
  end
  redis.call('XGROUP', 'CREATE', KEYS[1], name, at, 'MKSTREAM')
end
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('XSETID', KEYS[1], last) end
return removed
"""
COUNT = b"""
local gone, found = {}, 0
for _, user in ipairs(ARGV) do gone[user] = true end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
  local known, event = pcall(cjson.decode, entry[2][2])
  if known and type(event) == 'table' and gone[event['user_id']] then found = found + 1 end
end
return found
"""


class RedisErasure:
    """The hash of each user, the stream of events, and the server's own files."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._project = settings, settings.store.project.encode()

    def find(self, users: Sequence[str]) -> dict[str, int]:
        """Rows and tails of these users, and entries of the stream."""
        with self._reached() as client:
            rows = tails = 0
            for key in self._hashes(users):
                tails += int(client.hexists(key, TAIL_FIELD))
                rows += int(client.exists(key))
            stream = client.eval(COUNT.decode(), 1, self._stream, *users)
        return {"rows": rows, "events beside them": tails, "entries of the stream": int(stream)}

    def remove(self, users: Sequence[str], event_ids: Sequence[str]) -> list[str]:
        """Delete them, and let the server write its files anew."""
        with self._reached() as client:
            for key in self._hashes(users):
                client.unlink(key)
            for event_id in event_ids:
                client.unlink(self._project + b":event:" + event_id.encode())
            client.eval(WITHOUT.decode(), 1, self._stream, *users)
            return self._rewrite(client)

    @property
    def _stream(self) -> bytes:
        return self._project + b":events"

    def _hashes(self, users: Sequence[str]) -> list[bytes]:
        return [key + self._project for key in _keys(users)]

    def _rewrite(self, client: Any) -> list[str]:
        """Write the append-only file and the snapshot anew, where the server has them and lets us."""
        import redis

        try:
            kept = client.info("persistence")
            snapshots = client.config_get("save")
            if kept.get("aof_enabled"):
                self._write(client, client.bgrewriteaof)
            if snapshots.get("save"):
                self._write(client, client.bgsave)
        except redis.exceptions.ResponseError as error:  # also a user without the right to such commands
            return [
                f"Redis refuses to write its files anew ({error}): its append-only file and snapshot keep the users "
                "until its own next rewrite (BGREWRITEAOF, BGSAVE)"
            ]
        return []

    def _write(self, client: Any, begin: Callable[[], object]) -> None:
        """Let the server write a file from what it holds now, and wait for the end.

        One that is being written already may hold the users, so it is waited for first.
        """
        import redis

        deadline = time.monotonic() + FILES_S
        self._wait(client, deadline)
        while True:
            try:
                begin()
                break
            except redis.exceptions.ResponseError as error:
                # The server began by itself just now.
                if "in progress" not in str(error):
                    raise
                self._wait(client, deadline)
        self._wait(client, deadline)

    def _wait(self, client: Any, deadline: float) -> None:
        while any(client.info("persistence").get(flag) for flag in WRITING):
            if time.monotonic() > deadline:
                raise FeatureStoreError(f"Redis has not written its files anew after {FILES_S:.0f} s; run it again")
            time.sleep(RETRY_S)

    @contextmanager
    def _reached(self) -> Iterator[Any]:
        import redis

        address = self._settings.store.redis_url
        client = redis.Redis.from_url(address, password=secret("redis_password"), socket_connect_timeout=CONNECT_S)
        try:
            with closing(client):
                yield client
        except redis.RedisError as error:
            raise FeatureStoreError(f"{address}: users cannot be removed ({error}); run it again") from None


class PostgresErasure:
    """Feast's tables of the project, the table of tails, and that of the events' ids."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._project = settings, settings.store.project

    def find(self, users: Sequence[str]) -> dict[str, int]:
        """Rows and tails of these users."""
        with self._connected() as connection:
            rows = sum(
                self._counted(connection, f"SELECT count(*) FROM {table} WHERE entity_key = ANY(%s)", _keys(users))
                for table in self._tables_of_keys(connection)
            )
            asked = f"SELECT count(*) FROM {tails_table(self._project)} WHERE user_id = ANY(%s)"
            tails = self._counted(connection, asked, list(users)) if self._has_tails(connection) else 0
        return {"rows": rows, "events beside them": tails}

    def remove(self, users: Sequence[str], event_ids: Sequence[str]) -> list[str]:
        """Delete them, and write the tables anew. Reads wait meanwhile."""
        with self._connected() as connection:
            tables = self._tables_of_keys(connection)
            for table in tables:
                connection.execute(f"DELETE FROM {table} WHERE entity_key = ANY(%s)".encode(), (_keys(users),))
            if self._has_tails(connection):
                tails, seen = tails_table(self._project), seen_table(self._project)
                connection.execute(f"DELETE FROM {tails} WHERE user_id = ANY(%s)".encode(), (list(users),))
                connection.execute(f"DELETE FROM {seen} WHERE event_id = ANY(%s)".encode(), (list(event_ids),))
                tables += [tails, seen]
            for table in tables:
                connection.execute(f"VACUUM (FULL, ANALYZE) {table}".encode())
        return ["PostgreSQL's write-ahead log keeps them until its segments are recycled (at a later checkpoint)"]

    def _tables_of_keys(self, connection: "psycopg.Connection") -> list[str]:
        asked = (
            "SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = 'entity_key' "
            "AND starts_with(table_name, %s) ORDER BY 1, 2"
        )
        rows = connection.execute(asked, (f"{self._project}_",)).fetchall()
        # The name of another project may begin with ours: its users, of the same ids, are other ones.
        others = tuple(f"{other}_" for other in self._other_projects(connection))
        own = [(schema, table) for schema, table in rows if not table.startswith(others)]
        return [".".join('"' + part.replace('"', '""') + '"' for part in row) for row in own]

    def _other_projects(self, connection: "psycopg.Connection") -> list[str]:
        """Projects of this database whose names begin with ours. Each has a table of tails."""
        ending = tails_table("").strip('"')
        asked = "SELECT table_name FROM information_schema.tables WHERE starts_with(table_name, %s)"
        rows = connection.execute(asked, (f"{self._project}_",)).fetchall()
        names = {name.removesuffix(ending) for (name,) in rows if name.endswith(ending)}
        return sorted(names - {self._project})

    def _has_tails(self, connection: "psycopg.Connection") -> bool:
        row = connection.execute("SELECT to_regclass(%s)", (tails_table(self._project),)).fetchone()
        return row is not None and row[0] is not None

    @staticmethod
    def _counted(connection: "psycopg.Connection", asked: str, values: Sequence[object]) -> int:
        row = connection.execute(asked.encode(), (values,)).fetchone()
        return 0 if row is None else int(row[0])

    @contextmanager
    def _connected(self) -> Iterator["psycopg.Connection"]:
        import psycopg

        address = self._settings.store.postgres
        try:
            keywords = address.keywords(secret("postgres_password"))
            with psycopg.connect(**keywords, connect_timeout=CONNECT_S, autocommit=True) as connection:
                yield connection
        except psycopg.Error as error:
            problem = " ".join(str(error).split())
            raise FeatureStoreError(f"PostgreSQL at {address}: users cannot be removed ({problem})") from None
