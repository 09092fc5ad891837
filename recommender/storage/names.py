"""Append-only names of features that stand for values of the data, kept in `Home` beside the ids.

File: `{"format": 1, "names": {form: {"values": [[value, part], …], "missing": part or null}}}`. A form is a feature's
name with `{}` for the part that names the value.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recommender.errors import CorruptFileError
from recommender.storage.ids import IdsFile
from recommender.storage.manifest import write_bytes
from recommender.storage.turns import turn

FORMAT = 1


@dataclass(frozen=True)
class Named:
    """What one form named, in the order of naming."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Value -> the part of its name."""
    missing: str | None = None
    """The part that stands for a missing value."""

    @property
    def parts(self) -> list[str]:
        """All parts."""
        return [*self.values.values(), *([self.missing] if self.missing else [])]


@dataclass(frozen=True)
class NamesFile:
    """The names of one source in a home. Writers take turns; readers need not wait, since the file is written whole."""

    path: Path

    @classmethod
    def beside(cls, ids: IdsFile) -> "NamesFile":
        """The names of the source whose ids these are."""
        return cls(ids.path.with_suffix(".names.json"))

    def read(self) -> dict[str, Named]:
        """Form -> what it named, empty where nothing was named yet.

        Raises:
            CorruptFileError: the file is damaged or of another format; names it.
        """
        if not self.path.exists():
            return {}
        try:
            content: Any = json.loads(self.path.read_bytes())
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}, but this version reads format {FORMAT}")
            return {form: Named(dict(one["values"]), one["missing"]) for form, one in content["names"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptFileError(
                f"{self.path}: not a file of names ({error}); restore it from a backup; or remove it: the next "
                "build then names the commonest values anew, and a version that serves may lack columns"
            ) from None

    def add(self, form: str, change: Callable[[Named], Named]) -> Named:
        """Add to what a form named, and return all of it. A second writer waits and adds to the newer state.

        Raises:
            CorruptFileError: the file is damaged or of another format; names it.
        """
        with turn(self.path):
            names = self.read()
            before = names.get(form, Named())
            after = change(before)
            if after != before:
                names[form] = after
                told = {one: {"values": list(of.values.items()), "missing": of.missing} for one, of in names.items()}
                content = {"format": FORMAT, "names": told}
                write_bytes(self.path, json.dumps(content, indent=1, ensure_ascii=True).encode())
            return after
