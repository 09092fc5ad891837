"""The online side of a materialisation: the newest row of every user goes into the store, and everyone else is removed.

Feast's stores disagree about late and repeated rows, so the rows are settled before they are written: one for each
user, the newest that is not after `as_of`. Rows are read, packed and written in batches, so memory does not grow with
their bytes.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feature_repo.definitions import SERVING_FIELD, TIMESTAMP, Definitions
from recommender.errors import ContractError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import pack

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore

USERS_PER_BATCH = 5_000
"""Users packed and written at once. Chosen by hand to bound memory: 100 MB of the largest rows seen, 20 KB each."""


def newest_rows(users: Path, as_of: datetime) -> NDArray[np.int64]:
    """Positions in the file `users` of each user's newest row that is not after `as_of`, ascending.

    Raises:
        ContractError: a user has two rows of one moment, so which of them holds cannot be known; names user and moment.
    """
    import duckdb

    # DuckDB spills to disk what does not fit, and reads only these columns.
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        twice = connection.execute(
            f"SELECT user_id, {TIMESTAMP} FROM read_parquet(?) GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1",
            [str(users)],
        ).fetchone()
        if twice is not None:
            row = dict(zip(("user_id", TIMESTAMP), twice, strict=True))
            raise ContractError(users.name, "two rows of one user at one moment", row=row)
        found = connection.execute(
            f"SELECT arg_max(file_row_number, {TIMESTAMP}) AS position FROM read_parquet(?, file_row_number = true)"
            f" WHERE {TIMESTAMP} <= ? GROUP BY user_id ORDER BY position",
            [str(users), as_of],
        ).fetchnumpy()
    return np.asarray(found["position"], dtype=np.int64)


def rows_at(users: Path, positions_N: NDArray[np.int64]) -> "Iterator[pa.Table]":
    """The rows of the file `users` at these ascending positions, a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = 0
    # With pre_buffer, its default, pyarrow keeps every byte that it has read until the end.
    for batch in pq.ParquetFile(users, pre_buffer=False).iter_batches(batch_size=USERS_PER_BATCH):
        first, last = np.searchsorted(positions_N, (start, start + batch.num_rows))
        if first < last:
            yield pa.Table.from_batches([batch]).take(positions_N[first:last] - start)
        start += batch.num_rows


def shoppers_of(rows: "pa.Table", names: tuple[str, ...]) -> Iterator[Shopper]:
    """The rows of a users table as shoppers with the portrait columns `names`. A null number is NaN."""
    portrait_NP = np.column_stack([rows[name].to_numpy().astype(np.float32, copy=False) for name in names])
    times_N = rows[TIMESTAMP].to_numpy().astype("datetime64[us]").astype(np.int64)
    columns = zip(rows["user_id"].to_pylist(), rows["affinity"].to_pylist(), rows["history"].to_pylist(), strict=True)
    for row, (user_id, affinity, history) in enumerate(columns):
        yield Shopper(user_id, portrait_NP[row], names, affinity, history, int(times_N[row]))


def write_packed(users: Path, positions_N: NDArray[np.int64], names: tuple[str, ...], output: Path) -> None:
    """Write one packed value for each user: the offline rows of the view that serving reads.

    Args:
        users: The users table.
        positions_N: The rows of it that count.
        names: The portrait's columns.
        output: The Parquet file to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    time = pa.timestamp("us", tz="UTC")
    schema = pa.schema([("user_id", pa.string()), (TIMESTAMP, time), (SERVING_FIELD, pa.binary())])
    with pq.ParquetWriter(output, schema) as writer:
        for rows in rows_at(users, positions_N):
            packed = pa.array([pack(shopper) for shopper in shoppers_of(rows, names)], pa.binary())
            writer.write_table(pa.table([rows["user_id"], rows[TIMESTAMP], packed], schema=schema))


def write_online(store: "FeatureStore", definitions: Definitions, packed: Path) -> set[bytes]:
    """Write every user's packed value into the view that serving reads, and return the users' entity keys."""
    import pyarrow.parquet as pq
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    online: Any = store.provider.online_store
    kept: set[bytes] = set()
    for batch in pq.ParquetFile(packed, pre_buffer=False).iter_batches(batch_size=USERS_PER_BATCH):
        user_ids, times, values = (batch.column(name).to_pylist() for name in ("user_id", TIMESTAMP, SERVING_FIELD))
        keys = [EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)]) for user_id in user_ids]
        messages = [{SERVING_FIELD: Value(bytes_val=value)} for value in values]
        rows = [(*row, None) for row in zip(keys, messages, times, strict=True)]
        online.replace(store.config, definitions.serving_view, rows)
        # 3, as in feature_store.yaml and `serving.online_store.feast_format.KEY_VERSION`.
        kept.update(serialize_entity_key(key, entity_key_serialization_version=3) for key in keys)
    return kept
