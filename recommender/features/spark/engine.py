"""Spark as the engine of a build: it reads the tables, aggregates the shop, and computes users on the executors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from recommender.datasets.tables import Tables
from recommender.features.buckets import OF_USERS, Rows
from recommender.features.shared import Shared
from recommender.features.source import Source, checked
from recommender.features.spark import OnSpark
from recommender.features.spark.backend import SparkBackend
from recommender.features.spark.rows import NUMBERS, Job, file_of, written_buckets
from recommender.features.spark.session import session
from recommender.features.spark.tables import frames
from recommender.storage.ids import IdsFile


@dataclass(frozen=True, eq=False)
class SparkEngine:
    """Builds with one session."""

    source: Source
    """The tables as views of the session."""
    _session: SparkSession
    _frames: dict[str, DataFrame]
    _how: OnSpark
    _spill: Path
    _memory_limit: str | None

    def rows(self, shared: Shared, numbers: pa.Table | None) -> Rows:
        """Compute the rows of all users, a bucket in each task. `numbers`: those of facts, if facts are wanted."""
        sent = {name: self._frames[name] for name in OF_USERS if name in self._frames}
        sent["events"] = sent["events"].drop("event_id")  # as long as all the rest, and no feature reads it
        if numbers is not None:
            sent[NUMBERS] = self._session.createDataFrame(numbers)
        job = Job(
            shared=shared,
            schemas={name: to_arrow_schema(frame.schema) for name, frame in sent.items()},
            facts=None if numbers is None else numbers.schema.metadata,
            parts=self._how.parts,
            memory_limit=self._memory_limit,
        )
        written = written_buckets(self._session, sent, job, self._how.settings.buckets)
        return Rows(
            users=[self._mapped("users", bucket) for bucket in written],
            pairs=[self._mapped("pairs", bucket) for bucket in written],
            facts=[] if numbers is None else [self._mapped("facts", bucket) for bucket in written],
        )

    def _mapped(self, name: str, bucket: int) -> pa.Table:
        file = self._how.parts.read(file_of(name, bucket), self._spill)
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


@contextmanager
def spark_engine(
    tables: Tables,
    as_of: datetime,
    how: OnSpark,
    *,
    spill: Path,
    kept_ids: IdsFile | None,
    memory_limit: str | None,
) -> Iterator[SparkEngine]:
    """Start Spark, or join the one that runs this program, and read the tables with it.

    Args:
        tables: their manifest.
        as_of: the last decision's time.
        how: how Spark is started, and where it reads and writes.
        spill: folder for temporary files of this machine.
        kept_ids: as in `Source`.
        memory_limit: of DuckDB in each task, see `duckdb_backend`.

    Raises:
        ContractError: as `checked`.
    """
    with session(how.settings, spill) as started:
        found = frames(started, tables, how.tables)
        backend = SparkBackend.of(started, how.settings.buckets)
        for name, frame in found.items():
            frame.createOrReplaceTempView(name)
        rows = {name: backend.table(name) for name in found}
        try:
            source = checked(Source(tables, backend, as_of, kept_ids, rows=rows))
            yield SparkEngine(source, started, found, how, spill, memory_limit)
        finally:
            how.parts.remove()
