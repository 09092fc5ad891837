"""Finds the record of one request id, and parses lines of segments."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recommender.decisions.names import SUFFIX, Place
from recommender.errors import LONGEST_VALUE, RecommenderError


class UnknownRequest(RecommenderError):
    """No decision has this request id, or the decision does not hold a campaign that was named."""


def find(folders: Iterable[Path], request_id: str) -> dict[str, Any]:
    """Read the decision with this id from the segments in `folders`: the replica's own folder first.

    In this order a segment that is shipped meanwhile is not missed.

    Raises:
        UnknownRequest: There is none; names the id.
        OSError: A folder cannot be read.
    """
    place = Place.of(request_id)
    for folder in folders:
        if place is None:
            break
        decision = parse(_line(folder / f"{place.stem}{SUFFIX}", place.offset))
        if decision is not None and decision.get("request_id") == request_id and "event" not in decision:
            return decision
    raise UnknownRequest(f"no decision has the request id {request_id[:LONGEST_VALUE]!r}")


def _line(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            if offset >= os.fstat(file.fileno()).st_size:
                return b""  # an offset that somebody made up may also be more than `seek` takes
            file.seek(offset)
            return file.readline()
    except (FileNotFoundError, NotADirectoryError):
        return b""


def parse(line: bytes) -> dict[str, Any] | None:
    """A whole line's object, or None if the line is torn or not an object."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
