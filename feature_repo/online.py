"""The online side: the newest row of every user into the store, and nobody else in it.

Feast's stores disagree about late and repeated rows, so the rows are settled before they are written: one a user, the newest
that is not after `as_of`. What an earlier run wrote for users who are gone is removed afterwards.
"""

import sqlite3
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from feature_repo.definitions import SERVING_FIELD, TIMESTAMP, Definitions
from recommender.errors import ContractError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import pack

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore

USERS_A_BATCH = 5_000


def newest_rows(users: Path, as_of: datetime) -> "pa.Table":
    """Each user's newest row that is not after `as_of`, sorted by user; all columns of `users.parquet`.

    Raises:
        ContractError: two rows of one user at one moment: which of them is true cannot be known.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    keys = pq.read_table(users, columns=["user_id", TIMESTAMP])
    twice = keys.group_by(["user_id", TIMESTAMP]).aggregate([([], "count_all")]).filter(pc.field("count_all") > 1)
    if twice.num_rows:
        raise ContractError("users.parquet", "two rows of one user at one moment", row=twice.slice(0, 1).to_pylist()[0])
    keys = keys.append_column("row", pa.array(np.arange(keys.num_rows)))
    keys = keys.filter(pc.field(TIMESTAMP) <= pa.scalar(as_of, pa.timestamp("us", tz="UTC")))
    keys = keys.sort_by([("user_id", "ascending"), (TIMESTAMP, "descending")])
    users_N = keys["user_id"].combine_chunks()
    first_N = np.ones(len(users_N), dtype=bool)
    if len(users_N) > 1:
        first_N[1:] = pc.not_equal(users_N.slice(1), users_N.slice(0, len(users_N) - 1)).to_numpy(zero_copy_only=False)
    return pq.read_table(users).take(keys["row"].to_numpy()[first_N])


def shoppers_of(rows: "pa.Table", names: tuple[str, ...]) -> Iterator[Shopper]:
    """The rows of a users table as shoppers; a null number is NaN."""
    portrait_NP = np.column_stack([rows[name].to_numpy().astype(np.float32, copy=False) for name in names])
    times_N = rows[TIMESTAMP].to_numpy().astype("datetime64[us]").astype(np.int64)
    columns = zip(rows["user_id"].to_pylist(), rows["affinity"].to_pylist(), rows["history"].to_pylist(), strict=True)
    for row, (user_id, affinity, history) in enumerate(columns):
        yield Shopper(user_id, portrait_NP[row], names, affinity, history, int(times_N[row]))


def packed_rows(rows: "pa.Table", names: tuple[str, ...]) -> "pa.Table":
    """One packed value a user: the offline rows of the view that serving reads."""
    import pyarrow as pa

    packed = pa.array([pack(shopper) for shopper in shoppers_of(rows, names)], pa.large_binary()).cast(pa.binary())
    return pa.table({"user_id": rows["user_id"], TIMESTAMP: rows[TIMESTAMP], SERVING_FIELD: packed})


def write_online(store: "FeatureStore", definitions: Definitions, rows: "pa.Table", packed: "pa.Table") -> None:
    """Write every user's row into every online view; the view that serving reads last, so that it changes in one go.

    `FeatureStore.write_to_online_store` would leave out a view whose values are all missing, and so keep an older run's.
    """
    for view in definitions.online_views:
        source = packed if view is definitions.serving_view else rows
        columns = source.select(["user_id", TIMESTAMP, *(field.name for field in view.features)])
        for start in range(0, columns.num_rows, USERS_A_BATCH):
            store.provider.ingest_df(view, columns.slice(start, USERS_A_BATCH).to_pandas())


def forget_others(store: "FeatureStore", definitions: Definitions, user_ids: Iterable[str]) -> int:
    """Remove from the online store everyone who is not among `user_ids`, and columns that no view has any more.

    Returns how many rows (SQLite) or users (Redis) went.
    """
    keys = {_entity_key(user_id) for user_id in user_ids}
    if store.config.online_store.type == "sqlite":
        _let_go_of_sqlite(store)
        return _forget_in_sqlite(Path(store.config.online_store.path), store.project, definitions, keys)
    return _forget_in_redis(store, keys)


def prepare_sqlite(path: Path) -> None:
    """Let readers read while a run writes: write-ahead logging, which the file itself remembers."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _entity_key(user_id: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)])
    return bytes(serialize_entity_key(key, entity_key_serialization_version=3))


def _let_go_of_sqlite(store: "FeatureStore") -> None:
    """Feast never closes its connection, and as long as it is open the write-ahead log stays beside the file."""
    online: Any = store.provider.online_store
    if online._conn is not None:
        online._conn.close()
        online._conn = None


def _forget_in_sqlite(path: Path, project: str, definitions: Definitions, keys: set[bytes]) -> int:
    removed = 0
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        connection.execute("CREATE TEMP TABLE kept (entity_key BLOB PRIMARY KEY)")
        connection.executemany("INSERT INTO kept VALUES (?)", ((key,) for key in keys))
        for view in definitions.online_views:
            fields = [field.name for field in view.features]
            marks = ", ".join("?" * len(fields))
            removed += connection.execute(
                f'DELETE FROM "{project}_{view.name}"'
                f" WHERE entity_key NOT IN (SELECT entity_key FROM kept) OR feature_name NOT IN ({marks})",
                fields,
            ).rowcount
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return removed


def _forget_in_redis(store: "FeatureStore", keys: set[bytes]) -> int:
    from feast.infra.key_encoding_utils import serialize_entity_key_prefix

    client: Any = store.provider.online_store._get_client(store.config.online_store)
    prefix, project = serialize_entity_key_prefix(["user_id"]), store.project.encode()
    removed = 0
    for found in client.scan_iter(match=prefix + b"*" + project, count=1_000):
        value = found[len(prefix) :]
        (length,) = struct.unpack_from("<I", value, 4)
        # Another project's name may end like ours: only a key that is ours to the last byte counts.
        ours = value[8 + length :] == project
        if ours and found[: len(found) - len(project)] not in keys:
            removed += client.delete(found)
    return removed
