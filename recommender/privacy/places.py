"""Places of a home in which a user may stand. Each finds, removes, and finds again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from recommender.decision_tables import forget as forget_decisions
from recommender.decision_tables.days import days_of
from recommender.decisions.erasing import erase_in, erased
from recommender.decisions.log import folders_of as folders_of_decisions
from recommender.decisions.names import segments_in
from recommender.errors import CorruptFileError
from recommender.event_tables.forgotten_rows import USER, count_rows
from recommender.events.log import folders_of as folders_of_events
from recommender.privacy.scanner import Scanner
from recommender.settings import Settings
from recommender.storage.drafts import is_draft
from recommender.storage.home import Home
from recommender.storage.manifest import write_text
from recommender.storage.turns import turn

SINGULAR = {name: name.removesuffix("s") for name in ("rows", "lines", "files", "records", "events", "folders", "ids")}
SINGULAR |= {"hashes": "hash"}
"""Unit of a trace -> the same for one of them."""


@dataclass(frozen=True)
class Trace:
    """Something that a place holds of the users."""

    where: str
    count: int
    what: str
    """The unit of `count`: rows, lines, files, …"""
    users: frozenset[str] = frozenset()
    """Those of the users that it is about, where that is known."""

    def __str__(self) -> str:
        unit = SINGULAR.get(self.what, self.what) if self.count == 1 else self.what
        return f"{self.where}: {self.count:,} {unit}"


class Place(Protocol):
    """One kind of storage that may hold users."""

    name: str

    def find(self, users: Sequence[str]) -> list[Trace]:
        """What it holds of these users."""

    def remove(self, users: Sequence[str]) -> list[str]:
        """Remove it. Safe to kill and to repeat. Returns what could not be done, each in a sentence."""


class Decisions:
    """The decision log: segments on this machine and in the home, and the tables of days."""

    name = "decisions"

    def __init__(self, settings: Settings) -> None:
        self._settings, self._home = settings, Home.of(settings)

    def find(self, users: Sequence[str]) -> list[Trace]:
        """Lines of segments and rows of tables."""
        found = _lines(folders_of_decisions(self._settings), users, self._home)
        for day in days_of(self._home):
            # All its files: a table that was replaced lies there for an hour.
            seen: set[str] = set()
            rows = sum(has_rows(path, set(users), seen) for path in sorted(day.folder.glob("*.parquet")))
            if rows:
                found.append(Trace(_name(self._home, day.folder), rows, "rows", frozenset(seen)))
        return found

    def remove(self, users: Sequence[str]) -> list[str]:
        """Erase lines in their places, then compact what is shipped and write the tables anew."""
        for path in _segments(self._home.decisions):
            with suppress(FileNotFoundError):  # compacted meanwhile
                erase_in(path, set(users))
        forget_decisions(self._settings, users)
        return []


class Events:
    """The log of events: segments on this machine and in the home."""

    name = "events"

    def __init__(self, settings: Settings) -> None:
        self._settings, self._home = settings, Home.of(settings)

    def find(self, users: Sequence[str]) -> list[Trace]:
        """Lines of segments."""
        return _lines(folders_of_events(self._settings), users, self._home)

    def note(self, users: Sequence[str]) -> None:
        """Note the ids of events that are not shipped yet. Once the users are forgotten they are shipped without them.

        A gateway takes events until it knows the list, so call it before the users get onto it and after that. The
        note outlives this process: a forget that finds the home in use, or is killed, is completed by another one.
        """
        found = self._ids_in(folders_of_events(self._settings)[:1], users)
        if found:
            with turn(self._home.forgetting):
                write_text(self._home.forgetting, json.dumps(sorted(found | self._noted())))

    def ids(self, users: Sequence[str]) -> list[str]:
        """The ids of these users' events, which an online store remembers, with those that were noted."""
        return sorted(self._noted() | self._ids_in(folders_of_events(self._settings), users))

    def forget_note(self) -> None:
        """Delete what was noted, once the online store holds none of it."""
        self._home.forgetting.unlink(missing_ok=True)

    def _noted(self) -> set[str]:
        try:
            return set(map(str, json.loads(self._home.forgetting.read_text(encoding="utf-8"))))
        except FileNotFoundError:
            return set()
        except (ValueError, TypeError) as error:
            raise CorruptFileError(
                f"{self._home.forgetting}: damaged ({error}). Delete it, and forget the users of the last forget again"
            ) from None

    @staticmethod
    def _ids_in(folders: Sequence[Path], users: Sequence[str]) -> set[str]:
        known, paths = set(users), [path for folder in folders for path in _segments(folder)]
        return {event_id for path in paths for event_id in erased(_content(path), known).event_ids}

    def remove(self, users: Sequence[str]) -> list[str]:
        """Erase lines in their places."""
        for path in _segments(self._home.events):
            with suppress(FileNotFoundError):  # shipped or compacted meanwhile
                erase_in(path, set(users))
        return []


