"""The canonical tables as Spark reads them: a shared folder by Spark itself, an object store by the executors' pyarrow.

Spark's own reader of `s3a://` needs jars (hadoop-aws) that the wheel of PySpark lacks.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from recommender.datasets.places import Place
from recommender.datasets.reading.objects import explained
from recommender.datasets.tables import CONTRACT, Tables

BATCH_ROWS = 100_000
"""Rows that an executor hands to Spark at once. By hand: some 10 MB."""


def frames(session: SparkSession, tables: Tables, place: Place) -> dict[str, DataFrame]:
    """All tables that a folder has, by their names.

    Args:
        session: what reads.
        tables: their manifest.
        place: where their files are, for every executor.
    """
    names = [name for name in CONTRACT if tables.has(name)]
    return {name: _frame(session, tables, place, name) for name in names}


def _frame(session: SparkSession, tables: Tables, place: Place, name: str) -> DataFrame:
    if not place.is_remote:
        # Spark would take folders such as month=2017-01 for columns.
        return session.read.option("recursiveFileLookup", "true").parquet(str(place.path / name))
    files = [file for file in tables.manifest["files"] if file.startswith(f"{name}/") and file.endswith(".parquet")]
    found, root = place.opened()
    with explained(place.location):
        schema = pq.read_schema(f"{root}/{files[0]}", filesystem=found)

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        store, folder = place.opened()
        for batch in batches:
            for file in batch.column("file").to_pylist():
                with explained(place.location), store.open_input_file(f"{folder}/{file}") as opened:
                    yield from pq.ParquetFile(opened).iter_batches(BATCH_ROWS)

    listed = session.createDataFrame([(file,) for file in files], "file string").repartition(len(files))
    # Several expressions read each table. An executor keeps its part on its disk.
    return listed.mapInArrow(read, from_arrow_schema(schema)).persist(StorageLevel.DISK_ONLY)
