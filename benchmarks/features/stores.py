"""The three online stores on real servers, and users to fill them with."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recommender.settings import ServingSettings, Settings, StoreSettings
from recommender.storage.manifest import whole_folder, write_manifest

KINDS = ("sqlite", "redis", "postgres")
AS_OF = datetime(2017, 12, 31, 5, tzinfo=UTC)
BLOCK = 20_000
"""Users made at once, which bounds memory."""
PATIENT = ServingSettings(store_deadline_ms=60_000)
"""Time-outs that no read reaches: what is measured is the time that reads take."""


@contextmanager
def started(kind: str, folder: Path) -> Iterator[Settings]:
    """Settings of an empty store of this kind. The wheels of the `dev` extra hold the servers."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "redis":
        with servers().valkey(folder) as port:
            yield settings_in(folder, kind="redis", redis_url=f"redis://127.0.0.1:{port}/0")
    elif kind == "postgres":
        with servers().postgres() as socket:
            yield settings_in(folder, kind="postgres", postgres_url=f"postgresql://postgres@/postgres?host={socket}")
    else:
        yield settings_in(folder)


def servers() -> Any:
    """The tests' own way to start servers."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
    return __import__("servers")


def settings_in(folder: Path, **store: Any) -> Settings:
    """Settings of a home in `folder`, with a store that these settings describe."""
    return Settings(home=folder / "home", store=StoreSettings(**store), serving=PATIENT)


def feature_set(folder: Path, *, num_users: int, num_features: int, blob_bytes: int) -> Path:
    """Write a feature set of random users, each with one row at `AS_OF`.

    Args:
        folder: Where to.
        num_users: How many.
        num_features: float32 columns of the portrait.
        blob_bytes: Bytes of affinity and history together. Random, so that nothing compresses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from recommender.matching.affinity import AXES
    from recommender.matching.catalogue import Catalogue

    rng = np.random.default_rng(1)
    time = pa.timestamp("us", tz="UTC")
    names = [f"behaviour__f{index}" for index in range(num_features)]
    fields = [("user_id", pa.string()), ("event_timestamp", time), *((name, pa.float32()) for name in names)]
    schema = pa.schema([*fields, ("affinity", pa.binary()), ("history", pa.binary())])

    def blobs(count: int, size: int) -> pa.Array:
        offsets = pa.py_buffer((np.arange(count + 1, dtype=np.int32) * size).tobytes())
        return pa.BinaryArray.from_buffers(pa.binary(), count, [None, offsets, pa.py_buffer(rng.bytes(count * size))])

    with whole_folder(folder) as draft:
        with pq.ParquetWriter(draft / "users.parquet", schema, compression="none") as writer:
            for start in range(0, num_users, BLOCK):
                count = min(BLOCK, num_users - start)
                columns = [pa.array([f"user {start + row}" for row in range(count)])]
                columns.append(pa.array([AS_OF] * count, time))
                columns += [pa.array(rng.normal(size=count).astype(np.float32)) for _ in names]
                columns += [blobs(count, blob_bytes * 3 // 4), blobs(count, blob_bytes // 4)]
                writer.write_table(pa.table(columns, schema=schema))
        for entity in ("campaign", "item"):
            table = {f"{entity}_id": ["1"], "event_timestamp": pa.array([AS_OF], time)}
            pq.write_table(
                pa.table({**table, f"{entity}__size": pa.array([1.0], pa.float32())}), draft / f"{entity}s.parquet"
            )
        _catalogue(Catalogue, len(AXES)).save(draft / "catalogue")
        write_manifest(draft, as_of=AS_OF.isoformat())
    return folder


def _catalogue(cls: Any, num_axes: int) -> Any:
    """One item, one campaign: what the step wants beside users."""
    return cls(
        version="benchmark",
        item_ids=("", "1"),
        item_names=("", "milk"),
        item_axes_VA=np.array([[0] * num_axes, [1] * num_axes], dtype=np.int32),
        axis_values=(("", "a"),) * num_axes,
        item_popularity_V=np.array([0, 1], dtype=np.float32),
        campaign_ids=("1",),
        campaign_names=("one",),
        campaign_kinds=("coupon",),
        campaign_types=("A",),
        campaign_starts_C=np.array([0], dtype=np.int64),
        campaign_ends_C=np.array([1], dtype=np.int64),
        campaign_item_offsets=np.array([0, 1], dtype=np.int64),
        campaign_items=np.array([1], dtype=np.int32),
        campaign_features_CG=np.array([[1.0]], dtype=np.float32),
        campaign_feature_names=("campaign__size",),
        campaign_popularity_C=np.array([0.1], dtype=np.float32),
    )
