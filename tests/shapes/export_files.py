"""Writes the files of the shapes as the exports have them: CSV and JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

Record = dict[str, object]


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


def write_json_lines(path: Path, records: Iterable[Record]) -> Path:
    """Write a record on each line."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path
