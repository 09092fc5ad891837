"""The decision log: what was answered to whom, on disk before the answer leaves, and which answers were really shown.

    decisions/<day>-<writer>-<n>.jsonl     one line an answer
    decisions/exposures-<day>-<writer>-<n>.jsonl   one line a confirmation

Every line is one write() to a file that has this one writer, so a line is in the kernel's hands before its answer leaves and
no kill -9 of any process loses it or mixes it with another's; only a line torn by a full disk or a lost machine can end a file,
and readers leave it out. A request id names file and place of its record, so finding it takes one read, in any process that
sees the folder, however large the log.
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

from recommender.errors import RecommenderError

MAX_BYTES = 256 * 2**20
EXPOSURES = "exposures-"
_REQUEST_ID = re.compile(r"(\d{8}-[0-9a-f]{12}-\d{1,6})\.([0-9a-f]{1,12})\.([0-9a-f]{16})")


class UnknownRequest(RecommenderError):
    """No decision has this request id."""


def new_token() -> str:
    """The end of a request id, by chance: 16 hexadecimal digits."""
    return secrets.token_hex(8)


class _Log:
    """Append-only files of one writer: a new one each UTC day, past `max_bytes`, and after a write that failed."""

    def __init__(self, folder: Path, prefix: str, *, max_bytes: int, clock: Callable[[], datetime]) -> None:
        self.folder, self.prefix, self.max_bytes, self.clock = folder, prefix, max_bytes, clock
        # By chance, not by host and process: a pod's clone or a reused process id is another writer.
        self.writer = secrets.token_hex(6)
        self.number = 0
        self._descriptor = -1
        self._day = ""
        self._size = 0
        self.stem = ""

    def place(self) -> int:
        """Open the file that takes the next line, and say at which byte of it that line will start."""
        day = self.clock().strftime("%Y%m%d")
        if self._descriptor < 0 or day != self._day or self._size >= self.max_bytes:
            self.close()
            self.folder.mkdir(parents=True, exist_ok=True)
            stem = f"{day}-{self.writer}-{self.number}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.folder / f"{self.prefix}{stem}.jsonl", flags, 0o640)
            self._day, self._size, self.stem = day, 0, stem
            self.number += 1
        return self._size

    def append(self, line: bytes) -> None:
        """Write one whole line, or raise OSError and never touch this file again."""
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(f"{self.folder / self.prefix}{self.stem}.jsonl: {written} of {len(line)} bytes written")
        except OSError:
            self.close()
            raise
        self._size += written

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DecisionLog:
    """Writes decisions and exposures of one process. Any number of processes may share the folder."""

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
        """Write one decision and return its request id. When this returns, no kill of this process can lose it.

        `token`: the end of the id (`new_token()`), where the decision's chance was drawn from it; None: a new one.

        Raises:
            OSError: the disk is full or away; nothing was promised.
        """
        offset = self._decisions.place()
        request_id = f"{self._decisions.stem}.{offset:x}.{token or new_token()}"
        line = orjson.dumps({"request_id": request_id, "at": self.clock().isoformat(), **decision}) + b"\n"
        self._decisions.append(line)
        return request_id

    def expose(self, request_id: str, campaign_ids: tuple[str, ...] | None = None) -> None:
        """Write that the decision was shown; `campaign_ids`: those of its campaigns that were, None for all.

        Raises:
            UnknownRequest: there is no such decision, or it holds none of a campaign that is named.
            OSError: the disk is full or away.
        """
        answered = [campaign["campaign_id"] for campaign in find(self.folder, request_id)["campaigns"]]
        shown = answered if campaign_ids is None else list(campaign_ids)
        if foreign := [campaign for campaign in shown if campaign not in set(answered)]:
            raise UnknownRequest(f"decision {request_id} holds no campaign {foreign[0]!r}")
        self._exposures.place()
        at = self.clock().isoformat()
        self._exposures.append(orjson.dumps({"request_id": request_id, "at": at, "campaign_ids": shown}) + b"\n")

    def close(self) -> None:
        self._decisions.close()
        self._exposures.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find(folder: Path, request_id: str) -> dict[str, Any]:
    """The decision with this id.

    Raises:
        UnknownRequest: there is none.
    """
    unknown = UnknownRequest(f"no decision has the request id {request_id[:80]!r}")
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
    """Every decision, by day and writer, each writer's in the order of its answers; a torn last line is left out."""
    return _read(path for path in sorted(folder.glob("*.jsonl")) if not path.name.startswith(EXPOSURES))


def read_exposures(folder: Path) -> Iterator[dict[str, Any]]:
    """Every confirmation: `request_id`, `at`, `campaign_ids`. One decision may be confirmed more than once."""
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
