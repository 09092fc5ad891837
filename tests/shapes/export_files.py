"""Writes the files of the shapes as the exports have them: CSV and JSON lines."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

Record = dict[str, object]


def write_csv(
    path: Path,
    header: str | None,
    rows: Iterable[Iterable[object]],
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    newline: str = "\n",
    quote_all: bool = False,
) -> Path:
    """Write a header, given as names with commas between, and one line for each row. None is an empty cell."""
    rule = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=newline, quoting=rule)
        if header is not None:
            writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


def write_json_lines(path: Path, records: Iterable[Record]) -> Path:
    """Write a record on each line."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path
