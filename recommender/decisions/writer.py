"""The one thread of a process that writes its decision log, in the order in which lines were submitted.

A line gets its place in a segment at once. The thread writes all lines that wait in one batch. If the disk is full,
slow or away, it tries the same batch again, ever more rarely, while further lines wait in a bounded buffer. So nothing
is lost or out of order once the disk is back, unless the buffer overflowed, which is counted.
"""

import errno
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recommender import logs
from recommender.decisions.entry import Entry, mark_written
from recommender.decisions.names import SUFFIX, new_writer
from recommender.decisions.segment import Segment
from recommender.errors import RecommenderError

log = logs.get(__name__)
TICK_S = 0.5
"""Seconds between looks for a segment that is old enough to be closed. By hand: a tenth of its usual age."""
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 2.0
"""Pauses between attempts at a failing disk: they double from the first to the last. By hand."""
STALLED_S = 1.0
"""A batch that takes longer is a change of state and logged. By hand: healthy disks have pauses of 0.1 s."""
BATCH_BYTES = 2**20
"""Lines of at most 1 MiB or one longer line are written at once. By hand: thousands share a write and a sync."""


class LogFull(RecommenderError):
    """The buffer holds no further line, or the log is closed. There is no record."""


@dataclass(frozen=True)
class Limits:
    """When a segment is closed, what may wait, and what counts as written."""

    segment_bytes: int = 16 * 2**20
    segment_s: float = 5.0
    buffer_bytes: int = 64 * 2**20
    backlog_bytes: int = 2**30
    sync: bool = False


