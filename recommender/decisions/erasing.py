"""Erases users from segments of the decision log and of the log of events.

A line keeps its length, because a request id names the place of its record in the segment. Readers of both logs leave
lines without a request id or an event id out.
"""

import hashlib
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

import orjson

from recommender.decisions.names import MODE
from recommender.decisions.shipping import SEALED, sealed
from recommender.errors import CorruptFileError
from recommender.storage.forgotten import ForgottenFollower
from recommender.storage.manifest import write_bytes

FILLER = b'{"event":"removed"}'
"""A line in place of an erased one, with spaces up to the old length. A line with a user's id is longer than this."""
_USER = re.compile(rb'"user_id":\s*"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Erased:
    """The lines of a segment without those of some users."""

    content: bytes
    lines: int
    """How many were erased."""
    event_ids: tuple[str, ...]
    """The ids of the erased events. A decision has none."""
    users: frozenset[str] = frozenset()
    """Those whose lines were erased."""


def erased(content: bytes, users: Container[str]) -> Erased:
    """Erase the lines of `users`, each in its place."""
    kept, event_ids, lines, seen = [], [], 0, set[str]()
    for line in content.splitlines(keepends=True):
        user_id, event_id = _ids_of(line)
        if user_id is None or user_id not in users:
            kept.append(line)
            continue
        lines += 1
        seen.add(user_id)
        ending = line[len(line.rstrip(b"\r\n")) :]
        kept.append(FILLER.ljust(len(line) - len(ending)) + ending)
        if event_id is not None:
            event_ids.append(event_id)
    return Erased(b"".join(kept), lines, tuple(event_ids), frozenset(seen))


def erasing(forgotten: ForgottenFollower) -> Callable[[bytes], bytes]:
    """What a shipper does with each segment: take out who is forgotten at that moment.

    While it is not known who is, it raises a `CorruptFileError`, and the shipper holds the segment.
    """

    def erase(content: bytes) -> bytes:
        users = forgotten.refresh()
        if users is None:
            raise CorruptFileError(forgotten.problem or "it is not known who was forgotten")
        return erased(content, users).content if users.since else content

    return erase


def erase_in(path: Path, users: Container[str]) -> Erased:
    """Erase users from a segment of a shared folder, whole or not at all. A seal that was right is right again."""
    content = path.read_bytes()
    whole = _without_seal(content)
    found = erased(content if whole is None else whole, users)
    if found.lines:
        write_bytes(path, found.content if whole is None else sealed(found.content), mode=MODE)
    return found


def _ids_of(line: bytes) -> tuple[str | None, str | None]:
    """The user and the event of a line, also of one that a kill cut off behind the user."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        found = _USER.search(line)
        try:
            return (None, None) if found is None else (orjson.loads(b'"%s"' % found[1]), None)
        except orjson.JSONDecodeError:
            return None, None
    if not isinstance(fields, dict):
        return None, None
    user_id, event_id = fields.get("user_id"), fields.get("event_id")
    return (
        user_id if isinstance(user_id, str) else None,
        event_id if isinstance(event_id, str) else None,
    )


def _without_seal(content: bytes) -> bytes | None:
    """The lines before a segment's seal. None: it has none, or its bytes are not those that were sealed."""
    start = content.rfind(b"\n", 0, -1) + 1
    try:
        last = orjson.loads(content[start:])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(last, dict) or last.get("event") != SEALED:
        return None
    return content[:start] if last.get("sha256") == hashlib.sha256(content[:start]).hexdigest() else None
