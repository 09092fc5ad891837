"""Files and folders that are written whole or not at all, and manifests by which readers verify them first.

One flipped bit loads silently from safetensors, Parquet and torch files alike, so every folder that is handed from
one step to the next (tables, features, catalogue, bundle) carries `manifest.json` with a SHA-256 of each file.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from recommender.errors import CorruptFileError, SettingsError

MANIFEST = "manifest.json"
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Constants of Linux's renameat2 (linux/fcntl.h, linux/fs.h): paths as they are, and exchange the two names."""
NAME_DIGITS = 16
"""Hex digits of a hash that name a folder, and that a page's footer shows. 64 bits: no two folders of one home share a
name."""
SHOWN_DIGITS = 12
"""Hex digits of a hash in a message, a study's or a pipeline version's name: 48 bits tell the few of one home apart."""
YOUNG_S = 60.0
"""Younger leftovers stay: their writer may not have locked them yet. That takes milliseconds, so this is ample."""
LONGEST_NAME = 244
"""Bytes. Linux allows 255, and while a file is written its name is 10 or 11 bytes longer."""
WRITER_DIGITS = 8
"""Hex digits of a temporary name. 32 random bits keep those apart who write the same file at once."""


def sha256(path: Path) -> str:
    """Hex SHA-256 of one file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: object) -> str:
    """Hex SHA-256 of values as canonical JSON: an identity for data, configurations and versions."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str, separators=(",", ":")).encode()).hexdigest()


def write_manifest(folder: Path, **facts: Any) -> dict[str, Any]:
    """Record every file below `folder` with its SHA-256 and size, beside `facts`, and return what was written.

    `content_hash` identifies the files' names and bytes, not the facts.
    """
    files = {
        path.relative_to(folder).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {**facts, "content_hash": digest({name: file["sha256"] for name, file in files.items()}), "files": files}
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, default=str))
    return manifest