class Writer:
    """Reserves places for lines and writes them in a thread, which starts with the first line."""

    def __init__(self, folder: Path, limits: Limits, clock: Callable[[], datetime]) -> None:
        self.folder, self.limits, self.clock = folder, limits, clock
        self.name = new_writer()
        self.lost = 0
        """Lines for which there was no room, or that were not written when the log was closed."""
        self.waiting = 0
        """Lines that are not written yet."""
        self._waiting_bytes = 0
        self._number = 0
        self._segment: Segment | None = None
        # Lines, and after a segment's last line the segment itself, which is closed then.
        self._queue: deque[Entry | Segment] = deque()
        self._unwritten: dict[str, Entry] = {}
        # Held for microseconds, never over a write.
        self._lock = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closed = False
        self._give_up = threading.Event()
        self._batch_began_s: float | None = None
        self._stuck_since_s: float | None = None

    def submit(self, line: Callable[[str, int, str], tuple[str | None, bytes]]) -> Entry:
        """Give a line its place and let the thread write it. Never blocks on the disk.

        `line` makes the line's bytes, and the request id if it is a decision, from the segment's stem, the offset in it
        and the time.

        Raises:
            LogFull: There is no room for it.
        """
        with self._lock:
            if self._closed:
                self.lost += 1
                raise LogFull("the decision log is closed")
            now = self.clock()
            segment = self._segment_at(now)
            request_id, content = line(segment.stem, segment.reserved, now.isoformat())
            if self._waiting_bytes + len(content) > self.limits.buffer_bytes:
                self.lost += 1
                raise LogFull(f"{self.waiting} lines wait for {self.folder}")
            entry = Entry(segment, segment.reserved, content, request_id)
            segment.reserved += len(content)
            self.waiting += 1
            self._waiting_bytes += len(content)
            if request_id is not None:
                self._unwritten[request_id] = entry
            self._queue.append(entry)
            self._lock.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
                self._thread.start()
        return entry

    def unwritten(self, request_id: str) -> bytes | None:
        """The line of a decision that is not written yet."""
        entry = self._unwritten.get(request_id)
        return None if entry is None else entry.content

    def stalled_s(self) -> float:
        """For how long the present batch has been on its way to the disk."""
        began_s = self._batch_began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def note_stall(self) -> None:
        """Log, once until it ends, that the disk does not take a batch."""
        if self.stalled_s() > STALLED_S:
            self._stuck("no answer from the disk")

    def close(self, within_s: float) -> None:
        """Write what waits, at most `within_s`, and end the thread."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        if self._thread is None:
            return
        self._thread.join(within_s)
        self._give_up.set()
        # A thread that hangs in the disk ends with its process.
        self._thread.join(FIRST_RETRY_S)
        if self.waiting:
            self.lost += self.waiting
            log.error("decisions lost, the log is closed", folder=str(self.folder), lost=self.waiting)

    def _segment_at(self, now: datetime) -> Segment:
        """The segment of the next line. A new one begins each UTC day, forwards or backwards, past a size or an age."""
        day, present = f"{now.year:04}{now.month:02}{now.day:02}", self._segment
        if present is not None:
            is_young = time.monotonic() - present.began_s < self.limits.segment_s
            if day == present.day and (not present.reserved or (is_young and self._has_room(present))):
                return present
            self._queue.append(present)
        self._segment = Segment(self.folder, f"{day}-{self.name}-{self._number}", began_s=time.monotonic())
        self._number += 1
        return self._segment

    def _has_room(self, segment: Segment) -> bool:
        return segment.reserved < self.limits.segment_bytes

    def _run(self) -> None:
        while not self._give_up.is_set():
            taken = self._take()
            if taken is None:
                return
            if isinstance(taken, Segment):
                taken.close()
            elif taken:
                self._write(taken)

    def _take(self) -> list[Entry] | Segment | None:
        """The next lines of one segment, or a segment to close. Empty: nothing for a while. None: the log is closed."""
        with self._lock:
            if not self._queue and not self._closed:
                self._lock.wait(TICK_S)
            self._retire()
            if not self._queue:
                return None if self._closed else []
            first = self._queue.popleft()
            if isinstance(first, Segment):
                return first
            batch, size = [first], len(first.content)
            while size < BATCH_BYTES and self._queue:
                following = self._queue[0]
                if isinstance(following, Segment):
                    break
                size += len(following.content)
                batch.append(following)
                self._queue.popleft()
            self._batch_began_s = time.monotonic()
            return batch

    def _retire(self) -> None:
        """Close the present segment if it is old enough, though no further line comes, or if the log is closed."""
        segment = self._segment
        if segment is None or not segment.reserved:
            return
        if self._closed or time.monotonic() - segment.began_s >= self.limits.segment_s:
            self._segment = None
            self._queue.append(segment)

    def _write(self, batch: list[Entry]) -> None:
        """Write a batch, however often that has to be tried."""
        segment, content = batch[0].segment, b"".join(entry.content for entry in batch)
        pause_s = FIRST_RETRY_S
        while True:
            try:
                if not segment.is_open:
                    self._require_room()
                segment.write(content, batch[0].offset, sync=self.limits.sync)
                break
            except OSError as error:
                self._stuck(str(error))
                if self._give_up.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, LAST_RETRY_S)
        mark_written(batch)
        with self._lock:
            self._batch_began_s = None
            self.waiting -= len(batch)
            self._waiting_bytes -= len(content)
            for entry in batch:
                if entry.request_id is not None:
                    self._unwritten.pop(entry.request_id, None)
        self._unstuck()

    def _require_room(self) -> None:
        """Wait, as on a full disk, while too much is not shipped.

        Raises:
            OSError: the folder holds as much as it may.
        """
        paths = self.folder.glob(f"*{SUFFIX}") if self.folder.is_dir() else ()
        if sum(_size(path) for path in paths) >= self.limits.backlog_bytes:
            raise OSError(errno.EDQUOT, "the backlog of segments that are not shipped is full", str(self.folder))

    def _stuck(self, problem: str) -> None:
        with self._lock:
            if self._stuck_since_s is not None:
                return
            self._stuck_since_s = time.monotonic() - self.stalled_s()
        log.warning("decision log is stuck", folder=str(self.folder), problem=problem, waiting=self.waiting)

    def _unstuck(self) -> None:
        with self._lock:
            since_s, self._stuck_since_s = self._stuck_since_s, None
        if since_s is not None:
            seconds = round(time.monotonic() - since_s, 3)
            log.info("decision log writes again", seconds=seconds, waiting=self.waiting, lost=self.lost)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # shipped meanwhile
        return 0
