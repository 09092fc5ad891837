"""Ships closed segments from the replica's own disk to the shared folder, also those that a killed process left.

A segment is shipped by one rename, synced before it is deleted here. The shipped copy ends with a seal, a line that
holds the number of lines before it and the SHA-256 of their bytes, so a reader knows that it is whole. Shipping
is safe to repeat: a kill between rename and deletion leaves two equal segments, and the next look deletes the own one.
"""

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from recommender import logs
from recommender.decisions.names import MODE, segments_in
from recommender.errors import CorruptFileError
from recommender.storage.manifest import YOUNG_S, write_bytes

log = logs.get(__name__)
SEALED = "sealed"
"""The `event` of a segment's last line."""
LOOK_S = 0.5
"""Seconds between looks for closed segments. By hand: short beside the age at which they are closed."""
LAST_RETRY_S = 30.0
"""The longest pause between attempts at a shared folder that fails. By hand."""


@dataclass(frozen=True)
class Backlog:
    """What is not shipped yet."""

    segments: int = 0
    num_bytes: int = 0
    oldest_s: float | None = None
    """When the oldest of the closed segments was last written, seconds since 1970."""

    def lag_s(self) -> float:
        """Seconds for which the oldest closed segment has waited."""
        return 0.0 if self.oldest_s is None else max(0.0, time.time() - self.oldest_s)


class Shipper:
    """Ships a folder's segments in a thread of its own, because a shared folder may hang."""

    def __init__(self, folder: Path, shared: Path, erase: Callable[[bytes], bytes] = bytes) -> None:
        self.folder, self.shared, self.erase = folder, shared, erase
        self.backlog = Backlog()
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="decision-shipper", daemon=True)

    def start(self) -> None:
        """Begin with what earlier processes left."""
        self._thread.start()

    def close(self, within_s: float) -> None:
        """Ship what is closed, at most `within_s`. What is left is shipped by the next process of this folder."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)
        if self.backlog.segments:
            log.warning("segments are left for the next process", folder=str(self.folder), **self._facts())

    def _run(self) -> None:
        pause_s = LOOK_S
        while True:
            last = self._stop.is_set()
            pause_s = LOOK_S if self._ship() else min(2 * pause_s, LAST_RETRY_S)
            if last:
                return
            self._stop.wait(pause_s)

    def _ship(self) -> bool:
        """Ship every closed segment, or log once why that fails."""
        try:
            ship(self.folder, self.shared, self._note, self.erase)
        except (OSError, CorruptFileError) as error:
            if not self._failing:
                log.warning("segments cannot be shipped", problem=str(error), **self._facts())
            self._failing = True
            return False
        if self._failing:
            log.info("segments are shipped again", **self._facts())
        self._failing = False
        return True

    def _note(self, backlog: Backlog) -> None:
        self.backlog = backlog

    def _facts(self) -> dict[str, object]:
        return {"segments": self.backlog.segments, "bytes": self.backlog.num_bytes}


def ship(folder: Path, shared: Path, note: Callable[[Backlog], None], erase: Callable[[bytes], bytes] = bytes) -> None:
    """Ship every segment of `folder` that no process writes, and tell `note` what is left.

    `erase` takes the lines of forgotten users out of a segment (`recommender.decisions.erasing`).

    Raises:
        OSError: a segment cannot be read, or the shared folder cannot be written. What was shipped stays shipped.
        CorruptFileError: it is not known who was forgotten, so that nothing may be shipped.
    """
    closed = [(path, stat) for path in segments_in(folder) if (stat := _closed(path)) is not None]
    # Oldest first, so that a lag that grows means that nothing at all is shipped.
    closed.sort(key=lambda pair: (pair[1].st_mtime, pair[0].name))
    num_bytes = sum(stat.st_size for _, stat in closed)
    for place, (path, stat) in enumerate(closed):
        note(Backlog(len(closed) - place, num_bytes, stat.st_mtime))
        _ship_one(path, shared, erase)
        num_bytes -= stat.st_size
    note(Backlog())


def _closed(path: Path) -> os.stat_result | None:
    """The stat of a segment that no process writes."""
    with _locked(path) as descriptor:
        return None if descriptor is None else os.fstat(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """A descriptor of a segment while this process alone has it. None: another one writes or ships it, or has."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        stat = os.fstat(descriptor)
        # A writer creates the file before it locks it, so an empty young one may be about to be written.
        is_new = not stat.st_size and time.time() - stat.st_mtime < YOUNG_S
        yield None if is_new or not stat.st_nlink else descriptor
    finally:
        os.close(descriptor)


def _ship_one(path: Path, shared: Path, erase: Callable[[bytes], bytes]) -> None:
    with _locked(path) as descriptor:
        if descriptor is None:
            return
        content = sealed(erase(path.read_bytes()))
        if content and not (shared / path.name).is_file():
            write_bytes(shared / path.name, content, mode=MODE)
            _sync_folder(shared)
        path.unlink(missing_ok=True)


def sealed(content: bytes) -> bytes:
    """The whole lines of a segment and the seal behind them. Empty if there are none.

    What follows the last line end was cut off by a kill and never acknowledged.
    """
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        return b""
    return (
        whole
        + orjson.dumps({"event": SEALED, "lines": whole.count(b"\n"), "sha256": hashlib.sha256(whole).hexdigest()})
        + b"\n"
    )


def _sync_folder(folder: Path) -> None:
    """Put the rename itself on disk, before the only other copy is deleted."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
