"""A folder of this machine or of an object store (`s3://bucket/prefix`), read and written by pyarrow.

Keys, region and endpoint come from the environment, as for sources (`recommender.datasets.reading.objects`).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyarrow import fs

from recommender.datasets.reading.objects import BLOCK_BYTES, explained, is_object, store_of
from recommender.storage.manifest import MANIFEST

REMEDY = "name another folder or bucket, or create it"


@dataclass(frozen=True)
class Listed:
    """A file of a place."""

    num_bytes: int
    changed: datetime


@dataclass(frozen=True)
class Place:
    """Where a folder lies. It can be pickled, so that other machines read and write there.

    All methods raise `SourceError` where a store refuses the key or lacks the object, and `SourceAway` where it cannot
    be reached now.
    """

    location: str

    @classmethod
    def of(cls, location: str) -> "Place":
        """A place by its address, or by a path that may be relative to this process's folder.

        Raises:
            SourceError: it is an address of a kind that is not read, holds a key, or names a whole bucket.
        """
        return cls(location if is_object(location) else str(Path(location).absolute()))

    @property
    def is_remote(self) -> bool:
        """Whether it is an address and not a path."""
        return "://" in self.location

    @property
    def path(self) -> Path:
        """The folder, of a place on this machine."""
        assert not self.is_remote
        return Path(self.location)

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """One of its files, as pyarrow reads it."""
        with explained(self.location, remedy=REMEDY):
            files, root = self._store()
            with files.open_input_file(f"{root}/{name}") as file:
                yield file

    def read(self, name: str, folder: Path) -> Path:
        """Copy a file to `folder`, under its name, unless it lies on this machine. Returns where it is."""
        if not self.is_remote:
            return self.path / name
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.opened(name) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, BLOCK_BYTES)
        return target

    def write(self, file: Path, name: str) -> None:
        """Move a file to this place, under another name."""
        if not self.is_remote:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, self.path / name)
            return
        with explained(self.location, remedy=REMEDY):
            files, root = self._store()
            with file.open("rb") as source, files.open_output_stream(f"{root}/{name}") as out:
                shutil.copyfileobj(source, out, BLOCK_BYTES)
        file.unlink()

    def write_folder(self, folder: Path) -> None:
        """Move all files of a folder to this place, the manifest last, so that it vouches for the others."""
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        for file in sorted(files, key=lambda file: file == folder / MANIFEST):
            self.write(file, file.relative_to(folder).as_posix())

    def files(self) -> dict[str, Listed]:
        """All files below, by their names in this place, in order. None where the place does not exist."""
        with explained(self.location, remedy=REMEDY):
            files, root = self._store()
            found = files.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
        return {
            one.path.removeprefix(root).lstrip("/"): Listed(int(one.size or 0), one.mtime or datetime.now(UTC))
            for one in sorted(found, key=lambda one: str(one.path))
            if one.type == fs.FileType.File
        }

    def folders(self) -> list[str]:
        """Names of the folders directly in this place."""
        with explained(self.location, remedy=REMEDY):
            files, root = self._store()
            found = files.get_file_info(fs.FileSelector(root, allow_not_found=True))
        return sorted(str(one.base_name) for one in found if one.type == fs.FileType.Directory)

    def remove(self) -> None:
        """Delete the folder and all in it."""
        if not self.is_remote:
            shutil.rmtree(self.path, ignore_errors=True)
            return
        with explained(self.location, remedy=REMEDY):
            files, root = self._store()
            if files.get_file_info(root).type != fs.FileType.NotFound:
                files.delete_dir(root)

    def remove_file(self, name: str) -> None:
        """Delete a file, which may be gone already."""
        if not self.is_remote:
            (self.path / name).unlink(missing_ok=True)
            return
        with explained(self.location, remedy=REMEDY):
            files, root = self._store()
            if files.get_file_info(f"{root}/{name}").type != fs.FileType.NotFound:
                files.delete_file(f"{root}/{name}")

    def _store(self) -> tuple[Any, str]:
        """A file system of pyarrow, and the path in it."""
        if not self.is_remote:
            return fs.LocalFileSystem(), self.location
        scheme, _, path = self.location.partition("://")
        return store_of(scheme, path.split("/", 1)[0]), path.rstrip("/")
