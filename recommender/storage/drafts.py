"""Folders and files that killed writers left half-written below a home: found by their names, and deleted.

`storage.manifest` writes under a hidden name that ends with random digits, and renames that in one step. A killed
writer leaves it behind, with whatever rows it had written.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from recommender.storage.manifest import WRITER_DIGITS, held, put_back, remove

DRAFT = re.compile(rf"\.(?P<target>.+?)\.(parts-)?[0-9a-f]{{{WRITER_DIGITS}}}(?P<old>\.old)?")
"""The hidden names: of a folder or file that is written, of the parts that Spark's executors write beside it, and of a
folder that was just replaced."""
LOCKED_S = 1.0
"""A writer locks its folder within milliseconds. By hand."""
FILE_S = 10.0
"""Writing one file and renaming it takes no longer, and nobody can lock a file that is renamed. By hand: 64 MiB on a
slow volume."""
LOOK_S = 0.2
"""Seconds between looks. By hand."""


def is_draft(name: str) -> bool:
    """Whether a file or folder of this name is half-written."""
    return DRAFT.fullmatch(name) is not None


def drafts_in(root: Path, *, leave_out: Sequence[Path] = ()) -> Iterator[Path]:
    """The half-written files and folders below `root`, of living and dead writers, the outermost ones only."""
    for folder, names, files in os.walk(root):
        here = Path(folder)
        found = [name for name in (*names, *files) if is_draft(name)]
        yield from (here / name for name in sorted(found))
        names[:] = [name for name in names if name not in found and here / name not in leave_out]


def delete_drafts(root: Path, *, leave_out: Sequence[Path] = ()) -> list[Path]:
    """Delete what dead writers left below `root`, and return it. Waits up to `FILE_S` until it is known who is dead."""
    deleted: list[Path] = []
    waiting = list(drafts_in(root, leave_out=leave_out))
    deadline = time.monotonic() + FILE_S + LOOK_S
    while waiting:
        done = {path: _deleted(path) for path in waiting}
        deleted += [path for path, gone in done.items() if gone]
        waiting = [path for path, gone in done.items() if gone is None]
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(LOOK_S)
    return deleted


def _deleted(path: Path) -> bool | None:
    """Delete a draft if its writer is dead, and return whether it was. None: it is too young to tell."""
    try:
        age_s = time.time() - path.lstat().st_mtime
    except FileNotFoundError:  # renamed or removed meanwhile
        return False
    name = DRAFT.fullmatch(path.name)
    if name is not None and name["old"]:
        # Where the only whole folder is the one that was just replaced, it is the folder and not a leftover.
        put_back(path.with_name(name["target"]))
        if not os.path.lexists(path):
            return False
    if not path.is_dir() or path.is_symlink():
        if age_s < FILE_S:
            return None
        remove(path)
        return True
    if age_s < LOCKED_S:
        return None
    try:
        with held(path) as dead:
            if dead:
                remove(path)
            return dead
    except FileNotFoundError:
        return False
