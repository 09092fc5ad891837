"""Writers of one file or folder take turns, in several processes of a machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recommender import logs

log = logs.get(__name__)


@contextmanager
def turn(path: Path, *, waits: str = "") -> Iterator[None]:
    """Wait until no other writer of this file or folder is at work. The kernel ends a turn whose process dies.

    `waits` is logged where another one is at work. Without it the wait is too short to tell.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_of(path).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waits:
                log.warning(waits, path=str(path))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def lock_of(path: Path) -> Path:
    """The file beside a path that its writer locks."""
    return path.with_name(f".{path.name}.lock")
