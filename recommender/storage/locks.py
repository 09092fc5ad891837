"""Locks of files between the processes of a machine. The kernel ends the locks of a process that dies."""

import fcntl
from pathlib import Path
from typing import IO, Any

from recommender.errors import SettingsError


def lock_file(path: Path) -> IO[str]:
    """Open the file that is locked, and make it and its folder where they are missing. Whoever closes it ends the lock.

    Raises:
        SettingsError: it cannot be written; names it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise SettingsError(
            f"{path}: the file of a lock cannot be written ({error.strerror}); give its folder to this user, or mount "
            "it so that it can be written"
        ) from None


def lock(file: IO[Any], operation: int = fcntl.LOCK_EX) -> None:
    """Lock a file of `lock_file`.

    Args:
        file: what is locked.
        operation: `fcntl.LOCK_EX` for one process, or `fcntl.LOCK_SH`; with `fcntl.LOCK_NB` it does not wait.

    Raises:
        BlockingIOError: with `fcntl.LOCK_NB`, another process has the lock.
        SettingsError: the file system has no locks; names the file.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        raise SettingsError(
            f"{file.name}: cannot be locked ({error.strerror}); `home` needs a file system with locks: a local disk, "
            "or NFS whose lock service runs and is not switched off by the mount option `nolock`"
        ) from None
