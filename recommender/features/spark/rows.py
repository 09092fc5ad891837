"""Computes the rows of users on Spark's executors, a bucket of users in each task.

An executor gets the bucket's rows of the tables as Arrow and calls the function that computes them on one machine
(`features.users`), with a DuckDB of its own. It writes what it computed into files, which the driver maps. Through
Spark itself only the number of rows comes back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sf

from recommender.datasets.places import Place
from recommender.features.buckets import OF_USERS, source_of_users
from recommender.features.shared import Shared
from recommender.features.source import duckdb_backend
from recommender.features.users import rows_of_users
from recommender.storage.scratch import scratch_folder

NUMBERS = "numbers"
"""Name under which the numbers of facts travel, beside those of the tables."""
WRITTEN = "bucket int, users bigint, pairs bigint, facts bigint"
"""What a task returns: how many rows it wrote."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every task knows. It is pickled."""

    shared: Shared
    schemas: Mapping[str, pa.Schema]
    """Of each table that is sent."""
    facts: Mapping[bytes, bytes] | None
    """What the schema of the numbers of facts says of the whole shop. None: there are no facts."""
    parts: Place
    memory_limit: str | None

    def run(self, bucket: int, sent: Mapping[str, pa.Table]) -> tuple[int, int, int]:
        """Compute a bucket and write its files. Returns the number of rows of users, pairs and facts."""
        with scratch_folder("bucket") as folder:
            scratch = Path(folder)
            backend = duckdb_backend(threads=1, spill=scratch, memory_limit=self.memory_limit)
            rows = {name: ibis.memtable(sent[name]) for name in OF_USERS if name in sent}
            own = source_of_users(backend, self.shared, rows)
            numbers = None if self.facts is None else sent[NUMBERS].replace_schema_metadata(self.facts)
            found = rows_of_users(own, self.shared, scratch, numbers=numbers)
            written = {"users": found.users, "pairs": found.pairs, "facts": found.facts}
            for name, table in written.items():
                if table is not None:
                    file = scratch / f"{name}.arrow"
                    with pa.ipc.new_file(file, table.schema) as writer:
                        writer.write_table(table)
                    self.parts.write(file, file_of(name, bucket))
            return len(found.users), len(found.pairs), 0 if found.facts is None else len(found.facts)


def file_of(name: str, bucket: int) -> str:
    """Name of a bucket's file in the folder of parts."""
    return f"{name}-{bucket}.arrow"


def written_buckets(session: SparkSession, frames: Mapping[str, DataFrame], job: Job, buckets: int) -> list[int]:
    """Run a job on every bucket that has users, and return their numbers, in order.

    Args:
        session: what runs them.
        frames: tables with a column user_id.
        job: what each task does.
        buckets: how many there are.
    """
    bucket = sf.pmod(sf.crc32(sf.col("user_id").cast("binary")), sf.lit(buckets)).cast("int")
    whole: DataFrame | None = None
    for name, frame in frames.items():
        columns = sf.struct(*(sf.col(column) for column in frame.columns)).alias(name)
        tagged = frame.select(bucket.alias("bucket"), columns)
        whole = tagged if whole is None else whole.unionByName(tagged, allowMissingColumns=True)
    assert whole is not None
    sent = session.sparkContext.broadcast(job)

    def compute(rows: pa.Table) -> pa.Table:
        number, of = rows["bucket"][0].as_py(), sent.value
        tables = {name: _own(rows[name], of.schemas[name]) for name in of.schemas}
        users = tables["users"]["user_id"]
        if not len(users):
            return pa.table({"bucket": [], "users": [], "pairs": [], "facts": []}, schema=_WRITTEN_ARROW)
        # What refers to an unknown user is in no bucket.
        known = {name: table.filter(pc.is_in(table["user_id"], users)) for name, table in tables.items()}
        counts = of.run(number, known)
        return pa.table([[value] for value in (number, *counts)], schema=_WRITTEN_ARROW)

    done: Any = whole.groupBy("bucket").applyInArrow(compute, WRITTEN).collect()
    sent.destroy()
    return sorted(row["bucket"] for row in done)


_WRITTEN_ARROW = pa.schema(
    [("bucket", pa.int32()), ("users", pa.int64()), ("pairs", pa.int64()), ("facts", pa.int64())]
)


def _own(column: pa.ChunkedArray, schema: pa.Schema) -> pa.Table:
    """The rows of one table: those where its struct is there."""
    structs = column.filter(column.is_valid()).combine_chunks()
    return pa.table(structs.flatten(), names=[field.name for field in structs.type]).cast(schema)
