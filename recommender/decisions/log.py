"""Decision log: every answer, written before it is sent, and which answers were really shown.

    decisions/<day>-<writer>-<n>.jsonl             one line per answer
    decisions/exposures-<day>-<writer>-<n>.jsonl   one line per confirmation that an answer was shown

Every line is one write() to a file that has only this writer. So a line is in the kernel's hands before its answer
leaves, and no kill -9 of any process can lose it or mix it with another line. Only a full disk or a lost machine can
tear the last line of a file, and readers leave a torn line out. A request id holds the file and the place of its
record, so any process that sees the folder finds a record with one read, however large the log is.
"""

import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from recommender.errors import LONGEST_VALUE, RecommenderError

MAX_BYTES = 256 * 2**20
"""256 MiB, about half a million decisions: then a new file begins, so that files can be copied and read."""
EXPOSURES = "exposures-"
UNDELIVERED = "undelivered"
"""The `event` of a line that says that a decision's caller hung up before the answer."""
_WRITER_BYTES = 6
"""48 random bits name a writer: among a thousand writers of one day, two are equal with a probability of 2e-9."""
_TOKEN_BYTES = 8
"""64 random bits end a request id, so that nobody can guess the id of another user's decision."""
_REQUEST_ID = re.compile(r"(\d{8}-[0-9a-f]{12}-\d{1,6})\.([0-9a-f]{1,12})\.([0-9a-f]{16})")


class UnknownRequest(RecommenderError):
    """No decision has this request id, or the decision does not hold a campaign that was named."""


def new_token() -> str:
    """A random end for a request id: 16 hexadecimal digits."""
    return secrets.token_hex(_TOKEN_BYTES)


class _Log:
    """Append-only files of one writer.

    A new one begins each UTC day, past `max_bytes`, and after a failed write.
    """

    def __init__(self, folder: Path, prefix: str, *, max_bytes: int, clock: Callable[[], datetime]) -> None:
        self.folder, self.prefix, self.max_bytes, self.clock = folder, prefix, max_bytes, clock
        # Random, not made of host and process: a pod's clone or a reused process id must be another writer.
        self.writer = secrets.token_hex(_WRITER_BYTES)
        self.number = 0
        self._descriptor = -1
        self._day = ""
        self._size = 0
        self.stem = ""

    def place(self) -> int:
        """Open the file that takes the next line, and return the byte at which that line will start."""
        day = self.clock().strftime("%Y%m%d")
        if self._descriptor < 0 or day != self._day or self._size >= self.max_bytes:
            self.close()
            self.folder.mkdir(parents=True, exist_ok=True)
            stem = f"{day}-{self.writer}-{self.number}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            # 0o640: the group may read decisions, nobody else.
            self._descriptor = os.open(self.folder / f"{self.prefix}{stem}.jsonl", flags, 0o640)
            self._day, self._size, self.stem = day, 0, stem
            self.number += 1
        return self._size

    def append(self, line: bytes) -> None:
        """Write one whole line, or raise OSError and begin a new file with the next line."""
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(f"{self.folder / self.prefix}{self.stem}.jsonl: {written} of {len(line)} bytes written")
        except OSError:
            self.close()
            raise
        self._size += written

    def close(self) -> None:
        """Close the present file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DecisionLog:
    """Writes the decisions and exposures of one process.

    Any number of processes may share the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.folder, self.clock = folder, clock
        self._decisions = _Log(folder, "", max_bytes=max_bytes, clock=clock)
        self._exposures = _Log(folder, EXPOSURES, max_bytes=max_bytes, clock=clock)

    def record(self, decision: Mapping[str, Any], *, token: str | None = None) -> str:
        """Write one decision and return its request id.

        Once this returns, no kill of this process can lose the record.

        `token`: the end of the id (`new_token()`), for a decision whose exploration was seeded with it; None: a new
        one.

        Raises:
            OSError: The disk is full or unavailable. There is no record.
        """
        offset = self._decisions.place()
        request_id = f"{self._decisions.stem}.{offset:x}.{token or new_token()}"
        line = orjson.dumps({"request_id": request_id, "at": self.clock().isoformat(), **decision}) + b"\n"
        self._decisions.append(line)
        return request_id

    def expose(self, request_id: str, campaign_ids: tuple[str, ...] | None = None) -> None:
        """Write that a decision was shown.

        `campaign_ids` are those of its campaigns that were shown, or None for all of them.

        Raises:
            UnknownRequest: There is no such decision, or it does not hold one of these campaigns; names it.
            OSError: The disk is full or unavailable.
        """
        answered = [campaign["campaign_id"] for campaign in find(self.folder, request_id)["campaigns"]]
        shown = answered if campaign_ids is None else list(campaign_ids)
        if foreign := [campaign for campaign in shown if campaign not in set(answered)]:
            raise UnknownRequest(f"decision {request_id} does not hold campaign {foreign[0]!r}")
        self._exposures.place()
        at = self.clock().isoformat()
        self._exposures.append(orjson.dumps({"request_id": request_id, "at": at, "campaign_ids": shown}) + b"\n")

    def mark_undelivered(self, request_id: str) -> None:
        """Note that the caller of this decision hung up before the answer: no analysis counts the decision.

        Raises:
            OSError: The disk is full or unavailable.
        """
        self._decisions.place()
        at = self.clock().isoformat()
        self._decisions.append(orjson.dumps({"event": UNDELIVERED, "request_id": request_id, "at": at}) + b"\n")

    def close(self) -> None:
        """Close the files."""
        self._decisions.close()
        self._exposures.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find(folder: Path, request_id: str) -> dict[str, Any]:
    """Read the decision with this id.

    Raises:
        UnknownRequest: There is none; names the id.
    """
    unknown = UnknownRequest(f"no decision has the request id {request_id[:LONGEST_VALUE]!r}")
    parts = _REQUEST_ID.fullmatch(request_id)
    if parts is None:
        raise unknown
    try:
        with (folder / f"{parts[1]}.jsonl").open("rb") as file:
            file.seek(int(parts[2], 16))
            line = file.readline()
    except FileNotFoundError:
        raise unknown from None
    decision = _whole(line)
    if decision is None or decision.get("request_id") != request_id:
        raise unknown
    return decision


def read_decisions(folder: Path) -> Iterator[dict[str, Any]]:
    """Every whole decision that was delivered, by day and writer, and each writer's in the order of its answers."""
    paths = [path for path in sorted(folder.glob("*.jsonl")) if not path.name.startswith(EXPOSURES)]
    undelivered = {line["request_id"] for line in _read(paths) if line.get("event") == UNDELIVERED}
    return (line for line in _read(paths) if "event" not in line and line["request_id"] not in undelivered)


def read_exposures(folder: Path) -> Iterator[dict[str, Any]]:
    """Every confirmation (`request_id`, `at`, `campaign_ids`), of which a decision may have more than one."""
    return _read(sorted(folder.glob(f"{EXPOSURES}*.jsonl")))


def _read(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                record = _whole(line)
                if record is not None:
                    yield record


def _whole(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
