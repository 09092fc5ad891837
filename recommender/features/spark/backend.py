"""Ibis' PySpark backend, exact where Ibis 12 goes through pandas.

What Ibis hands over to Spark or takes from it stays Arrow: whole numbers with nulls stay whole, and moments are UTC
with microseconds on both sides, as DuckDB has them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
from ibis import Schema
from ibis.backends.pyspark import Backend
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

from recommender.features.source import TIME_TYPE


class SparkBackend(Backend):
    """Runs Ibis expressions on Spark."""

    buckets: int
    """Into how many parts users are put."""

    @classmethod
    def of(cls, session: SparkSession, buckets: int) -> "SparkBackend":
        """The backend of a session."""
        cls.register_options()
        backend = cls().connect(session)
        assert isinstance(backend, cls)
        backend.buckets = buckets
        return backend

    def by_users(self, rows: ir.Table, compute: Callable[[pa.Table], bytes]) -> Iterator[bytes]:
        """What the executors compute from the rows of some users each.

        Args:
            rows: with a column user_id. All rows of a user come together.
            compute: can be pickled. Only what it returns comes to the driver.
        """
        self._run_pre_execute_hooks(rows)
        schema, place = rows.schema().to_pyarrow(), "number_of_bucket"

        def answer(own: pa.Table) -> pa.Table:
            return pa.table({"answer": pa.array([compute(own.drop_columns([place]).cast(schema))], pa.binary())})

        bucket = sf.pmod(sf.crc32(sf.col("user_id").cast("binary")), sf.lit(self.buckets))
        groups = self._session.sql(self.compile(rows)).withColumn(place, bucket).groupBy(place)
        for row in groups.applyInArrow(answer, "answer binary").toLocalIterator():
            yield bytes(row["answer"])

    def get_schema(self, table_name: str, *, catalog: str | None = None, database: str | None = None) -> Schema:
        """The columns of a view. All moments are in UTC: Ibis takes Spark's for moments without a zone."""
        columns = super().get_schema(table_name, catalog=catalog, database=database).items()
        return ibis.schema({name: TIME_TYPE if kind.is_timestamp() else kind for name, kind in columns})

    def to_pyarrow(self, expr: Any, /, *, params: Any = None, limit: Any = None, **kwargs: Any) -> Any:
        """The result of an expression, collected to the driver, in the types that the expression states."""
        table = expr.as_table()
        self._run_pre_execute_hooks(table)
        sql = self.compile(table, params=params, limit=limit, **kwargs)
        return expr.__pyarrow_result__(self._session.sql(sql).toArrow().cast(table.schema().to_pyarrow()))

    def _register_in_memory_table(self, op: ops.InMemoryTable) -> None:
        rows: pa.Table = op.data.to_pyarrow(op.schema)
        self._session.createDataFrame(rows).createOrReplaceTempView(op.name)

    def _create_cached_table(self, name: str, expr: ir.Table) -> Any:
        # Ibis registers tables in memory when it executes an expression, and `cache` does not execute it.
        self._run_pre_execute_hooks(expr)
        create: Any = super()._create_cached_table
        return create(name, expr)
