"""What a command replaces as a whole must be what it writes itself, so that a mistyped output deletes nothing.

A folder of this machine takes the place of the old one by a rename. In an object store there is none: while its files
are replaced, a marker names the files that belong to it, so that the next build goes on where one was killed.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recommender.datasets.places import Place
from recommender.errors import SettingsError, SourceError
from recommender.storage.manifest import MANIFEST

MARKER = ".replacing.json"
"""In an object store, while a folder is replaced: the names of the old and the new files."""
IsOne = Callable[[Mapping[str, Any]], bool]
"""Whether a manifest is that of what the command writes."""


def require_replaceable(place: Place, what: str, is_one: IsOne, *, option: str = "--output") -> set[str]:
    """Check that there is nothing at `place` but what the command writes, and return the names of its files.

    Args:
        place: what is to be replaced. It may be missing or empty.
        what: what the command writes, for people.
        is_one: whether a manifest is that of one.
        option: the option that named the place.

    Raises:
        SettingsError: something else is there; names it.
        SourceError, SourceAway: as the place.
    """
    if not place.is_remote and place.path.exists() and not place.path.is_dir():
        raise SettingsError(f"{option} {place.location}: this is a file, not a folder; name a folder")
    names = set(place.files())
    if not names:
        return names
    own = _own(place, names, is_one)
    foreign = sorted(names - own)
    if foreign:
        others = f" and {len(foreign) - 1:,} more files" if len(foreign) > 1 else ""
        raise SettingsError(
            f"{option} {place.location}: what is there is replaced as a whole, but {foreign[0]}{others} there "
            f"{'belong' if others else 'belongs'} to no {what}; name another folder, or move what is there"
        )
    return names


def replace_remote(place: Place, folder: Path, what: str, is_one: IsOne) -> None:
    """Move the files of `folder` to an object store, in place of those of an earlier build. Safe to kill and repeat.

    Raises:
        SettingsError, SourceError, SourceAway: as `require_replaceable`.
    """
    old = require_replaceable(place, what, is_one)
    new = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    with TemporaryDirectory() as scratch:
        marker = Path(scratch) / MARKER
        marker.write_text(json.dumps(sorted(old | new)), encoding="utf-8")
        place.write(marker, MARKER)
    # The manifest goes first and comes last: whoever reads meanwhile finds none, and no mixture.
    for name in sorted(old - {MARKER}, key=lambda name: name != MANIFEST):
        place.remove_file(name)
    place.write_folder(folder)
    place.remove_file(MARKER)


def _own(place: Place, names: set[str], is_one: IsOne) -> set[str]:
    """Names of files that belong to an earlier build, as its manifest or the marker of a killed one says."""
    own: set[str] = set()
    for name in {MANIFEST, MARKER} & names:
        try:
            with TemporaryDirectory() as scratch:
                found = json.loads(place.read(name, Path(scratch)).read_text(encoding="utf-8"))
            if name == MARKER:
                own |= {MARKER, *map(str, found)}
            elif is_one(found):
                own |= {MANIFEST, *found["files"]}
        except (ValueError, KeyError, TypeError, AttributeError, SourceError):
            continue  # not ours, then
    return own
