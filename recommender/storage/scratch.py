"""Temporary folders for rows that are worked on, known by their names, so that those of killed processes are found."""

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from recommender.storage.drafts import LOCKED_S
from recommender.storage.manifest import held, remove

PREFIX = "recommender."
_NAME = re.compile(rf"{re.escape(PREFIX)}[a-z-]+\.[a-z0-9_]{{8}}")
"""Purpose and the eight characters that `tempfile` draws."""


@contextmanager
def scratch_folder(purpose: str, scratch: Path | None = None) -> Iterator[Path]:
    """A temporary folder that vanishes at the end of the block, and is locked until then.

    Args:
        purpose: part of its name in small letters, so that a person who finds it knows what it was.
        scratch: the folder around it. None: the system's for temporary files.
    """
    with TemporaryDirectory(prefix=f"{PREFIX}{purpose}.", dir=scratch, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with held(folder):
            yield folder


def left_scratch(scratch: Path | None = None, *, delete: bool = False) -> list[Path]:
    """The temporary folders that killed processes of this user left on this machine. `delete`: they go."""
    found = []
    for path in sorted(Path(scratch or tempfile.gettempdir()).glob(f"{PREFIX}*")):
        try:
            stat = path.lstat()
        except FileNotFoundError:
            continue
        is_ours = _NAME.fullmatch(path.name) is not None and path.is_dir() and stat.st_uid == os.getuid()
        if not is_ours or path.is_symlink() or time.time() - stat.st_mtime < LOCKED_S:
            continue
        with suppress(FileNotFoundError), held(path) as dead:
            if dead:
                found.append(path)
                if delete:
                    remove(path)
    return found
