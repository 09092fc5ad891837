"""Finds the files of a draft that belong together as parts of one table: a month each, or parts of an export."""

import itertools
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from recommender.datasets.draft.evidence import FileEvidence
from recommender.datasets.reading import local_files

PART = re.compile(
    r"\w*\d\w*|[a-z]|prior|train|test|part|(jan|feb|mar|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])\w*", re.I
)
"""What tells parts of one table apart: numbers, months, single letters. `open` and `click` are different things."""
SHORTEST_PREFIX = 3
"""Letters at the beginning that names of parts must share: `orders_01`, `orders_02`. Chosen by hand."""


def expanded(files: Sequence[Path]) -> list[Path]:
    """The files that were named, and those inside a folder that was named."""
    found: list[Path] = []
    for file in files:
        inside = local_files(str(file)) if file.is_dir() and file.suffix != ".parquet" else [file]
        found += [one for one in inside if one not in found]
    return found


def alike(files: Sequence[FileEvidence]) -> list[list[FileEvidence]]:
    """Files of one folder with the same columns, two or more."""
    groups: dict[tuple[object, ...], list[FileEvidence]] = {}
    for file in files:
        form = tuple(sorted((key, str(value)) for key, value in file.form.items()))
        shape = (file.path.parent, file.path.suffix, tuple(file.types.items()), form)
        groups.setdefault(shape, []).append(file)
    return [group for group in groups.values() if len(group) > 1]


def _common(names: Sequence[str]) -> str:
    """The letters with which all names begin."""
    letters = list(itertools.takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False)))
    return "".join(column[0] for column in letters)


def pattern_of(group: Sequence[FileEvidence]) -> Path | None:
    """A pattern that matches the files of a group and no other file of the folder. None if there is none."""
    names = [file.path.name for file in group]
    front = _common(names)
    back = _common([name[len(front) :][::-1] for name in names])[::-1]
    folder = group[0].path.parent
    pattern = f"{front}*{back}"
    beside = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    middles = [name[len(front) : len(name) - len(back)] for name in names]
    if not all(PART.fullmatch(middle) for middle in middles):
        return None
    if len(front) < SHORTEST_PREFIX or any(sign in front + back for sign in "*?["):
        return None
    return folder / pattern if {name for name in beside if fnmatch(name, pattern)} == set(names) else None
