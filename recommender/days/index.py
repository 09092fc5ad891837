"""The index of a log's daily partitions: which file holds each day, with its hash and its watermark.

It is the manifest of their folder. `version` is a hash of the rest, which its reader computes again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Self

from recommender.errors import CorruptFileError
from recommender.storage.manifest import MANIFEST, digest, read_manifest, write_manifest

FORMAT = 1
"""Version of the file's layout. Raise it when a reader of the old layout would misread the new one."""
PARTS = "parts"
"""Folder of the partitions, in that of the index."""
ADVICE = "remove the folder around it; the next run then takes all days as the source has them"


@dataclass(frozen=True)
class Partition:
    """The rows of one UTC day that count."""

    file: str
    """Its name holds the day and the begin of the hash that it was written with."""
    rows: int
    watermark: str
    """The end of the log when the day last changed, ISO, UTC."""
    sha256: str
    """Empty where the file is missing."""

    @property
    def named(self) -> dict[str, Any]:
        """What the index says beside the files' hashes."""
        return {"file": self.file, "rows": self.rows, "watermark": self.watermark}


UNREAD = Partition("", 0, "", "")
"""In a proposal: a day that counts as the tables beside it have it. Whoever promotes it reads and writes it."""


@dataclass(frozen=True)
class Backfill:
    """Days, both included, of which a person accepted what the source has."""

    first: str
    last: str
    done: bool = False
    """Whether a run has read them since."""

    def holds(self, day: str) -> bool:
        """Whether the day (ISO) is one of them."""
        return self.first <= day <= self.last


@dataclass(frozen=True)
class DayIndex:
    """One state of the partitions."""

    lineage: str = ""
    """Names the source and how it is read. Partitions of another lineage say nothing about this one."""
    watermark: str = ""
    """End of the log in the last run, ISO, UTC."""
    months: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the source's file of each month whose days all count as the source has them."""
    days: dict[str, Partition] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    """Day -> how many of its rows came too late and do not count."""
    lost: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Closed day -> SHA-256 of its partitions before the source lost rows of it, the newest last. A day that is again
    what one of them was counts: an export that broke off must not make the whole past late."""
    backfills: tuple[Backfill, ...] = ()

    @property
    def waiting(self) -> list[Backfill]:
        """The backfills that no run has made yet."""
        return [one for one in self.backfills if not one.done]

    @property
    def state(self) -> str:
        """The version without the backfills, which a person may add while a run is under way."""
        return replace(self, backfills=()).version

    @property
    def version(self) -> str:
        """A hash of everything but the hashes of the files, which `recommender forget` may write anew."""
        facts = asdict(replace(self, days={}))
        if not self.lost:
            del facts["lost"]  # so that an index without this fact stays valid
        return digest([facts, {day: one.named for day, one in self.days.items()}])

    def save(self, folder: Path) -> None:
        """Write the index of the partitions in `folder`, whole or not at all."""
        days = {day: one.named for day, one in self.days.items()}
        facts = {**asdict(replace(self, days={})), "days": days}
        write_manifest(folder, kind="days", format=FORMAT, version=self.version, **facts)

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The index of which `facts` has the fields as JSON has them, among others.

        Raises:
            KeyError, TypeError, AttributeError: a field is missing or of another kind.
        """
        return cls(
            lineage=facts["lineage"],
            watermark=facts["watermark"],
            months=facts["months"],
            days={day: Partition(**one) for day, one in facts["days"].items()},
            held=facts["held"],
            lost={day: tuple(hashes) for day, hashes in facts.get("lost", {}).items()},
            backfills=tuple(Backfill(**one) for one in facts["backfills"]),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Where there is none, nothing was partitioned yet.

        Raises:
            CorruptFileError: the file is damaged or of another format; names it.
        """
        path = folder / MANIFEST
        if not path.is_file():
            return cls()
        content = read_manifest(folder, verify=False)
        try:
            if content["format"] != FORMAT:
                raise CorruptFileError(
                    f"{path}: format {content['format']!r}, but this version reads format {FORMAT}; {ADVICE}"
                )
            hashes = {name: file["sha256"] for name, file in content["files"].items()}
            days = {
                day: {**one, "sha256": hashes.get(f"{PARTS}/{one['file']}", "")} for day, one in content["days"].items()
            }
            found = cls.of_facts({**content, "days": days})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptFileError(f"{path}: not an index of days ({error}); {ADVICE}") from None
        if found.version != content["version"]:
            raise CorruptFileError(
                f"{path}: its content has version {found.version}, not {content['version']}; {ADVICE}"
            )
        return found


def spans(days: dict[str, int]) -> list[tuple[str, str, int]]:
    """Join days (ISO) that follow each other: first day, last day, and the sum of their rows."""
    found: list[tuple[str, str, int]] = []
    for day in sorted(days):
        if found and (date.fromisoformat(day) - date.fromisoformat(found[-1][1])).days == 1:
            found[-1] = (found[-1][0], day, found[-1][2] + days[day])
        else:
            found.append((day, day, days[day]))
    return found