class Online:
    """The online store, which another package knows."""

    name = "online store"

    def __init__(self, store: "OnlineErasure", events: Events) -> None:
        self._store, self._events = store, events

    def find(self, users: Sequence[str]) -> list[Trace]:
        """Rows, and the events beside them."""
        return [Trace(part, count, "records") for part, count in self._store.find(users).items() if count]

    def remove(self, users: Sequence[str]) -> list[str]:
        """Remove them, with the ids of the users' events. So the log of events must still hold these."""
        problems = self._store.remove(users, self._events.ids(users))
        self._events.forget_note()
        return problems

    def among(self, users: Sequence[str]) -> set[str]:
        """Those of these users about whom it has a record."""
        if not users or not any(self._store.find(users).values()):
            return set()
        if len(users) == 1:
            return set(users)
        middle = len(users) // 2
        return self.among(users[:middle]) | self.among(users[middle:])


class OnlineErasure(Protocol):
    """What removes users from one kind of online store (`serving.online_store.erasure`)."""

    def find(self, users: Sequence[str]) -> Mapping[str, int]:
        """Part of the store -> how many of its records are about these users."""

    def remove(self, users: Sequence[str], event_ids: Sequence[str]) -> list[str]:
        """Remove them. Returns what could not be done, each in a sentence."""


def _segments(folder: Path) -> list[Path]:
    return segments_in(folder) if folder.is_dir() else []


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # shipped meanwhile
        return b""


def _lines(folders: Sequence[Path], users: Sequence[str], home: Home) -> list[Trace]:
    known, found = set(users), []
    for folder in folders:
        parts = [erased(_content(path), known) for path in _segments(folder)]
        if lines := sum(part.lines for part in parts):
            seen = frozenset[str]().union(*(part.users for part in parts))
            found.append(Trace(_name(home, folder), lines, "lines", seen))
    return found


def _name(home: Home, path: Path) -> str:
    return str(path.relative_to(home.root)) if path.is_relative_to(home.root) else str(path)


def parquet_in(folder: Path) -> Iterator[Path]:
    """The Parquet files below a folder, without half-written ones (`half_written`)."""
    for path in sorted(folder.rglob("*.parquet")) if folder.is_dir() else []:
        if path.is_file() and not path.is_symlink() and not in_draft(path, folder):
            yield path


def in_draft(path: Path, root: Path) -> bool:
    """Whether a path below `root` is half-written, or lies in a folder that is."""
    return any(is_draft(part) for part in path.relative_to(root).parts)


def has_rows(path: Path, users: set[str], seen: set[str] | None = None) -> int:
    """Rows of a Parquet file about these users. A file that is no Parquet has none. `seen` gets those that it has."""
    try:
        return count_rows(path, users, seen)
    except (OSError, pa.ArrowInvalid):
        return 0


def scanner_of(home: Home, users: Sequence[str]) -> Scanner:
    """Looks for users in files of a home, and tells them from those of its other users whose ids hold theirs."""
    return Scanner(users, users_of(home.feature_store.packed_users))


def users_of(path: Path) -> set[str]:
    """The users of a Parquet file. A file that is not there has none."""
    return set(pq.read_table(path, columns=[USER])[USER].to_pylist()) if path.is_file() else set()
