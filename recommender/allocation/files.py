"""Writes scored pairs to a Parquet or CSV file, batch by batch, whole or not at all."""

import codecs
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from recommender.errors import SettingsError

PARQUET, CSV = (".parquet", ".pq"), ".csv"


def require_known(output: Path) -> None:
    """Refuse a name that is neither Parquet's nor CSV's, before anything is scored.

    Raises:
        SettingsError: its suffix is another one.
    """
    if output.suffix.lower() not in (*PARQUET, CSV):
        raise SettingsError(f"--output {output}: written as Parquet or CSV; end its name with .parquet or .csv")


@contextmanager
def batch_writer(output: Path, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Open `output` for batches of `schema`: CSV if its name ends in .csv, else Parquet.

    The file appears under its name when the block ends well. A CSV file is UTF-8 and begins with a byte order mark:
    without one, Excel takes Chinese identifiers for characters of the machine's own code page.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.part")
    try:
        with partial.open("wb") as file:
            if output.suffix.lower() == CSV:
                file.write(codecs.BOM_UTF8)
                writer = pyarrow.csv.CSVWriter(file, schema)
            else:
                writer = pyarrow.parquet.ParquetWriter(file, schema)
            with closing(writer):
                yield writer.write_batch
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
