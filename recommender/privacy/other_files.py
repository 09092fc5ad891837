"""The place that is all else in a home: pages, reports, logs, and whatever a user's id got into."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from recommender.decisions.log import folders_of as folders_of_decisions
from recommender.event_tables.forgotten_rows import copy_without
from recommender.events.log import folders_of as folders_of_events
from recommender.privacy.files import Change, data_folders, rewrite_folder, runs_of, trace_of
from recommender.privacy.places import Trace, has_rows, in_draft, scanner_of
from recommender.privacy.scanner import Scanner
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST, WRITER_DIGITS

NAMING = (".json", ".jsonl", ".log")
"""Ends of the names of files in which a user is named by `user_id`: verdicts, lists of rows set aside, logs."""
USER_ID = re.compile(rb'user_id(?:\\?"\s*:\s*\\?"|[ =])([^",:=\\\s]+)')
"""As JSON has it, also within a text of JSON, as a log has it, and as an example of a row has it."""
KEPT_AS_THEY_ARE: Mapping[str, str] = {
    **dict.fromkeys(("registry", "checkpoints"), "a trained version holds the id; it goes with the version"),
    # They are found by their hash, and rows elsewhere count on their numbers.
    **dict.fromkeys(("ids", "catalogue.versions"), "an item, or a value of one, is called like the user"),
}
"""Folder of the home -> why an id in it is not removed."""


class OtherFiles:
    """All else in a home: pages, reports, logs, and whatever a user's id got into."""

    name = "other files"

    def __init__(self, settings: Settings) -> None:
        self._home = Home.of(settings)
        home = self._home
        self._known = (
            *home.of_others,
            *(home.decisions, home.events, home.published.training_set, home.feature_store.root),
            *(own for folders in (folders_of_decisions, folders_of_events) for own in folders(settings)),
        )

    def find(self, users: Sequence[str]) -> list[Trace]:
        """Files that hold an id, in whatever format."""
        return [trace_of(self._home, path, count, what, seen) for path, count, what, seen in self._found(users)]

    def remove(self, users: Sequence[str]) -> list[str]:
        """Write rows anew without them, and overwrite ids in texts. What a trained version holds cannot be removed."""
        problems: list[str] = []
        scanner = scanner_of(self._home, users)
        whole: dict[Path, dict[Path, Change]] = {}
        for path, _, what, _ in self._found(users):
            name = path.relative_to(self._home.root)
            if name.parts[0] in KEPT_AS_THEY_ARE:
                problems.append(f"{name}: {KEPT_AS_THEY_ARE[name.parts[0]]}")
            elif what != "rows" and not _is_text(path):
                problems.append(f"{name}: holds the id in a format that is not known; delete the file")
            elif (folder := self._listed_in(path)) is not None:
                change = (
                    partial(copy_without, users=set(users))
                    if what == "rows"
                    else partial(_copy_over, scanner=scanner, users=set(users))
                )
                whole.setdefault(folder, {})[path] = change
            elif what == "rows":
                draft = path.with_name(f".{path.name}.{'0' * WRITER_DIGITS}")
                copy_without(path, draft, set(users))
                draft.replace(path)
            else:
                _overwrite(path, scanner, set(users))
        for folder, changes in whole.items():
            rewrite_folder(folder, changes)
        return problems

    def _listed_in(self, path: Path) -> Path | None:
        """The outermost folder whose manifest lists a file."""
        listing = [
            folder
            for folder in path.parents
            if folder.is_relative_to(self._home.root) and path.relative_to(folder).as_posix() in _files_of(folder)
        ]
        return listing[-1] if listing else None

    def _found(self, users: Sequence[str]) -> Iterator[tuple[Path, int, str, frozenset[str]]]:
        known, scanner = set(users), scanner_of(self._home, users)
        places = (*self._known, *(folder for run in runs_of(self._home) for folder in data_folders(run)))
        for path in sorted(self._home.root.rglob("*")):
            if path.is_symlink() or not path.is_file() or any(path.is_relative_to(one) for one in places):
                continue
            if in_draft(path, self._home.root):
                continue
            with suppress(FileNotFoundError):
                seen: set[str] = set()
                if path.suffix == ".parquet" and (rows := has_rows(path, known, seen)):
                    yield path, rows, "rows", frozenset(seen)
                    continue
                ids = scanner.in_file(path)
                if path.suffix in NAMING:
                    content = path.read_bytes()
                    ids |= {content[start:end].decode() for start, end in _named(content, known)}
                if ids:
                    yield path, len(ids), "ids", frozenset(ids)


def _is_text(path: Path) -> bool:
    content = path.read_bytes()
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _copy_over(source: Path, target: Path, scanner: Scanner, users: set[str]) -> None:
    shutil.copyfile(source, target)
    _overwrite(target, scanner, users)


def _named(content: bytes, users: set[str]) -> Iterator[tuple[int, int]]:
    """Where JSON, or an example of a row, says `user_id` and one of these users, however short the id is."""
    for match in USER_ID.finditer(content):
        if match[1].decode(errors="replace") in users:
            yield match.span(1)


def _overwrite(path: Path, scanner: Scanner, users: set[str]) -> None:
    """Put x in place of every byte of the ids. The length stays, so a process that writes the file goes on."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        for start, end in (*scanner.places(content), *(_named(content, users) if path.suffix in NAMING else ())):
            file.seek(start)
            file.write(b"x" * (end - start))
        file.flush()
        os.fsync(file.fileno())


def _files_of(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
    return {}
