"""Decision log of one gateway process: every answer, which answers were shown, and which did not arrive.

    <own folder>/<day>-<writer>-<n>.jsonl   segments on the replica's own disk, until they are closed and shipped
    home/decisions/<day>-<writer>-<n>.jsonl shipped segments, which `recommender.decision_tables` reads and compacts

A line is a decision, or an event about one: {"event": "exposed" | "undelivered", "request_id", "at", …}. One thread
writes (`recommender.decisions.writer`) and another one ships (`recommender.decisions.shipping`), so no request waits
for a disk longer than it wants to.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from recommender.decisions.entry import Entry
from recommender.decisions.erasing import erasing
from recommender.decisions.lookup import UnknownRequest, find, parse
from recommender.decisions.names import EXPOSURES, Place, new_token, request_id_of
from recommender.decisions.shipping import Backlog, Shipper
from recommender.decisions.writer import Limits, LogFull, Writer
from recommender.settings import Settings
from recommender.storage.forgotten import ForgottenFollower
from recommender.storage.home import Home, ServingState

__all__ = ["EXPOSURES", "DecisionLog", "LogFull", "UnknownRequest", "find", "folders_of", "new_token"]

EXPOSED, UNDELIVERED = "exposed", "undelivered"
"""The `event` of a line about a decision: it was shown, or its caller hung up before the answer."""
PATIENCE_S = 10.0
"""Seconds that the calls that block wait for the disk. By hand: whoever calls them has time."""
FLUSH_S, LAST_SHIP_S = 2.0, 5.0
"""Seconds for what waits, and for shipping it, when the log is closed. By hand: within a pod's grace period."""
LOOKUPS = 2
"""Threads that look up decisions. By hand: if the shared folder hangs, only exposures wait."""
LOOKUP_S = 1.0
"""Seconds for the look-up of a decision, and again for its exposure to be written. By hand: no page waits for it."""
UNSEEN_DAYS = 1
"""A decision of this many days ago may still lie on another replica's disk. Its id says the day."""


def folders_of(settings: Settings) -> tuple[Path, Path]:
    """The folders of segments that this machine sees: the replica's own one, then the shared one."""
    own = settings.decision_log.folder or ServingState.of(settings).decisions
    return own, Home.of(settings).decisions


