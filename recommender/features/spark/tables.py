"""The canonical tables as Spark reads them: its executors open the Parquet files by pyarrow, wherever they are.

So a folder that all executors see and an object store are read by the same code. Spark's own reader of `s3a://` needs
jars (hadoop-aws) that the wheel of PySpark lacks.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from recommender.datasets.places import Place
from recommender.datasets.tables import CONTRACT, Tables
from recommender.errors import CorruptFileError

BATCH_ROWS = 100_000
"""Rows that an executor hands to Spark at once. By hand: some 10 MB."""


def frames(session: SparkSession, tables: Tables, place: Place) -> dict[str, DataFrame]:
    """All tables that a folder has, by their names.

    Several expressions read each of them. So an executor keeps what it has read, by column, on its disk.

    Args:
        session: what reads.
        tables: their manifest.
        place: where their files are, for every executor.

    Raises:
        CorruptFileError: a file has not the size that the manifest says. An executor raises it when it reads.
    """
    sizes: dict[str, dict[str, int]] = {}
    for file, facts in tables.manifest["files"].items():
        if file.endswith(".parquet"):
            sizes.setdefault(file.partition("/")[0], {})[file] = int(facts["bytes"])
    return {name: _frame(session, place, sizes[name]) for name in CONTRACT if tables.has(name)}


def _frame(session: SparkSession, place: Place, sizes: dict[str, int]) -> DataFrame:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for file in batch.column("file").to_pylist():
                with place.opened(file) as opened:
                    if opened.size() != sizes[file]:
                        raise CorruptFileError(
                            f"{place.location}/{file}: {opened.size()} bytes instead of {sizes[file]}; "
                            "copy the tables again"
                        )
                    yield from pq.ParquetFile(opened).iter_batches(BATCH_ROWS)

    with place.opened(next(iter(sizes))) as opened:
        schema = from_arrow_schema(pq.read_schema(opened))
    listed = session.createDataFrame([(file,) for file in sizes], "file string").repartition(len(sizes))
    return listed.mapInArrow(read, schema).persist(StorageLevel.DISK_ONLY)
