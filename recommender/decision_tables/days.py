"""Compacted days of the decision log.

    decisions/days/2026-01-05/
      manifest.json                which files are the day's tables, and which segments they hold
      decisions-<hash>.parquet     one row for each decision
      exposures-<hash>.parquet     confirmations of that day's decisions, whenever they came
      undelivered-<hash>.parquet   that day's answers that did not arrive

No Parquet file is ever changed. One rename of the manifest replaces a day's tables, so a kill at any moment leaves the
old tables or the new ones. A replaced file is deleted by the first compaction an hour later, when no reader has it
open, whether its day has changed since or not. A removal of users deletes replaced files at once.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from recommender.decision_tables.schema import SCHEMA_VERSION
from recommender.decisions.names import MODE, SegmentName
from recommender.errors import CorruptFileError
from recommender.storage.home import Home
from recommender.storage.locks import lock, lock_file
from recommender.storage.manifest import MANIFEST, NAME_DIGITS, sha256, write_text

Table = Literal["decisions", "exposures", "undelivered"]
GRACE_S = 3_600.0
"""Seconds for which a replaced file stays for readers that opened it. By hand: longer than a query takes."""
LOCK = ".lock"


class Part(BaseModel):
    """One Parquet file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    num_bytes: int
    rows: int


class DayManifest(BaseModel):
    """What a day's tables are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    parts: dict[Table, Part] = {}
    segments: dict[str, list[tuple[int, int]]] = {}
    """Writer -> numbers of its segments that the tables hold, as ranges with both ends."""

    def holds(self, segment: SegmentName) -> bool:
        """Whether the tables hold the decisions of a segment."""
        return any(first <= segment.number <= last for first, last in self.segments.get(segment.writer, ()))

    def with_segments(self, segments: list[SegmentName]) -> dict[str, list[tuple[int, int]]]:
        """The ranges after these segments were added."""
        numbers: dict[str, set[int]] = {}
        for segment in segments:
            numbers.setdefault(segment.writer, set()).add(segment.number)
        merged = dict(self.segments)
        for writer, added in numbers.items():
            ranges: list[tuple[int, int]] = []
            for first, last in sorted([*self.segments.get(writer, ()), *((number, number) for number in added)]):
                if ranges and first <= ranges[-1][1] + 1:
                    ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
                else:
                    ranges.append((first, last))
            merged[writer] = ranges
        return merged


@dataclass(frozen=True)
class Day:
    """The folder of one day. Its name is the day, as 2026-01-05."""

    folder: Path

    @classmethod
    def of(cls, home: Home, day: str) -> "Day":
        """The folder of a day that is given as YYYYMMDD, as segments and request ids have it."""
        return cls(home.decision_days / f"{day[:4]}-{day[4:6]}-{day[6:]}")

    @property
    def date(self) -> date:
        """The day."""
        return date.fromisoformat(self.folder.name)

    def manifest(self) -> DayManifest:
        """What the tables are, empty before the first compaction of the day.

        Raises:
            CorruptFileError: The manifest cannot be read, or a later version of this software wrote it.
        """
        path = self.folder / MANIFEST
        try:
            manifest = DayManifest.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return DayManifest()
        except ValidationError as error:
            raise CorruptFileError(f"{path}: not a manifest of a day ({error.errors()[0]['msg']})") from None
        if manifest.schema_version > SCHEMA_VERSION:
            raise CorruptFileError(
                f"{path}: schema version {manifest.schema_version}, and this software knows {SCHEMA_VERSION}; update it"
            )
        return manifest

    def path(self, part: Part) -> Path:
        """Where a part lies."""
        return self.folder / part.name

    def verified(self, part: Part) -> Path:
        """Where a part lies, after its bytes were compared with the manifest.

        Raises:
            CorruptFileError: The file is missing or altered; names it.
        """
        path = self.path(part)
        if not path.is_file() or sha256(path) != part.sha256:
            raise CorruptFileError(f"{path}: missing, or its SHA-256 is not the one of its manifest; restore a backup")
        return path

    def add(self, table: Table, written: Path, rows: int) -> Part:
        """Give a file that was written in this folder its name, which is made of its content."""
        written.chmod(MODE)
        descriptor = os.open(written, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        content = sha256(written)
        part = Part(
            name=f"{table}-{content[:NAME_DIGITS]}.parquet",
            sha256=content,
            num_bytes=written.stat().st_size,
            rows=rows,
        )
        written.replace(self.path(part))
        return part

    def commit(self, manifest: DayManifest) -> None:
        """Make these the day's tables, by one rename."""
        kept = {part.name for part in manifest.parts.values()}
        for part in self.manifest().parts.values():
            if part.name not in kept and self.path(part).is_file():
                os.utime(self.path(part))  # `sweep` counts from the moment at which a file was replaced
        write_text(self.folder / MANIFEST, manifest.model_dump_json(indent=1))
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sweep(self, *, at_once: bool = False) -> None:
        """Delete replaced files, and what a kill left, once no reader has them open, or `at_once`."""
        named = {MANIFEST, *(part.name for part in self.manifest().parts.values())}
        for path in self.folder.iterdir():
            if path.name not in named and (at_once or time.time() - path.stat().st_mtime > GRACE_S):
                path.unlink(missing_ok=True)


def days_of(home: Home) -> list[Day]:
    """The days that were compacted, oldest first."""
    if not home.decision_days.is_dir():
        return []
    return [Day(path) for path in sorted(home.decision_days.iterdir()) if _is_day(path.name)]


def merged_segments(home: Home, manifests: Mapping[Day, DayManifest], names: Iterable[SegmentName]) -> set[SegmentName]:
    """Those of the segments whose decisions are in the tables that the manifests describe."""
    empty = DayManifest()
    return {name for name in names if manifests.get(Day.of(home, name.day), empty).holds(name)}


def _is_day(name: str) -> bool:
    try:
        datetime.strptime(name, "%Y-%m-%d")
    except ValueError:
        return False
    return True


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Be the only process that changes the tables. The lock ends with its process."""
    with lock_file(home.decisions / LOCK) as file:
        lock(file)
        yield