class DecisionLog:
    """Writes the decisions and events of one process. Any number of processes may share the folders."""

    def __init__(
        self,
        folder: Path,
        *,
        shared: Path | None = None,
        limits: Limits | None = None,
        wait_s: float = 0.04,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        erase: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self.wait_s, self.clock = wait_s, clock
        self.folders = (folder,) if shared is None else (folder, shared)
        self.writer = Writer(folder, limits or Limits(), clock)
        self._shipper = None if shared is None else Shipper(folder, shared, erase)
        self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="decision-lookup")

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The log that the settings describe. Its shipping begins with `start`."""
        chosen = settings.decision_log
        own, shared = folders_of(settings)
        limits = Limits(
            segment_bytes=chosen.segment_mib * 2**20,
            segment_s=chosen.segment_s,
            buffer_bytes=chosen.buffer_mib * 2**20,
            backlog_bytes=chosen.backlog_mib * 2**20,
            sync=chosen.durability == "disk",
        )
        erase = erasing(ForgottenFollower(Home.of(settings)))
        return cls(own, shared=shared, limits=limits, wait_s=chosen.wait_ms / 1e3, erase=erase)

    def start(self) -> None:
        """Begin to ship segments, first those that an earlier process left."""
        if self._shipper is not None:
            self._shipper.start()

    @property
    def backlog(self) -> Backlog:
        """What is closed and not shipped yet."""
        return Backlog() if self._shipper is None else self._shipper.backlog

    def submit(self, decision: Mapping[str, Any], *, token: str | None = None) -> Entry:
        """Give a decision its request id and let it be written. Never blocks on a disk.

        `token`: the end of the id (`new_token()`), for a decision whose exploration was seeded with it; None: a new
        one.

        Raises:
            LogFull: Too many records wait for the disk. There is no record.
        """

        def line(stem: str, offset: int, at: str) -> tuple[str, bytes]:
            request_id = request_id_of(stem, offset, token or new_token())
            return request_id, orjson.dumps({"request_id": request_id, "at": at, **decision}) + b"\n"

        return self.writer.submit(line)

    async def written(self, entry: Entry) -> bool:
        """Wait for a line, at most `wait_s`, and not at all while the disk is known to be stuck; tell whether it is."""
        if not entry.written and self.writer.stalled_s() <= self.wait_s and await entry.wait_async(self.wait_s):
            return True
        self.writer.note_stall()
        return entry.written

    def record(self, decision: Mapping[str, Any], *, token: str | None = None) -> str:
        """Write one decision and return its request id. Blocks until no killed process can lose it.

        Raises:
            LogFull: Too many records wait for the disk. There is no record.
            TimeoutError: It is not written yet. It is written as soon as the disk takes it.
        """
        entry = self.submit(decision, token=token)
        _require(entry, PATIENCE_S)
        return str(entry.request_id)

    def mark_undelivered(self, request_id: str) -> None:
        """Note that the caller of this decision hung up before the answer: no analysis counts the decision.

        Never blocks on a disk.

        Raises:
            LogFull: Too many records wait for the disk.
        """
        self._event(UNDELIVERED, request_id)

    def expose(self, request_id: str, campaign_ids: Sequence[str] | None = None) -> None:
        """Write that a decision was shown. Blocks until no killed process can lose that.

        `campaign_ids` are those of its campaigns that were shown, or None for all of them.

        Raises:
            UnknownRequest: There is no such decision, or it does not hold one of these campaigns; names it.
            OSError: A folder cannot be read, or the event is not written yet.
            LogFull: Too many records wait for the disk.
        """
        shown = self._shown(request_id, campaign_ids)
        _require(self._event(EXPOSED, request_id, campaign_ids=shown), PATIENCE_S)

    async def expose_async(self, request_id: str, campaign_ids: Sequence[str] | None = None) -> None:
        """As `expose`, without blocking the event loop, and with little patience."""
        loop = asyncio.get_running_loop()
        looking = loop.run_in_executor(self._lookups, self._shown, request_id, campaign_ids)
        shown = await asyncio.wait_for(looking, LOOKUP_S)
        if not await self._event(EXPOSED, request_id, campaign_ids=shown).wait_async(LOOKUP_S):
            raise TimeoutError("the exposure is not written yet")

    def _event(self, event: str, request_id: str, **facts: object) -> Entry:
        def line(stem: str, offset: int, at: str) -> tuple[None, bytes]:
            return None, orjson.dumps({"event": event, "request_id": request_id, "at": at, **facts}) + b"\n"

        return self.writer.submit(line)

    def _shown(self, request_id: str, campaign_ids: Sequence[str] | None) -> list[str] | None:
        """The shown campaigns of a decision. None stands for all of a decision that another replica has not shipped."""
        waiting = self.writer.unwritten(request_id)
        try:
            decision = find(self.folders, request_id) if waiting is None else parse(waiting)
        except UnknownRequest:
            if not self._may_be_elsewhere(request_id):
                raise
            return None if campaign_ids is None else list(campaign_ids)
        answered = [campaign["campaign_id"] for campaign in (decision or {})["campaigns"]]
        shown = answered if campaign_ids is None else list(campaign_ids)
        if foreign := [campaign for campaign in shown if campaign not in set(answered)]:
            raise UnknownRequest(f"decision {request_id} does not hold campaign {foreign[0]!r}")
        return shown

    def _may_be_elsewhere(self, request_id: str) -> bool:
        """Whether the decision may lie in a segment of another replica that is not shipped yet.

        Readers count an event only with its decision, so one about a decision that never was changes nothing.
        """
        place = Place.of(request_id)
        if place is None or len(self.folders) == 1 or place.writer == self.writer.name:
            return False
        if any((folder / f"{place.stem}.jsonl").is_file() for folder in self.folders):
            return False
        days = {(self.clock() + timedelta(days=days)).strftime("%Y%m%d") for days in range(-UNSEEN_DAYS, 2)}
        return place.day in days

    def close(self) -> None:
        """Write what waits, ship it, and end the threads."""
        self.writer.close(FLUSH_S)
        if self._shipper is not None:
            self._shipper.close(LAST_SHIP_S)
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require(entry: Entry, within_s: float) -> None:
    if not entry.wait(within_s):
        raise TimeoutError(f"{entry.segment.path}: not written within {within_s:.0f} s")