def read_manifest(folder: Path, *, verify: bool = True, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The manifest of `folder`, with `verify` after checking that every file is the one that it names.

    Files whose names begin with one of `leave_out` are not checked: whoever reads them checks them.

    Raises:
        CorruptFileError: a file is missing, truncated or altered; names it.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files = {name: (str(file["sha256"]), int(file["bytes"])) for name, file in manifest["files"].items()}
    except (FileNotFoundError, NotADirectoryError):
        if not folder.is_dir():
            raise CorruptFileError(
                f"{folder}: {'a file, not a folder' if folder.exists() else 'no such folder'}"
            ) from None
        raise CorruptFileError(
            f"{path}: missing; {folder} was never completely written. Run the step that makes it again."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{path}: not a manifest ({error}). Run the step that makes it again.") from None
    if verify:
        for name, (expected, size) in files.items():
            if name.startswith(leave_out):
                continue
            file = folder / name
            if not file.is_file():
                raise CorruptFileError(f"{file}: missing, though {path} lists it. Run the step that makes it again.")
            if file.stat().st_size != size:
                raise CorruptFileError(
                    f"{file}: {file.stat().st_size} bytes instead of {size} (truncated or overwritten)."
                )
            if sha256(file) != expected:
                raise CorruptFileError(f"{file}: its SHA-256 is not the one in {path}; the file is corrupt.")
    return manifest


def require_writable(path: Path) -> None:
    """Check that a file can be written at `path`, before work is spent on its content.

    Raises:
        SettingsError: there is a folder at `path`, the folder around it is missing or not writable, or the name is
            too long.
    """
    require_short_name(path)
    if path.is_dir():
        raise SettingsError(f"{path}: this is a folder, not a file that can be written")
    if not path.parent.is_dir():
        raise SettingsError(f"{path}: its folder does not exist; create it or choose another path")
    require_folder_takes_files(path.parent)


def require_short_name(path: Path) -> None:
    """Check that `path` leaves room in its name for the temporary name under which it is written.

    Raises:
        SettingsError: the name is too long.
    """
    if (length := len(os.fsencode(path.name))) > LONGEST_NAME:
        raise SettingsError(f"{path}: the name must not be longer than {LONGEST_NAME} bytes (got {length})")


def require_folder_takes_files(folder: Path) -> None:
    """Check that files can be written in `folder` or, if it does not exist yet, in the nearest folder above.

    Raises:
        SettingsError: the folder is not writable. Holds the system's reason.
    """
    existing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    try:
        with TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise SettingsError(f"{folder}: the folder is not writable ({error.strerror or error})") from None


def require_apart(read: Iterable[Path | None], written: Iterable[Path | None], *, replaced: Path | None = None) -> None:
    """Check that no input is overwritten, and that no two outputs have the same path.

    Args:
        read: paths that are read.
        written: paths that are written.
        replaced: a folder that is replaced as a whole, so that none of the others may lie in it.

    Raises:
        SettingsError: two paths are the same, or one lies in `replaced`. Names the path.
    """
    taken = {_real(path): path for path in read if path is not None}
    for path in written:
        if path is not None:
            if _real(path) in taken:
                raise SettingsError(f"{path}: this path is given twice, so one file would overwrite the other")
            taken[_real(path)] = path
    for real, path in taken.items():
        if replaced is not None and real.is_relative_to(_real(replaced)):
            raise SettingsError(f"{path}: this lies in {replaced}, which is replaced as a whole; choose another path")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all (temporary name, fsync, rename)."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file whole or not at all (temporary name, fsync, rename). `mode`: who may use it, less the umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:WRITER_DIGITS]}")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file that is never changed in place a second name. Copy it where that is on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _close(folder: Path, given: int) -> None:
    """Take away from `folder` and what lies in it what the mode `given`, of a new folder under the umask, gives nobody.

    Copies have the modes of their sources, and KFP's launcher makes a step's inputs with umask 0.
    """
    denied = 0o777 & ~given
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        if mode & denied and not path.is_symlink():
            path.chmod(stat.S_IMODE(mode) & ~denied)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well and vanishes otherwise.

    A step that is killed at any moment leaves `target` as it was (absent, or the previous whole one) or as it should
    become. What it leaves beside that is removed by a later writer of `target`. Where the file system cannot exchange
    two folders there is a moment without `target`, and a kill in that moment is mended by `put_back` or the next
    writer.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    put_back(target)
    _sweep(target)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:WRITER_DIGITS]}")
    temporary.mkdir()
    given = temporary.stat().st_mode
    with held(temporary):
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _close(temporary, given)
        if not os.path.lexists(target):
            temporary.replace(target)
        elif _exchanged(temporary, target):
            remove(temporary)
        else:
            previous = temporary.with_name(f"{temporary.name}.old")
            target.replace(previous)
            temporary.replace(target)
            remove(previous)


def put_back(target: Path) -> None:
    """Restore `target` where a kill came between the two renames of a file system that cannot exchange."""
    for previous in [] if os.path.lexists(target) else _left(target):
        if previous.suffix == ".old":
            with suppress(OSError):  # another process was faster
                previous.replace(target)


def _left(target: Path) -> list[Path]:
    """The temporary folders that writers of `target`, living or dead, have beside it."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}(\.old)?")
    with suppress(FileNotFoundError):
        return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]
    return []


def _sweep(target: Path) -> None:
    """Remove what killed writers of `target` left: temporary folders without a lock and older than `YOUNG_S`."""
    for path in _left(target):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > YOUNG_S:
                with held(path) as dead:
                    if dead:
                        remove(path)


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """A lock on a folder that ends with this process. Yields False if another process has it or locks are missing."""
    file, ours = os.open(folder, os.O_RDONLY), False
    try:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = True
        yield ours
    finally:
        os.close(file)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step, and return whether that worked. NFS, for example, cannot do it."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), ctypes.c_uint(RENAME_EXCHANGE)
    )


def remove(path: Path) -> None:
    """Remove a file or folder, also where another process removes it too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
