"""The place that is half-written files and folders, which killed runs, materialisations and builds left behind."""

from collections.abc import Sequence
from pathlib import Path

from recommender.privacy.places import Trace, has_rows, scanner_of
from recommender.settings import Settings
from recommender.storage.drafts import delete_drafts, drafts_in
from recommender.storage.home import Home
from recommender.storage.scratch import left_scratch


class HalfWritten:
    """Drafts below the home, and this machine's temporary folders of killed processes. All go, whoever is in them.

    Nothing reads them, and some hold words or vectors of a user without the id.
    """

    name = "half-written files"

    def __init__(self, settings: Settings) -> None:
        self._home, self._scratch = Home.of(settings), settings.resources.scratch

    def find(self, users: Sequence[str]) -> list[Trace]:
        """Drafts that hold these users, and every temporary folder of a killed process."""
        found, scanner, known = [], scanner_of(self._home, users), set(users)
        for draft in drafts_in(self._home.root, leave_out=self._home.of_others):
            rows, seen = 0, set[str]()
            for path in [draft] if draft.is_file() else sorted(draft.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    # A kill cuts a file of Parquet off before its end, without which it has no rows to count.
                    more = has_rows(path, known, seen)
                    ids = set() if more else scanner.in_file(path)
                    rows, seen = rows + more + len(ids), seen | ids
            if rows:
                found.append(Trace(str(draft.relative_to(self._home.root)), rows, "rows", frozenset(seen)))
        return found + [Trace(str(path), 1, "folder of a killed process") for path in self._left()]

    def remove(self, users: Sequence[str]) -> list[str]:
        """Delete them all, but for those that a living process writes."""
        delete_drafts(self._home.root, leave_out=self._home.of_others)
        left_scratch(self._scratch, delete=True)
        return []

    def _left(self) -> list[Path]:
        return left_scratch(self._scratch)
