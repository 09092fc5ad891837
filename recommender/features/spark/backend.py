"""Ibis' PySpark backend, exact where Ibis 12 goes through pandas.

What Ibis hands over to Spark or takes from it stays Arrow: whole numbers with nulls stay whole, and moments are UTC
with microseconds on both sides, as DuckDB has them.
"""

from typing import Any

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pyarrow as pa
from ibis import Schema
from ibis.backends.pyspark import Backend
from pyspark.sql import SparkSession

from recommender.features.source import TIME_TYPE


class SparkBackend(Backend):
    """Runs Ibis expressions on Spark."""

    @classmethod
    def of(cls, session: SparkSession) -> "SparkBackend":
        """The backend of a session."""
        cls.register_options()
        backend = cls().connect(session)
        assert isinstance(backend, cls)
        return backend

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
