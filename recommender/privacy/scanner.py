"""Looks for ids in files of every format, whatever wrote them: the proof that a user is gone.

Parquet (values, dictionaries and statistics), SQLite (also its free pages and write-ahead log), JSON and JSON lines,
safetensors, numpy, plain text, and gzip, zstd, zip and tar around any of these. An id is looked for as UTF-8, UTF-16,
UTF-32 and as JSON escapes it. The id of another user that holds it is no trace of it.
"""

import gzip
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recommender.event_tables.forgotten_rows import ROWS_AT_ONCE

LEAST_CHARACTERS, LEAST_DIGITS = 8, 12
"""Shorter ids, and numbers of fewer digits, occur by chance in what is not about users. By hand: eight letters do so
once in 2e11 places, twelve digits once in 1e12 among digits."""
PARQUET, GZIP, ZSTD, ZIP = b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
DEPTH = 4
"""Archives within archives that are opened. By hand."""
BLOCK = 2**26
"""Bytes that are searched at once, 64 MiB. By hand."""


@dataclass(frozen=True)
class Seen:
    """A file that holds ids."""

    path: Path
    ids: frozenset[str]


def is_long(one: str) -> bool:
    """Whether an id is long enough that nothing else holds it by chance."""
    return len(one) >= (LEAST_DIGITS if one.isdigit() else LEAST_CHARACTERS)


class Scanner:
    """Looks for some ids.

    Args:
        ids: those that are looked for. Ids that are not long are left out.
        others: ids of other users. What one of them holds is no trace: customer-1 is not in customer-10.
    """

    def __init__(self, ids: Iterable[str], others: Iterable[str] = ()) -> None:
        self.ids = tuple(sorted({one for one in ids if is_long(one)}))
        self._id_of = {needle: one for one in self.ids for needle in _needles(one)}
        holding = {one for one in others if any(asked in one for asked in self.ids)}.difference(self.ids)
        self._others = frozenset(needle for one in holding for needle in _needles(one))
        self._lengths_of_others = sorted({len(needle) for needle in self._others})
        # The longest first, so that of two ids that begin alike the right one is found.
        pattern = b"|".join(re.escape(needle) for needle in sorted(self._id_of, key=len, reverse=True))
        self._pattern = re.compile(pattern) if self._id_of else None
        self._reach = max(map(len, (*self._id_of, *self._others)), default=0)

    def places(self, content: Any) -> Iterator[tuple[int, int]]:
        """Where bytes hold one of the ids: start and end."""
        for match in self._pattern.finditer(content) if self._pattern else ():
            if not self._is_of_another(content, *match.span()):
                yield match.span()

    def scan(self, folder: Path, *, leave_out: Sequence[Path] = ()) -> Iterator[Seen]:
        """The files below `folder` that hold one of the ids, without those below `leave_out`."""
        for path in sorted(folder.rglob("*")) if self._pattern else []:
            if path.is_symlink() or not path.is_file() or any(path.is_relative_to(one) for one in leave_out):
                continue
            try:
                found = self.in_file(path)
            except FileNotFoundError:  # removed meanwhile
                continue
            if found:
                yield Seen(path, frozenset(found))

    def in_file(self, path: Path) -> set[str]:
        """The ids that a file holds."""
        found: set[str] = set()
        if not self._pattern:
            return found
        with path.open("rb") as file:
            head, content = file.read(8), b""
            file.seek(0)
            while block := file.read(BLOCK):
                content = content[-2 * self._reach :] + block
                # What ends within reach of the block's end may go on in the next one.
                found |= self._in_bytes(content, until=len(content) - self._reach)
            found |= self._in_bytes(content[-2 * self._reach :])
        if head[:4] == PARQUET:
            found |= self._in_parquet(path)
        elif _is_packed(head) or tarfile.is_tarfile(path):
            found |= self.in_content(path.read_bytes())
        return found

    def in_content(self, content: bytes, depth: int = DEPTH) -> set[str]:
        """The ids in bytes, and in what they are an archive of."""
        found = self._in_bytes(content)
        if depth:
            for inner in _unpacked(content):
                found |= self.in_content(inner, depth - 1)
        if content[:4] == PARQUET:
            found |= self._in_parquet(io.BytesIO(content))
        return found

    def _in_bytes(self, content: Any, until: int | None = None) -> set[str]:
        return {
            self._id_of[bytes(content[start:end])]
            for start, end in self.places(content)
            if until is None or end <= until
        }

    def _is_of_another(self, content: Any, start: int, end: int) -> bool:
        """Whether a match lies in the id of another user."""
        return any(
            bytes(content[first : first + length]) in self._others
            for length in self._lengths_of_others
            for first in range(max(0, end - length), start + 1)
        )

    def _in_parquet(self, source: Path | io.BytesIO) -> set[str]:
        """The ids in the values. Dictionaries are values too, and statistics are among the file's plain bytes.

        A file that a kill cut off has no value that can be read: of it the bytes alone are looked at.
        """
        found: set[str] = set()
        try:
            for batch in pq.ParquetFile(source, pre_buffer=False).iter_batches(ROWS_AT_ONCE):
                for column in batch.columns:
                    for array in _leaves(column):
                        # The text of all values, one behind the other.
                        for buffer in array.buffers():
                            if buffer is not None:
                                found |= self._in_bytes(memoryview(buffer))
        except (OSError, pa.ArrowInvalid):
            return found
        return found


def _needles(one: str) -> set[bytes]:
    # As JSON without ASCII escapes it, and as Python's own json does.
    texts = {one, json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]}
    return {text.encode() for text in texts} | {one.encode("utf-16-le"), one.encode("utf-32-le")}


def _leaves(array: Any) -> Iterator[Any]:
    """The arrays of texts and bytes in an array, however deep they are nested."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _leaves(array.dictionary)
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            yield from _leaves(array.field(place))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        yield from _leaves(array.values if not pa.types.is_map(kind) else array.keys)
        if pa.types.is_map(kind):
            yield from _leaves(array.items)
    elif (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        yield array


def _is_packed(head: bytes) -> bool:
    return head[:2] == GZIP or head[:4] in (ZSTD, ZIP)


def _unpacked(content: bytes) -> Iterator[bytes]:
    """What an archive holds. Nothing, where the bytes are no archive, or a damaged one from there on."""
    try:
        if content[:2] == GZIP:
            yield gzip.decompress(content)
        elif content[:4] == ZSTD:
            yield pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
        elif content[:4] == ZIP:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for name in archive.namelist():
                    yield archive.read(name)
        elif content[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for member in tar:
                    if (inner := tar.extractfile(member)) is not None:
                        yield inner.read()
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, pa.ArrowInvalid, RuntimeError):
        return
