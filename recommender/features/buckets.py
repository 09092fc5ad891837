"""Out of core: the users of a shop in buckets, computed one after the other, so that memory does not grow with the log.

The work is in three parts, each of which has one function:

    shared_of(source, named, look_weights, taxonomy_version=…) -> Shared    `features.shared`, once for the whole shop
    rows_of_users(source_of_users(backend, shared, rows), shared, scratch)  `features.users`, once for each bucket
        -> UserRows(users, pairs, facts)
    together(tables, keys) -> parts of the sorted whole                     here, once for each file

A bucket has the users whose CRC-32 of the UTF-8 identifier leaves its number as the remainder of a division by the
number of buckets, on every engine. `rows` are the bucket's rows of users, events, targets and participations, with
the columns of the canonical tables, as tables of one Ibis backend (`ibis.memtable` makes one from Arrow). `Shared` can
be pickled. The output is sorted by its key, and `together` writes parts of one size, so the bytes of the files do not
depend on the number of buckets.

What is left to the caller (`features.build`) reads the pairs of all users: the segment `activity`, and what to expect
of newcomers. For those `rows_of_users` returns the pairs, some forty bytes each in memory. The numbers of facts compare
each user with all others, so `facts.numbers_of_shop` computes them for the whole shop, one row a user.

Computed twice on purpose, where there is more than one bucket: the purchase lines with their place in the taxonomy,
once for demand and popularity, and once in the bucket. The events are also written once more, sorted into buckets.
"""

import mmap
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recommender.features.shared import Shared
from recommender.features.source import Source

OF_USERS = ("users", "events", "targets", "participations")
"""Tables that have rows of users."""
BUCKET_EVENTS = 10_000_000
"""Events of a bucket, about. By hand: ten million take 2.4 GiB with everything that is computed from them."""
PART_ROWS = 65_536
"""Rows that are in memory at once when a file is written, and rows of a row group. By hand: some 200 MB."""


def buckets_of(user_ids: pa.Array | pa.ChunkedArray, num_buckets: int) -> NDArray[np.int32]:
    """The bucket of each user."""
    return np.array([zlib.crc32(user_id.encode()) % num_buckets for user_id in user_ids.to_pylist()], dtype=np.int32)


def num_buckets_for(source: Source) -> int:
    """As many buckets as the log needs: one for `BUCKET_EVENTS` events."""
    return 1 + int(source.table("events").count().to_pyarrow().as_py()) // BUCKET_EVENTS


def source_of_users(backend: Any, shared: Shared, rows: Mapping[str, ir.Table]) -> Source:
    """A source that has only some users. `rows`: all their rows of `OF_USERS`."""
    return Source(shared.tables, backend, shared.as_of, rows=rows, shop=shared.shop)


def sources_of(source: Source, shared: Shared, num_buckets: int, spill: Path) -> Iterator[Source]:
    """The users of each bucket that has any. The tables are read once, and each bucket's copy goes when it is done.

    Args:
        source: all users. It stands for the only bucket if there is no other.
        shared: what they have in common.
        num_buckets: how many.
        spill: folder for the copies.
    """
    if num_buckets == 1:
        yield source
        return
    listed = source.table("users").select("user_id").to_pyarrow()["user_id"]
    of_user = pa.table({"user_id": listed, "bucket": buckets_of(listed, num_buckets)})
    present = [name for name in OF_USERS if source.tables.has(name)]
    for name in present:
        _sort_into_buckets(source, name, of_user, spill / name)
    for bucket in sorted(set(of_user["bucket"].to_pylist())):
        folders = {name: spill / name / f"bucket={bucket}" for name in present}
        # A bucket without a row of a table has no folder.
        rows = {
            name: source.backend.read_parquet(folder / "*.parquet", table_name=f"bucket_{bucket}_{name}")
            if folder.is_dir()
            else source.table(name).limit(0)
            for name, folder in folders.items()
        }
        yield source_of_users(source.backend, shared, rows)
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _sort_into_buckets(source: Source, name: str, of_user: pa.Table, folder: Path) -> None:
    """Write a table's rows into a folder for each bucket. What refers to an unknown user is in none."""
    table = source.table(name)
    if name == "events":
        table = table.drop("event_id")  # as long as all the rest, and no feature reads it
    source.backend.to_parquet(table.inner_join(ibis.memtable(of_user), "user_id"), folder, partition_by="bucket")


@dataclass(frozen=True, eq=False)
class Rows:
    """The tables of each bucket. Those of users and facts are mapped from files, if there is more than one bucket."""

    users: list[pa.Table] = field(default_factory=list)
    pairs: list[pa.Table] = field(default_factory=list)
    facts: list[pa.Table] = field(default_factory=list)
    maps: list[mmap.mmap] = field(default_factory=list)
    """The files of the tables that are mapped."""

    def kept(self, table: pa.Table, file: Path) -> pa.Table:
        """Move a table from memory to a file, from which it is mapped."""
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self.maps.append(mapped)
        return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()

    def let_go(self) -> None:
        """Free the memory of the mapped files. What is read again comes from the files."""
        for mapped in self.maps:
            mapped.madvise(mmap.MADV_DONTNEED)


def together(
    tables: Sequence[pa.Table], keys: Sequence[str], after_part: Callable[[], None] = lambda: None
) -> Iterator[pa.Table]:
    """The rows of tables that are sorted by their keys, in the order of the whole, in parts of `PART_ROWS`.

    Only a part is in memory at once, if `after_part` is `Rows.let_go` and the tables are mapped. Each is contiguous, so
    its bytes do not tell of how many tables it came.
    """
    columns = pa.concat_tables([table.select(list(keys)) for table in tables])
    listed = columns.append_column(
        "table", pa.array(np.repeat(np.arange(len(tables)), [len(table) for table in tables]))
    )
    order = pc.sort_indices(listed, sort_keys=[(name, "ascending") for name in keys]).to_numpy()
    table_N = listed["table"].to_numpy()[order]
    taken = np.zeros(len(tables), dtype=np.int64)
    for first in range(0, max(len(order), 1), PART_ROWS):
        of_part = table_N[first : first + PART_ROWS]
        counts = np.bincount(of_part, minlength=len(tables))
        slices = [table.slice(start, count) for table, start, count in zip(tables, taken.tolist(), counts, strict=True)]
        # Each table is in order, so the part has its next rows. Their places in the part are known.
        places = np.argsort(np.argsort(of_part, kind="stable"), kind="stable")
        rows = pa.concat_tables(slices).combine_chunks()
        yield rows if len(tables) == 1 else rows.take(pa.array(places))
        taken += counts
        after_part()
