"""Append-only numbers of items and axis values, kept in `Home`, so that an addition never renumbers what is stored.

A value gets the next free number when it is first seen and keeps it for ever, also when it vanishes from the source.
The first state is in alphabetical order. Each later state adds values to the one before it, again in alphabetical
order. A state is named by a hash of the state before it and what it adds. So whoever knows a state knows all states
before it by name, and two homes that added different values never take each other's numbers for their own.

File: `{"format": 1, "additions": [{axis: [value, …]}, …], "version": hash of the last state}`. Its reader computes the
hashes again, so a damaged file is found.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from recommender.errors import CorruptFileError
from recommender.settings import Settings
from recommender.storage.home import Home, source_name
from recommender.storage.manifest import digest, write_bytes
from recommender.storage.turns import turn

IDS_FILE = "ids.json"
"""Name of the state that a feature set was built with, in its folder."""
FORMAT = 1
"""Version of the file's layout. Raise it when a reader of the old layout would misread the new one."""
VERSION_DIGITS = 16
"""Hex digits of a state's name: 64 bits, the 8 bytes that users' packed values have for it."""


@dataclass(frozen=True, eq=False)
class Ids:
    """One state of the numbers: the values of each axis in the order in which they were first seen."""

    additions: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    """What each state added to the one before it, by axis."""

    @cached_property
    def values(self) -> dict[str, tuple[str, ...]]:
        """For each axis its values by their numbers. Number 0 is '' and stands for no value."""
        found: dict[str, list[str]] = {}
        for added in self.additions:
            for axis, values in added.items():
                found.setdefault(axis, [""]).extend(values)
        return {axis: tuple(values) for axis, values in found.items()}

    @cached_property
    def versions(self) -> tuple[str, ...]:
        """Names of this state and all before it, oldest first, 16 hex digits each. The first one names the lineage."""
        versions: list[str] = []
        for added in self.additions:
            content = {axis: list(values) for axis, values in added.items()}
            versions.append(digest(versions[-1] if versions else "", content)[:VERSION_DIGITS])
        return tuple(versions)

    def of(self, axis: str) -> tuple[str, ...]:
        """The values of an axis by their numbers, after '' for no value. An axis never seen has no other."""
        return self.values.get(axis, ("",))

    def numbers(self, axis: str) -> dict[str, int]:
        """The number of each value of an axis, without the 0 of no value."""
        return {value: number for number, value in enumerate(self.of(axis)) if number}

    def adding(self, found: Mapping[str, Iterable[str]]) -> "Ids":
        """The state in which all these values have a number: this one if they have. `found`: axis -> its values."""
        new = {axis: tuple(sorted(set(values) - set(self.of(axis)))) for axis, values in found.items()}
        new = {axis: values for axis, values in new.items() if values}
        return Ids((*self.additions, new)) if new else self

    def continues(self, other: "Ids") -> bool:
        """Whether this state is `other` or a later one of its lineage."""
        return self.versions[: len(other.versions)] == other.versions

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        content = {"format": FORMAT, "additions": self.additions, "version": self.versions[-1]}
        write_bytes(path, json.dumps(content, ensure_ascii=False).encode())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            CorruptFileError: the file is missing, damaged or of another format; names it.
        """
        advice = "restore it from a backup; without it, remove it: the next build then numbers everything anew"
        try:
            content: Any = json.loads(path.read_bytes())
            if content["format"] != FORMAT:
                raise CorruptFileError(
                    f"{path}: format {content['format']!r}, but this version reads format {FORMAT}; {advice}"
                )
            ids = cls(tuple({axis: tuple(new) for axis, new in added.items()} for added in content["additions"]))
            found, stated = ids.versions[-1], content["version"]
        except FileNotFoundError:
            raise CorruptFileError(f"{path}: missing; {advice}") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise CorruptFileError(f"{path}: not a file of ids ({error}); {advice}") from None
        if found != stated:
            raise CorruptFileError(f"{path}: its content has version {found}, not the stated {stated}; {advice}")
        return ids


@dataclass(frozen=True)
class IdsFile:
    """The ids of one source in a home. Writers take turns; readers need not wait, since each state is written whole."""

    path: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The ids of the source that the settings name."""
        return cls(Home.of(settings).ids(source_name(settings)))

    def read(self) -> Ids:
        """The newest state, empty where nothing was numbered yet.

        Raises:
            CorruptFileError: the file is damaged or of another format; names it.
        """
        return Ids.load(self.path) if self.path.exists() else Ids()

    def add(self, found: Mapping[str, Iterable[str]]) -> Ids:
        """Give all these values a number, and return the newest state. A second writer waits and adds to the newer one.

        Raises:
            CorruptFileError: the file is damaged or of another format; names it.
        """
        with turn(self.path):
            before = self.read()
            after = before.adding(found)
            if after is not before:
                after.save(self.path)
            return after

    def follow(self, ids: Ids) -> bool:
        """Take over a state that was made elsewhere, such as in a folder without a home.

        Returns:
            Whether `ids` is of this file's lineage. If not, the file stays as it was.

        Raises:
            CorruptFileError: the file is damaged or of another format; names it.
        """
        with turn(self.path):
            own = self.read()
            if ids.continues(own):
                if len(ids.versions) > len(own.versions):
                    ids.save(self.path)
                return True
            return own.continues(ids)
