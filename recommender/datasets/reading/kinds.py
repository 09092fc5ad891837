"""Finds out what a file is by its content. A suffix may be missing, wrong or in capitals."""

import re
from pathlib import Path
from typing import Literal

from recommender.errors import SourceError

Kind = Literal["gzip", "zstd", "zip", "excel", "parquet", "json", "delimited"]

SAMPLE_BYTES = 1 << 16
"""Bytes at a file's beginning that decide. A tar archive shows itself only at byte 257."""
COMPRESSED: dict[bytes, Kind] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
FOREIGN = {
    b"%PDF": ("a PDF document", "export the table as CSV"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it, or compress it by gzip, zip or zstd"),
    b"BZh": ("compressed by bzip2", "unpack it, or compress it by gzip, zip or zstd"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it, or compress it by gzip, zip or zstd"),
    b"Rar!": ("a RAR archive", "unpack it, or compress it by gzip, zip or zstd"),
    b"SQLite format 3": ("an SQLite database", "export its tables as CSV"),
    b"ARROW1": ("an Arrow or Feather file", "save it as Parquet"),
    b"ORC": ("an ORC file", "save it as Parquet"),
    b"Obj\x01": ("an Avro file", "save it as Parquet"),
    b"\x80\x04\x95": ("a Python pickle", "save it as Parquet"),
    b"\x80\x05\x95": ("a Python pickle", "save it as Parquet"),
    b"\x89HDF": ("an HDF5 file", "save it as Parquet"),
    b"\x89PNG": ("a picture", "name a file with rows"),
    b"\xff\xd8\xff": ("a picture", "name a file with rows"),
    b"version https://git-lfs": ("a Git LFS pointer, not the file itself", "fetch the file by: git lfs pull"),
}
"""First bytes of a file that cannot be read -> what it is, and what to do."""
OLE = b"\xd0\xcf\x11\xe0"
"""First bytes of an Excel workbook from before 2007 (.xls)."""
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
RECORDS = re.compile(r'\{\s*"|\[\s*\{\s*"')


def head(path: Path) -> bytes:
    """A file's first bytes."""
    with path.open("rb") as file:
        return file.read(SAMPLE_BYTES)


def binary_kind(label: str, start: bytes) -> Kind | None:
    """What a file is by its first bytes. None: a text.

    Raises:
        SourceError: it is empty, or of a kind that is not read; says which.
    """
    if not start:
        raise SourceError(f"{label}: the file is empty (0 bytes)")
    for magic, (what, remedy) in FOREIGN.items():
        # A header may begin with ORC or BZh, but a binary file has control characters soon after.
        if start.startswith(magic) and (len(magic) > 3 or b"\x00" in start[:512]):
            raise SourceError(f"{label}: this is {what}; {remedy}")
    if start[257:262] == b"ustar":
        raise SourceError(f"{label}: this is a tar archive; unpack it and name its files")
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(OLE):
        return "excel"
    if start.startswith(b"PK\x05\x06"):
        raise SourceError(f"{label}: the zip archive is empty")
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    return next((kind for magic, kind in COMPRESSED.items() if start.startswith(magic)), None)


def text_kind(label: str, start: bytes) -> Kind:
    """What a text in UTF-8 is by its beginning: records in JSON, or lines with a delimiter.

    Raises:
        SourceError: it has no line, or is a page (HTML) or XML; says which.
    """
    text = start.decode("utf-8-sig", errors="replace").lstrip()
    lower = text[:2_000].lower()
    if not text.strip("\x00\x1a"):
        raise SourceError(f"{label}: the file is empty: it has no line with a character")
    if lower.startswith(("<!doctype html", "<html")) or (lower.startswith("<") and "<html" in lower):
        if "<table" in text.lower():
            raise SourceError(
                f"{label}: this is a table in a web page (HTML), as some exports called .xls are; open it in a "
                "spreadsheet and save it as CSV or .xlsx"
            )
        raise SourceError(
            f"{label}: this is a web page (HTML), not a table; the download perhaps needed a login. Download it again"
        )
    if lower.startswith("<?xml") or (lower.startswith("<") and "xmlns" in lower):
        raise SourceError(f"{label}: this is XML, which is not read; export the table as CSV, JSON lines or Excel")
    return "json" if _is_json(label, text) else "delimited"


def _is_json(label: str, text: str) -> bool:
    """Whether a text is JSON: its name says so, or it begins as a record or a list of records does."""
    if text[0] not in "{[":
        return False
    name = label.lower().removesuffix(".gz").removesuffix(".zst")
    return name.endswith(JSON_SUFFIXES) or RECORDS.match(text) is not None
