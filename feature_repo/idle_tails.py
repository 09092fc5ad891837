"""Takes from users' tails what their new rows have read, for the users whom nobody reads or writes meanwhile.

A gateway shortens a tail only when its user's next event comes. So a materialisation goes through all of them at its
end, some hundred at a time. A tail to which a gateway appends in the same moment is left for the next time.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recommender import logs
from recommender.errors import FeatureStoreError
from recommender.events.places import TAIL_FIELD, TAILS_TABLE
from recommender.events.postgres import tails_table

if TYPE_CHECKING:
    import psycopg
    import redis

log = logs.get(__name__)
AT_ONCE = 200
"""Tails in memory and in one transaction. By hand: at most 50 MB, and gateways wait a few milliseconds."""
_REPLACE = b"""
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
"""
Shorten = Callable[[bytes], bytes]
"""A tail -> what its user's row has not read of it."""


@dataclass
class Trimmed:
    """What was taken away, and what is left."""

    shorten: Shorten
    users: int = 0
    """Whose tails became shorter."""
    num_bytes: int = 0
    """By so much in all."""
    left_bytes: int = 0

    def changed(self, tails: Iterable[tuple[Any, bytes]]) -> list[tuple[Any, bytes, bytes]]:
        """Of these users' tails those that become shorter: user, tail, what is left of it."""
        found = []
        for user, tail in tails:
            try:
                kept = self.shorten(tail)
            except FeatureStoreError as error:
                # The answers of this user say so, until a person looks at it.
                log.warning("a tail of events is damaged and stays", user=str(user), problem=str(error))
                kept = tail
            self.left_bytes += len(kept)
            if kept != tail:
                self.users, self.num_bytes = self.users + 1, self.num_bytes + len(tail) - len(kept)
                found.append((user, tail, kept))
        return found


def trim_sqlite(path: Path, shorten: Shorten, wait_s: float) -> Trimmed:
    """Trim the tails in a SQLite file, if it is there."""
    trimmed = Trimmed(shorten)
    if not path.is_file():
        return trimmed
    with closing(sqlite3.connect(path, timeout=wait_s)) as connection:
        query = f"SELECT user_id, body FROM {TAILS_TABLE} WHERE user_id > ? ORDER BY user_id LIMIT {AT_ONCE}"
        for tails in _pages(lambda last: connection.execute(query, (last,)).fetchall()):
            changed = trimmed.changed((user, bytes(body)) for user, body in tails)
            with connection:
                gone = [(user, old) for user, old, kept in changed if not kept]
                connection.executemany(f"DELETE FROM {TAILS_TABLE} WHERE user_id = ? AND body = ?", gone)
                shorter = [(kept, user, old) for user, old, kept in changed if kept]
                connection.executemany(f"UPDATE {TAILS_TABLE} SET body = ? WHERE user_id = ? AND body = ?", shorter)
    return trimmed


def trim_postgres(connection: "psycopg.Connection", project: str, shorten: Shorten) -> Trimmed:
    """Trim the tails in the table of a PostgreSQL database. `connection` commits by itself."""
    trimmed, table = Trimmed(shorten), tails_table(project)
    query = f"SELECT user_id, body FROM {table} WHERE user_id > %s ORDER BY user_id LIMIT {AT_ONCE}".encode()
    for tails in _pages(lambda last: connection.execute(query, (last,)).fetchall()):
        changed = trimmed.changed((user, bytes(body)) for user, body in tails)
        with connection.transaction():
            for user, old, kept in changed:
                if kept:
                    shorter = f"UPDATE {table} SET body = %s WHERE user_id = %s AND body = %s"
                    connection.execute(shorter.encode(), (kept, user, old))
                else:
                    gone = f"DELETE FROM {table} WHERE user_id = %s AND body = %s"
                    connection.execute(gone.encode(), (user, old))
    return trimmed


def trim_redis(client: "redis.Redis", keys: Iterable[bytes], shorten: Shorten) -> Trimmed:
    """Trim the tails in the hashes of these users."""
    trimmed = Trimmed(shorten)
    left = iter(keys)
    while some := list(islice(left, AT_ONCE)):
        with client.pipeline(transaction=False) as asked:
            for key in some:
                asked.hget(key, TAIL_FIELD)  # type: ignore[arg-type]
            tails = asked.execute()
        with client.pipeline(transaction=False) as told:
            for key, old, kept in trimmed.changed((key, tail) for key, tail in zip(some, tails, strict=True) if tail):
                told.eval(_REPLACE, 1, key, TAIL_FIELD, old, kept)  # type: ignore[arg-type]
            told.execute()
    return trimmed


def _pages(page_after: Callable[[str], list[tuple[str, Any]]]) -> Iterator[list[tuple[str, Any]]]:
    """Pages of rows by user, as long as there are any."""
    last = ""
    while tails := page_after(last):
        yield tails
        last = tails[-1][0]
