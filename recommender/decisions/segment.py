"""One segment of the decision log on the replica's own disk, written by one thread."""

import errno
import fcntl
import os
from pathlib import Path

from recommender.decisions.names import MODE, SUFFIX


class Segment:
    """A file whose lines have fixed places before they are written.

    So a failed write is repeated with the same bytes at the same place, until the disk takes them. The writer holds a
    lock on the file. The system releases it however the process ends, and whoever gets the lock may ship the segment.
    """

    def __init__(self, folder: Path, stem: str, *, began_s: float) -> None:
        self.stem, self.day = stem, stem[:8]
        self.path = folder / f"{stem}{SUFFIX}"
        self.began_s = began_s
        """On the clock of `time.monotonic`, which no change of the wall clock moves."""
        self.reserved = 0
        """Bytes that belong to lines, written or not."""
        self._descriptor = -1

    @property
    def is_open(self) -> bool:
        """Whether its file was created and not closed yet."""
        return self._descriptor >= 0

    def write(self, content: bytes, offset: int, *, sync: bool) -> None:
        """Write all of `content` at its place. Repeating it after an error is safe.

        Raises:
            OSError: The disk is full or unavailable; any part of the content may be written.
        """
        if not self.is_open:
            self._descriptor = self._open()
        done = 0
        while done < len(content):
            written = os.pwrite(self._descriptor, memoryview(content)[done:], offset + done)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            done += written
        if sync:
            os.fdatasync(self._descriptor)

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            self.path.unlink()
            os.close(descriptor)
            raise
        return descriptor

    def close(self) -> None:
        """Release the file, so that it can be shipped."""
        if self.is_open:
            os.close(self._descriptor)
            self._descriptor = -1
