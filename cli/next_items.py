"""`next-items`: what each user of a file is likely to want next, by a next-item ranker that `benchmark sequences --save` wrote."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from recommender.datasets.interactions import read_histories
from recommender.errors import ContractError, SettingsError
from recommender.evaluation.leave_one_out import best_items
from recommender.registry.bundle import load_items
from recommender.storage.manifest import require_apart, require_writable, write_bytes


def write_next_items(
    bundle: Path,
    interactions: Path,
    output: Path,
    *,
    top: int,
    seen: bool = False,
    skip_unknown: bool = False,
    vectors: Path | None = None,
) -> None:
    """Write the `top` items that each user has not had (with `seen`: of all), best first: user, rank, item, score
    (Parquet or CSV, by the file's ending).

    `vectors`: a folder for items.parquet and users.parquet, a float32 `vector` each, whose inner product ranks as the ranker does but
    for what an item's bias adds.

    Raises:
        SettingsError: the file's ending is of neither, a place cannot be written to, or the ranker has no vectors.
        ContractError: the ranker sees the time between events, and the file has counters or years instead.
    """
    if output.suffix.lower() not in (".parquet", ".pq", ".csv"):
        raise SettingsError(f"--output {output}: neither Parquet nor CSV; end the name in .parquet or .csv")
    require_writable(output)
    beside = (vectors / "items.parquet", vectors / "users.parquet") if vectors is not None else ()
    require_apart((interactions, bundle), (output, *beside))
    if vectors is not None and vectors.exists() and not vectors.is_dir():
        raise SettingsError(f"--vectors {vectors}: this is a file; name a folder")
    ranker, items = load_items(bundle)
    vectors_VD = ranker.item_vectors()
    if vectors is not None and vectors_VD is None:
        raise SettingsError(f"--vectors: {ranker.name} has none; docs/models.md says which rankers do")
    users, histories, left_out = read_histories(interactions, items, skip_unknown=skip_unknown)
    hyper = ranker.config().get("hyper", {})
    if (hyper.get("timed") or hyper.get("trend")) and histories.times_T is not None and not histories.has_clock:
        raise ContractError(
            interactions.name,
            "these times are no clock's (none lies from 1990 to 2100), and the ranker was fitted on a clock's times",
        )
    rows_UN, scores_UN = best_items(ranker, histories, top, seen=seen)
    held_UN = rows_UN > 0
    places_R, ranks_R = held_UN.nonzero()
    table = pa.table(
        {
            "user": users[places_R],
            "rank": (ranks_R + 1).astype("int32"),
            "item": [items.ids[row - 1] for row in rows_UN[held_UN].tolist()],
            "score": scores_UN[held_UN],
        }
    )
    _write(table, output)
    print(f"{output}: {table.num_rows:,} rows, {len(users):,} users, by {ranker.name}")
    if left_out:
        none_left = int((histories.lengths_U == 0).sum())
        print(
            f"{left_out:,} events with unknown items were left out; {none_left:,} users have none left and get the popular items"
        )
    if done := int((~held_UN.any(axis=1)).sum()):
        print(f"{done:,} users have had every item and get no row")
    if vectors is not None and vectors_VD is not None:
        user_vectors_UD = ranker.user_vectors(histories)
        assert user_vectors_UD is not None
        _write(_vectors("item", list(items.ids), vectors_VD[1:]), vectors / "items.parquet")
        _write(_vectors("user", users, user_vectors_UD), vectors / "users.parquet")
        print(f"{vectors}: {len(items.ids):,} items and {len(users):,} users, {vectors_VD.shape[1]} numbers each")


def _write(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    write = pyarrow.csv.write_csv if path.suffix.lower() == ".csv" else pyarrow.parquet.write_table
    write(table, sink)
    write_bytes(path, sink.getvalue().to_pybytes())


def _vectors(name: str, ids: object, vectors_ND: NDArray[np.float32]) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(vectors_ND, dtype=np.float32).ravel())
    return pa.table({name: ids, "vector": pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1])})
