"""Names of segments and ids of requests.

    <day>-<writer>-<number>.jsonl             a segment: lines of one writer, of one UTC day, in the order of answers
    exposures-<day>-<writer>-<number>.jsonl   exposures alone, as versions up to November 2026 wrote them

A request id is the name of its segment, the place of its record there and a random end. So a record is found with one
read, however large the log is, and nobody can guess the id of another user's decision.
"""

import os
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SUFFIX = ".jsonl"
MODE = 0o640
"""The group may read decisions, nobody else."""
EXPOSURES = "exposures-"
_WRITER_BYTES = 6
"""48 random bits name a writer: among a thousand writers of one day, two are equal with a probability of 2e-9."""
_TOKEN_BYTES = 8
"""64 random bits end a request id."""
_TOKENS_AT_ONCE = 64
"""By hand: the question then costs less than cutting the answer up."""
# A process that closes a segment every 0.1 s for a year makes 3e8 of them: nine digits.
_STEM = re.compile(r"(?:exposures-)?(\d{8})-([0-9a-f]{6,32})-(\d{1,9})")
_REQUEST_ID = re.compile(r"(\d{8}-[0-9a-f]{12}-\d{1,9})\.([0-9a-f]{1,12})\.[0-9a-f]{16}")


def new_writer() -> str:
    """A random name of a writer. It is not made of host and process: a cloned pod must be another writer."""
    return secrets.token_hex(_WRITER_BYTES)


class _Tokens:
    """Random ends of request ids. The system is asked once for many of them, as each question is a system call."""

    def __init__(self) -> None:
        self._lock, self._digits = threading.Lock(), ""

    def next(self) -> str:
        with self._lock:
            if not self._digits:
                self._digits = secrets.token_hex(_TOKEN_BYTES * _TOKENS_AT_ONCE)
            token, self._digits = self._digits[: 2 * _TOKEN_BYTES], self._digits[2 * _TOKEN_BYTES :]
            return token

    def forget(self) -> None:
        """A process that is forked must not hand out its parent's tokens."""
        self._lock, self._digits = threading.Lock(), ""


_tokens = _Tokens()
os.register_at_fork(after_in_child=_tokens.forget)


def new_token() -> str:
    """A random end for a request id: 16 hexadecimal digits."""
    return _tokens.next()


@dataclass(frozen=True)
class SegmentName:
    """The parts of a segment's name."""

    stem: str
    day: str
    """UTC day of all its decisions, YYYYMMDD."""
    writer: str
    number: int
    """Counts the writer's segments from 0, over all days."""

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """The parts of a file's name, or None if the file is no segment."""
        parts = _STEM.fullmatch(path.stem) if path.suffix == SUFFIX else None
        return None if parts is None else cls(path.stem, parts[1], parts[2], int(parts[3]))


@dataclass(frozen=True)
class Place:
    """Where the record of a request id lies."""

    stem: str
    offset: int

    @classmethod
    def of(cls, request_id: str) -> Self | None:
        """The place that an id names, or None if the text is no id."""
        parts = _REQUEST_ID.fullmatch(request_id)
        return None if parts is None else cls(parts[1], int(parts[2], 16))

    @property
    def day(self) -> str:
        """UTC day of the decision, YYYYMMDD."""
        return self.stem[:8]

    @property
    def writer(self) -> str:
        """The writer's name."""
        return self.stem.split("-")[1]


def request_id_of(stem: str, offset: int, token: str) -> str:
    """The id of the record at a place."""
    return f"{stem}.{offset:x}.{token}"


def segments_in(folder: Path) -> list[Path]:
    """The segments of a folder by day, writer and number: each writer's in the order of its answers."""
    named = [(name, path) for path in folder.glob(f"*{SUFFIX}") if (name := SegmentName.of(path)) is not None]
    return [path for name, path in sorted(named, key=lambda pair: (pair[0].day, pair[0].writer, pair[0].number))]
