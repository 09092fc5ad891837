"""Writes the CSV files of the shapes as the exports have them."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path


def write_csv(
    path: Path,
    header: Sequence[str] | None,
    rows: Iterable[Sequence[object]],
    *,
    quote_all: bool = False,
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> Path:
    """Write a file with or without a header. Lines end with a line feed, as on the systems that wrote the exports."""
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    writer = csv.writer(text, lineterminator="\n", quoting=quoting, delimiter=delimiter)
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path
