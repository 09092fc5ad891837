"""Unpacks gzip, zstd and zip into a temporary folder."""

import gzip
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow as pa

from recommender.datasets.reading.kinds import binary_kind, head
from recommender.datasets.reading.raw import Part
from recommender.errors import SourceError

BLOCK_BYTES = 1 << 20
"""Unpacked at once: little memory, few calls. Chosen by hand."""
MOST_LAYERS = 3
"""Layers of compression, as in a zip of gzip files. More is a mistake or an attack."""
WORKBOOKS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")
"""Members that make a zip archive a workbook: .xlsx, .xlsb and .ods."""
OUR_FAULT = (OSError, EOFError, zlib.error, zipfile.BadZipFile, pa.ArrowException, NotImplementedError)


def unpack(part: Part, scratch: Path, *, members: str | None = None, layers: int = 0) -> list[Part]:
    """The file itself where it is not compressed, else the files in it, in the order of their names.

    Args:
        part: the file.
        scratch: a temporary folder.
        members: a pattern that a zip archive's members must match. None: all.
        layers: how many layers of compression are around it.

    Raises:
        SourceError: it is damaged, locked by a password, or holds nothing.
    """
    try:
        kind = binary_kind(part.label, head(part.path))
        if kind == "zip" and not is_workbook(part.path):
            inner = _unzip(part, scratch, members)
        elif kind in ("gzip", "zstd"):
            inner = [_decompress(part, scratch, kind)]
        elif members is not None:
            raise SourceError(f"{part.label}: no zip archive, so it has no member {members!r}")
        else:
            return [part]
    except OUR_FAULT as error:
        raise SourceError(f"{part.label}: the compressed file is damaged or cut off ({error}); copy it again") from None
    if layers + 1 > MOST_LAYERS:
        raise SourceError(f"{part.label}: compressed more than {MOST_LAYERS} times over; unpack it")
    return [file for one in inner for file in unpack(one, scratch, layers=layers + 1)]


def is_workbook(path: Path) -> bool:
    """Whether a zip archive is an Excel or OpenDocument workbook."""
    with zipfile.ZipFile(path) as archive:
        return any(name in WORKBOOKS for name in archive.namelist())


def new_file(scratch: Path, suffix: str = "") -> Path:
    """A path in the temporary folder that no file has yet."""
    return scratch / f"{sum(1 for _ in scratch.iterdir())}{suffix}"


def _decompress(part: Part, scratch: Path, kind: str) -> Part:
    target = new_file(scratch)
    with target.open("wb") as out:
        if kind == "gzip":
            with gzip.open(part.path) as file:
                shutil.copyfileobj(file, out, BLOCK_BYTES)
        else:
            with pa.OSFile(str(part.path)) as raw, pa.CompressedInputStream(raw, "zstd") as file:
                while block := file.read(BLOCK_BYTES):
                    out.write(block)
    return Part(part.label, target)


def _unzip(part: Part, scratch: Path, members: str | None) -> list[Part]:
    with zipfile.ZipFile(part.path) as archive:
        names = sorted(info.filename for info in archive.infolist() if not info.is_dir() and _is_data(info.filename))
        chosen = [name for name in names if members is None or PurePosixPath(name).match(members)]
        if not chosen:
            wanted = "no file" if members is None else f"no member {members!r}; it has {', '.join(names)}"
            raise SourceError(f"{part.label}: the zip archive has {wanted}")
        files = []
        for name in chosen:
            label = part.label if len(names) == 1 else f"{part.label}/{name}"
            if archive.getinfo(name).flag_bits & 1:
                raise SourceError(f"{label}: locked by a password; unpack it")
            target = new_file(scratch)
            with archive.open(name) as file, target.open("wb") as out:
                _copy(file, out)
            files.append(Part(label, target))
    return files


def _copy(file: IO[bytes], out: IO[bytes]) -> None:
    shutil.copyfileobj(file, out, BLOCK_BYTES)


def _is_data(name: str) -> bool:
    """Whether a member is more than what macOS and Windows add to an archive."""
    return not name.startswith("__MACOSX/") and not PurePosixPath(name).name.startswith((".", "Thumbs.db"))
