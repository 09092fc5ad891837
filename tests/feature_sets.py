"""Small feature sets in the layout that the features step writes, for tests of what comes after it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recommender.matching.affinity import AXES
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.packed_user import ServingSchema, unpack
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import whole_folder, write_manifest
from serving.online_store.client import OnlineStoreClient

AS_OF = datetime(2017, 12, 31, 5, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
KINDS = ("base", "behaviour", "interest", "consumption")


def times(moments: Sequence[datetime]) -> pa.Array:
    return pa.array(
        [(moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for moment in moments], TIME
    )


def users_table(user_ids: Sequence[str], moments: Sequence[datetime], *, features: int = 12, seed: int = 1) -> pa.Table:
    """One row for each (user, moment) given. Every seventh column has missing values, as NaN and as null."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {"user_id": pa.array(user_ids, pa.string()), "event_timestamp": times(moments)}
    for index in range(features):
        values = rng.normal(size=len(user_ids)).astype(np.float32)
        if index % 7 == 0:
            values[::3] = np.nan
        missing = np.zeros(len(user_ids), dtype=bool)
        missing[1::3] = index % 7 == 3
        columns[f"{KINDS[index * len(KINDS) // features]}__f{index}"] = pa.array(values, pa.float32(), mask=missing)
    columns["affinity"] = pa.array([rng.bytes(int(rng.integers(0, 400))) for _ in user_ids], pa.binary())
    columns["history"] = pa.array([rng.bytes(int(rng.integers(0, 90))) for _ in user_ids], pa.binary())
    return pa.table(columns)


def catalogue(*, version: str = "v1") -> Catalogue:
    """Two items, two campaigns."""
    return Catalogue(
        version=version,
        item_ids=("", "i1", "i2"),
        item_names=("", "milk", "bread"),
        item_axes_VA=np.array([[0] * len(AXES), [1] * len(AXES), [2] * len(AXES)], dtype=np.int32),
        axis_values=(("", "a", "b"),) * len(AXES),
        item_popularity_V=np.array([0, 2, 1], dtype=np.float32),
        campaign_ids=("c1", "c2"),
        campaign_names=("one", "two"),
        campaign_kinds=("coupon", "coupon"),
        campaign_types=("A", "B"),
        campaign_starts_C=np.array([0, 0], dtype=np.int64),
        campaign_ends_C=np.array([1, 1], dtype=np.int64),
        campaign_item_offsets=np.array([0, 1, 2], dtype=np.int64),
        campaign_items=np.array([1, 2], dtype=np.int32),
        campaign_features_CG=np.array([[1.0], [2.0]], dtype=np.float32),
        campaign_feature_names=("campaign__size",),
        campaign_popularity_C=np.array([0.1, 0.2], dtype=np.float32),
    )


def write_feature_set(
    folder: Path, users: pa.Table, *, decisions: Sequence[tuple[str, str, datetime]] = (), version: str = "v1"
) -> Path:
    """A whole feature set around `users`. `decisions` are (user, campaign, decided at) of `pairs.parquet`."""
    one = pa.array([1.0, 2.0], pa.float32())
    with whole_folder(folder) as draft:
        pq.write_table(users, draft / "users.parquet")
        for entity, ids in (("campaign", ["c1", "c2"]), ("item", ["i1", "i2"])):
            table = pa.table({f"{entity}_id": ids, "event_timestamp": times([AS_OF, AS_OF]), f"{entity}__size": one})
            pq.write_table(table, draft / f"{entity}s.parquet")
        pairs = {
            "user_id": pa.array([user for user, _, _ in decisions], pa.string()),
            "campaign_id": pa.array([campaign for _, campaign, _ in decisions], pa.string()),
            "decided_at": times([moment for _, _, moment in decisions]),
        }
        pq.write_table(pa.table(pairs), draft / "pairs.parquet")
        catalogue(version=version).save(draft / "catalogue")
        (draft / "schema.json").write_text(json.dumps({"as_of": AS_OF.isoformat()}))
        write_manifest(draft, as_of=AS_OF.isoformat())
    return folder


def shop(folder: Path, *, num_users: int = 40, features: int = 12, seed: int = 1, version: str = "v1") -> Path:
    """Users with rows 60 days before, 30 days before and at `AS_OF`, some of them targeted at those moments."""
    ids = [f"user {index}" for index in range(num_users)]
    moments = [AS_OF - timedelta(days=days) for days in (60, 30, 0)]
    users = users_table(ids * 3, [moment for moment in moments for _ in ids], features=features, seed=seed)
    decisions = [(user, campaign, moments[0]) for user in ids[::2] for campaign in ("c1", "c2")]
    decisions += [(user, "c2", moments[1] + timedelta(days=1, microseconds=123_457)) for user in ids[::3]]
    return write_feature_set(folder, users, decisions=decisions, version=version)


def read_shopper(client: OnlineStoreClient, settings: Settings, user_id: str) -> Shopper | None:
    """A user as the worker unpacks what the client read."""
    packed = client.read(user_id, timeout_s=5)
    schema = ServingSchema.load(Home.of(settings).feature_store.root)
    return None if packed is None else unpack(user_id, packed.content, schema.by_layout())
