"""Writes the CSV files of the shapes: the header as it is, and rows."""

import csv
from collections.abc import Iterable
from pathlib import Path


def write_csv(
    path: Path,
    header: str,
    rows: Iterable[Iterable[object]],
    *,
    encoding: str = "utf-8",
    quoted: bool = False,
    newline: str = "\n",
) -> Path:
    """Write a header line as it is and one line for each row. None is an empty cell without quotes."""
    with path.open("w", encoding=encoding, newline="") as file:
        file.write(header + newline)
        rule = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
        csv.writer(file, quoting=rule, lineterminator=newline).writerows(rows)
    return path
