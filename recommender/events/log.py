"""Durable log of the events that one gateway process took, in the segments of the decision log's writer and shipper.

    <own folder>/<day>-<writer>-<n>.jsonl   on the replica's own disk, until the segment is closed and shipped
    home/events/<day>-<writer>-<n>.jsonl    shipped, for the offline tables (`recommender.event_tables.segments`)

A line is an event with `received_us` and `time_us` (microseconds since 1970, UTC), and `quarantined`, why it does not
count yet. An event that was sent twice may be there twice: readers keep the first line of an `event_id`.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import orjson

from recommender.decisions.entry import Entry
from recommender.decisions.erasing import erasing
from recommender.decisions.log import LogFull
from recommender.decisions.shipping import Backlog, Shipper
from recommender.decisions.writer import Limits, Writer
from recommender.events.contract import Stamped
from recommender.settings import Settings
from recommender.storage.forgotten import ForgottenFollower
from recommender.storage.home import Home, ServingState

__all__ = ["EventLog", "LogFull", "folders_of"]

FLUSH_S, LAST_SHIP_S = 2.0, 5.0
"""Seconds for what waits, and for shipping it, when the log is closed. By hand: within a pod's grace period."""


def folders_of(settings: Settings) -> tuple[Path, Path]:
    """The folders of segments that this machine sees: the replica's own one, then the shared one."""
    return settings.events.folder or ServingState.of(settings).events, Home.of(settings).events


class EventLog:
    """Writes the events of one process. Any number of processes may share the folders."""

    def __init__(
        self,
        folder: Path,
        shared: Path,
        *,
        segment_s: float = 5.0,
        wait_s: float = 2.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        erase: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self.wait_s = wait_s
        # Synced before anybody is told that the event was taken.
        self.writer = Writer(folder, Limits(segment_s=segment_s, sync=True), clock)
        self._shipper = Shipper(folder, shared, erase)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The log that the settings describe. Its shipping begins with `start`."""
        own, shared = folders_of(settings)
        chosen = settings.events
        erase = erasing(ForgottenFollower(Home.of(settings)))
        return cls(own, shared, segment_s=chosen.segment_s, wait_s=chosen.wait_ms / 1e3, erase=erase)

    def start(self) -> None:
        """Begin to ship segments, first those that an earlier process left."""
        self._shipper.start()

    @property
    def backlog(self) -> Backlog:
        """What is closed and not shipped yet."""
        return self._shipper.backlog

    def submit(self, stamped: Stamped, received_us: int, quarantined: str | None = None) -> Entry:
        """Let an event be written. Never blocks on a disk. `entry.segment.stem` names its segment.

        Raises:
            LogFull: Too many lines wait for the disk. There is no line.
        """
        fields = stamped.event.model_dump(exclude_none=True, exclude={"event_time"})
        facts: dict[str, object] = {"received_us": received_us, "time_us": stamped.time_us}
        if quarantined is not None:
            facts["quarantined"] = quarantined
        content = orjson.dumps({**fields, **facts}) + b"\n"
        return self.writer.submit(lambda stem, offset, at: (None, content))

    async def written(self, entries: Sequence[Entry]) -> bool:
        """Wait until these lines, in the order of their `submit`, are synced to disk; False: they are late."""
        return not entries or entries[-1].written or await entries[-1].wait_async(self.wait_s)

    def close(self) -> None:
        """Write what waits, ship it, and end the threads."""
        self.writer.close(FLUSH_S)
        self._shipper.close(LAST_SHIP_S)
