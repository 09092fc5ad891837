"""Keeps the daily partitions of one source in `Home`: content-addressed Parquet files, and the index that names them.

    home/days/<source>/manifest.json             which partitions are in force (`DayIndex`)
    home/days/<source>/parts/<day>-<hash>.parquet

Partitions are written first and the index last. So a killed run leaves files that no index names. The next run that
changes the index removes them.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from recommender.days.index import PARTS, Backfill, DayIndex, Partition
from recommender.errors import SettingsError
from recommender.settings import Settings
from recommender.storage.home import Home, source_name
from recommender.storage.manifest import sha256, write_bytes
from recommender.storage.turns import turn

NAME_DIGITS = 16
"""Hex digits of a hash in the name of a file. The index has all of it."""


@dataclass(frozen=True)
class DayStore:
    """The partitions of one source."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the source that the settings name."""
        return cls(Home.of(settings).days(source_name(settings)))

    def read(self) -> DayIndex:
        """The partitions in force.

        Raises:
            CorruptFileError: the index is damaged; names it.
        """
        return DayIndex.load(self.folder)

    @contextmanager
    def turn(self) -> Iterator[DayIndex]:
        """Wait until no other run changes these days, and read the index. The kernel ends a turn whose process dies.

        Raises:
            CorruptFileError: the index is damaged; names it.
        """
        with turn(self.folder, waits="another run writes the days of this source; this one waits for its end"):
            self.folder.mkdir(exist_ok=True)
            yield self.read()

    def write(self, day: str, rows: pa.Table, watermark: str, known: Partition | None) -> Partition:
        """Write a day's rows. A day with the same rows as `known` stays as it is.

        Args:
            day: ISO.
            rows: sorted, so that the same rows are the same bytes.
            watermark: end of the log.
            known: the partition in force.
        """
        content, found = encoded(rows)
        if known is not None and known.sha256 == found and self.sound(known):
            return known
        made = Partition(f"{day}-{found[:NAME_DIGITS]}.parquet", rows.num_rows, watermark, found)
        if not self.sound(made):
            write_bytes(self.path(made), content)
        return made

    def path(self, partition: Partition) -> Path:
        """The file of a partition."""
        return self.folder / PARTS / partition.file

    def sound(self, partition: Partition) -> bool:
        """Whether the file of a partition is there and the one that the index names."""
        path = self.path(partition)
        return path.is_file() and sha256(path) == partition.sha256

    def commit(self, before: DayIndex, after: DayIndex) -> None:
        """Put a new index in force, and remove the files that it does not name. Call it in a `turn`.

        Raises:
            SettingsError: another run has written the index since `before` was read, so that this file system's locks
                do not work.
        """
        if self.read().version != before.version:
            raise SettingsError(
                f"{self.folder}: another run has changed it meanwhile, and nothing was written; run this one again. "
                "Locks of files do not work there: let only one run at a time use this home"
            )
        if after != before:
            after.save(self.folder)
        named = {partition.file for partition in after.days.values()}
        for path in (self.folder / PARTS).glob("*"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def backfill(self, first: date, last: date) -> None:
        """Let the next run take these days, both included, as the source has them.

        Raises:
            SettingsError: the days are in the wrong order.
        """
        if first > last:
            raise SettingsError(f"--from {first} is after --to {last}; name the earlier day first")
        with self.turn() as before:
            wanted = Backfill(first.isoformat(), last.isoformat())
            if wanted not in before.waiting:
                self.commit(before, replace(before, backfills=(*before.backfills, wanted)))


def encoded(rows: pa.Table) -> tuple[pa.Buffer, str]:
    """The bytes of a partition with these rows, and their SHA-256."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows.combine_chunks(), sink, compression="zstd", write_page_checksum=True)
    content = sink.getvalue()
    return content, hashlib.sha256(content).hexdigest()
