"""An append-only journal beside one small state file: a kill at any moment leaves the old state or the new one.

A change is committed by one rename of `state.json`, which also holds the event that made it, and is then appended to
`history.jsonl`. After a kill between the two, the next change finds the event in the state and appends it first. The
state and every line carry a SHA-256 of their own content, so a flipped bit is found and named.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recommender.errors import CorruptFileError
from recommender.storage.locks import lock, lock_file
from recommender.storage.manifest import digest, write_text

STATE, HISTORY, LOCK = "state.json", "history.jsonl", "lock"
SEAL = "sha256"


@dataclass(frozen=True)
class Journal:
    """The state and the history of one folder."""

    folder: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's only write lock, across all processes that see the folder. It ends with its process."""
        with lock_file(self.folder / LOCK) as file:
            lock(file)
            yield

    def state(self) -> dict[str, Any]:
        """The present state, empty before the first change.

        Raises:
            CorruptFileError: the file was altered or truncated.
        """
        path = self.folder / STATE
        if not path.is_file():
            if (self.folder / HISTORY).is_file():
                raise CorruptFileError(f"{path}: missing, though {HISTORY} lies beside it. Restore it from a backup.")
            return {}
        return _unsealed(path.read_text(encoding="utf-8", errors="replace"), str(path))

    def history(self) -> list[dict[str, Any]]:
        """Every event, oldest first: the journal's lines, and the state's own event if a kill kept it from the journal.

        Raises:
            CorruptFileError: a line was altered; names file and line.
        """
        state = self.state()
        events = self._lines()
        pending = state.get("event")
        if pending is not None and (not events or events[-1]["seq"] < pending["seq"]):
            events.append(pending)
        return events

    def commit(self, state: dict[str, Any], **event: Any) -> None:
        """Make `state` the present one because of `event`. Call it inside `locked()`."""
        self._complete()
        seq = int(self.state().get("event", {}).get("seq", 0)) + 1
        numbered = {"seq": seq, **event}
        write_text(self.folder / STATE, _sealed({**state, "event": numbered}, indent=1))
        self._sync()
        self._append(numbered)

    def _complete(self) -> None:
        """Drop a line that a kill cut off, and append the event that a kill kept from the journal."""
        path = self.folder / HISTORY
        if path.is_file():
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with path.open("r+b") as file:
                    file.truncate(whole)
        pending = self.state().get("event")
        if pending is not None:
            events = self._lines()
            if not events or events[-1]["seq"] < pending["seq"]:
                self._append(pending)

    def _append(self, event: dict[str, Any]) -> None:
        with (self.folder / HISTORY).open("ab") as file:
            file.write(_sealed(event).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[dict[str, Any]]:
        path = self.folder / HISTORY
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        # What follows the last line end was cut off by a kill. Its event stands in the state.
        return [_unsealed(line, f"{path}:{number}") for number, line in enumerate(lines[:-1], start=1)]

    def _sync(self) -> None:
        """Sync the folder, because only that puts the rename itself on disk."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sealed(content: dict[str, Any], indent: int | None = None) -> str:
    plain = json.loads(json.dumps(content, default=str))
    return json.dumps({**plain, SEAL: digest(plain)}, indent=indent, sort_keys=True)


def _unsealed(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
        seal = content.pop(SEAL)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{where}: not readable ({error}). Restore it from a backup.") from None
    if digest(content) != seal:
        raise CorruptFileError(f"{where}: its content does not have the SHA-256 it names. Restore it from a backup.")
    unsealed: dict[str, Any] = content
    return unsealed
