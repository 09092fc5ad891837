"""Copies rows of texts to a Parquet file, for what DuckDB cannot read as it stands."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recommender.datasets.reading.raw import RowMeans, Scan, literal, quoted

BATCH_ROWS = 50_000
"""Rows in memory at a time, and in a row group. By hand."""


def copy_rows(target: Path, names: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]) -> None:
    """Write numbered rows of texts. An empty text is a missing value, as in a CSV file that DuckDB reads."""
    schema = pa.schema([("_row", pa.int64()), *((name, pa.string()) for name in names)])
    remaining = iter(rows)
    with pq.ParquetWriter(target, schema) as writer:
        while batch := list(itertools.islice(remaining, BATCH_ROWS)):
            numbers, cells = zip(*batch, strict=True)
            columns = [pa.array([text or None for text in column], pa.string()) for column in zip(*cells, strict=True)]
            writer.write_batch(pa.record_batch([pa.array(numbers, pa.int64()), *columns], schema=schema))


def scan_rows(target: Path, names: Sequence[str], row_means: RowMeans) -> Scan:
    """A query for rows that `copy_rows` wrote."""
    query = f"SELECT _row, {', '.join(map(quoted, names))} FROM read_parquet({literal(str(target))})"
    return Scan(query, tuple(names), dict.fromkeys(names, "VARCHAR"), row_means)
