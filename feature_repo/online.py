"""The online side of a materialisation: the newest row of every user goes into the store, and everyone else is removed.

Feast's stores disagree about late and repeated rows, so the rows are settled before they are written: one for each
user, the newest that is not after `as_of`.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feature_repo.definitions import SERVING_FIELD, TIMESTAMP, Definitions
from feature_repo.online_stores import OnlineWriter
from recommender.errors import ContractError
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import pack

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore

USERS_PER_BATCH = 5_000
"""Users written at once. Chosen by hand to bound memory: Feast turns each value of a batch into a protobuf message."""


def newest_rows(users: Path, as_of: datetime) -> "pa.Table":
    """Each user's newest row that is not after `as_of`, sorted by user, with all columns of the file `users`.

    Raises:
        ContractError: a user has two rows of one moment, so which of them holds cannot be known; names user and moment.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    keys = pq.read_table(users, columns=["user_id", TIMESTAMP])
    twice = keys.group_by(["user_id", TIMESTAMP]).aggregate([([], "count_all")]).filter(pc.field("count_all") > 1)
    if twice.num_rows:
        raise ContractError(users.name, "two rows of one user at one moment", row=twice.slice(0, 1).to_pylist()[0])
    keys = keys.append_column("row", pa.array(np.arange(keys.num_rows)))
    keys = keys.filter(pc.field(TIMESTAMP) <= pa.scalar(as_of, pa.timestamp("us", tz="UTC")))
    keys = keys.sort_by([("user_id", "ascending"), (TIMESTAMP, "descending")])
    users_N = keys["user_id"].combine_chunks()
    first_N = np.ones(len(users_N), dtype=bool)
    if len(users_N) > 1:
        first_N[1:] = pc.not_equal(users_N.slice(1), users_N.slice(0, len(users_N) - 1)).to_numpy(zero_copy_only=False)
    return pq.read_table(users).take(keys["row"].to_numpy()[first_N])


def shoppers_of(rows: "pa.Table", names: tuple[str, ...]) -> Iterator[Shopper]:
    """The rows of a users table as shoppers with the portrait columns `names`. A null number is NaN."""
    portrait_NP = np.column_stack([rows[name].to_numpy().astype(np.float32, copy=False) for name in names])
    times_N = rows[TIMESTAMP].to_numpy().astype("datetime64[us]").astype(np.int64)
    columns = zip(rows["user_id"].to_pylist(), rows["affinity"].to_pylist(), rows["history"].to_pylist(), strict=True)
    for row, (user_id, affinity, history) in enumerate(columns):
        yield Shopper(user_id, portrait_NP[row], names, affinity, history, int(times_N[row]))


def packed_rows(rows: "pa.Table", names: tuple[str, ...]) -> "pa.Table":
    """One packed value for each user: the offline rows of the view that serving reads."""
    import pyarrow as pa

    # One chunk of plain binary, which is what Feast reads, ends at 2 GiB: about 120,000 users of 17.9 KB.
    packed = pa.array([pack(shopper) for shopper in shoppers_of(rows, names)], pa.large_binary()).cast(pa.binary())
    return pa.table({"user_id": rows["user_id"], TIMESTAMP: rows[TIMESTAMP], SERVING_FIELD: packed})


def write_online(store: "FeatureStore", definitions: Definitions, rows: "pa.Table", packed: "pa.Table") -> None:
    """Write every user's row into every online view, and into the view that serving reads last.

    `FeatureStore.write_to_online_store` would leave out a view whose values are all missing, and so keep an older
    run's values.
    """
    for view in definitions.online_views:
        source = packed if view is definitions.serving_view else rows
        columns = source.select(["user_id", TIMESTAMP, *(field.name for field in view.features)])
        for start in range(0, columns.num_rows, USERS_PER_BATCH):
            store.provider.ingest_df(view, columns.slice(start, USERS_PER_BATCH).to_pandas())


def forget_others(
    store: "FeatureStore", writer: OnlineWriter, definitions: Definitions, user_ids: Iterable[str]
) -> int:
    """Remove everyone who is not among `user_ids` from the online store, and return how many rows or users went."""
    return writer.forget_others(store, definitions, {_entity_key(user_id) for user_id in user_ids})


def _entity_key(user_id: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)])
    # 3, as in feature_store.yaml and `serving.online_store.feast_format.KEY_VERSION`.
    return bytes(serialize_entity_key(key, entity_key_serialization_version=3))
