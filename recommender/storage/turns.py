"""Writers of one file or folder take turns, in several processes of a machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recommender import logs
from recommender.storage.locks import lock, lock_file

log = logs.get(__name__)


@contextmanager
def turn(path: Path, *, waits: str = "") -> Iterator[None]:
    """Wait until no other writer of this file or folder is at work. The kernel ends a turn whose process dies.

    `waits` is logged where another one is at work. Without it the wait is too short to tell.

    Raises:
        SettingsError: the file system has no locks, or cannot be written; names the file.
    """
    with lock_file(lock_of(path)) as file:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waits:
                log.warning(waits, path=str(path))
            lock(file)
        yield


def lock_of(path: Path) -> Path:
    """The file beside a path that its writer locks."""
    return path.with_name(f".{path.name}.lock")
