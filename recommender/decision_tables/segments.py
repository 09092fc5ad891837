"""Reads segments of the decision log with DuckDB: which there are, whether they are whole, and their lines."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import orjson

from recommender.decision_tables.schema import LINE, line_types, quoted
from recommender.decisions.log import EXPOSED
from recommender.decisions.names import EXPOSURES, SegmentName, segments_in
from recommender.decisions.shipping import SEALED


@dataclass(frozen=True)
class SegmentFile:
    """A segment and where it lies."""

    name: SegmentName
    path: Path


def segment_files(folders: Iterable[Path]) -> list[SegmentFile]:
    """The segments of several folders, each once: of equal ones that of the last folder.

    Name the folder from which segments are shipped first, then none that moves meanwhile is missed.
    """
    found: dict[str, SegmentFile] = {}
    for folder in folders:
        for path in segments_in(folder) if folder.is_dir() else ():
            name = SegmentName.of(path)
            if name is not None:
                found[name.stem] = SegmentFile(name, path)
    return [found[stem] for stem in sorted(found)]


def seal_of(content: bytes) -> tuple[int, str] | None:
    """The number of lines and the SHA-256 that a segment's seal names, or None if it has no seal."""
    last = content[content.rfind(b"\n", 0, -1) + 1 :]
    try:
        line = orjson.loads(last)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(line, dict) or line.get("event") != SEALED:
        return None
    return int(line["lines"]), str(line["sha256"])


def is_sealed(path: Path) -> bool:
    """Whether a segment has a seal: then it is complete, and nobody writes it any more."""
    with path.open("rb") as file:
        file.seek(0, 2)
        # A seal has 110 bytes and the length of a number.
        file.seek(max(0, file.tell() - 256))
        return seal_of(b"\n" + file.read()) is not None


def problem_of(path: Path) -> str | None:
    """Why a segment cannot be merged without losing something, or None.

    Its bytes must be those that were sealed, if it has a seal, and its decisions may have no keys without a column. All
    decisions of a writer have the same keys, so the first one is looked at.
    """
    content = path.read_bytes()
    seal = seal_of(content)
    if seal is not None:
        lines = content[: content.rfind(b"\n", 0, -1) + 1]
        if seal != (lines.count(b"\n"), hashlib.sha256(lines).hexdigest()):
            return "its bytes are not those that were sealed"
    first = content[: content.find(b"\n") + 1]
    try:
        keys = set(orjson.loads(first)) if first else set()
    except orjson.JSONDecodeError:
        return None  # a torn line, which is counted
    unknown = sorted(keys - set(LINE))
    return (
        f"no column for {', '.join(unknown)}; compact it with a version of the software that knows them"
        if unknown
        else None
    )


def create_lines(connection: duckdb.DuckDBPyConnection, files: Sequence[SegmentFile], *, as_table: bool) -> None:
    """Make the table or view `lines`: all lines of `files`, with `stem` and `event`.

    A decision counts only in the file that its id names, so a copied file adds nothing. Torn lines have no request id
    and no event. Lines without a request id stay in a table, to be counted, and the view has none of them.
    """
    kind = "TABLE" if as_table else "VIEW"
    if not files:
        columns = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in LINE.items())
        connection.execute(f"CREATE {kind} lines AS SELECT {columns}, NULL::VARCHAR AS stem WHERE false")
        return
    paths = "[" + ", ".join(quoted(str(file.path)) for file in files) + "]"
    others = ", ".join(f'"{name}"' for name in LINE if name != "event")
    connection.execute(
        f"CREATE {kind} lines AS "
        f"SELECT {others}, stem, CASE WHEN starts_with(stem, '{EXPOSURES}') THEN '{EXPOSED}' ELSE event END AS event "
        f"FROM (SELECT *, parse_filename(filename, true) AS stem FROM read_json({paths}, "
        f"format = 'newline_delimited', ignore_errors = true, filename = true, columns = {line_types()})) "
        f"WHERE request_id IS NULL OR event IS NOT NULL OR starts_with(stem, '{EXPOSURES}') "
        "OR starts_with(request_id, stem || '.')"
    )
