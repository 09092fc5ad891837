"""Takes over the rows of past decisions from the last build, where nothing that they depend on has changed.

    home/last_features/<source>/
      users.parquet          the rows of the last build
      marks/<hash>.parquet   what these rows depend on, of each file of events (`features.marks`)
      marks/others.parquet   the same of attributes, targets and participations
      lines/<hash>.parquet   the purchase lines of each file of events (`features.kept_lines`)
      spends.parquet         what users paid for the items of campaigns (`features.known`)
      searches.parquet, texts.parquet   what searches and reviews meant, by the hash of their words
      state.json             what all rows depend on (`last_signature`), the files of events, the demand for campaigns'
                             items, and what the last build did

What the result says is what a full build says, to the byte. Whatever is unclear means a full build.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recommender import logs
from recommender.errors import CorruptFileError
from recommender.features import marks
from recommender.features.buckets import num_buckets_for
from recommender.features.demand import MOMENT, changes_demand
from recommender.features.kept_lines import lines_of_file, read_lines, together, write_lines
from recommender.features.kept_rows import kept_rows
from recommender.features.known import Known, still_paid
from recommender.features.last_signature import axes, signature, signature_of_tables
from recommender.features.shared import Shared
from recommender.features.source import Source
from recommender.settings import Settings
from recommender.storage.home import USERS_FILE, Home, source_name
from recommender.storage.manifest import digest, link_or_copy, read_manifest, whole_folder, write_manifest, write_text
from recommender.storage.turns import turn

log = logs.get(__name__)
STATE, MARKS, LINES, OTHERS, SPENDS_FILE = "state.json", "marks", "lines", "others.parquet", "spends.parquet"
MEANINGS = {"searches.parquet": "query", "texts.parquet": "text"}
"""File of what words meant -> the column of events that has the words."""
_NOTHING = pa.table({"user_id": pa.array([], pa.string()), "at_us": pa.array([], pa.int64())})


@dataclass(frozen=True, eq=False)
class Taken:
    """Rows that need not be computed, sorted by user and time."""

    rows: pa.Table
    """Mapped from a file, if there are many."""
    days: int
    """Days of which events changed, came or went."""


@dataclass(eq=False)
class LastBuild:
    """The last build of one source. Use it in a `turn`."""

    folder: Path
    _state: dict[str, Any] = field(default_factory=dict)
    _fresh: dict[str, pa.Table] = field(default_factory=dict)
    """Marks that the last build does not have, by the name of their file."""
    _lines: dict[str, pa.Table | None] = field(default_factory=dict)
    """Purchase lines by the hash of their file of events. None: the last build has them."""
    _meanings: dict[str, pa.Table] = field(default_factory=dict)
    _last: dict[str, Any] = field(default_factory=dict)
    """State of the last build. Empty: there is none that can be read."""
    _same_tables: bool = False
    """Whether what the last build kept of each file of events holds for the same file now."""
    _changed: pa.Table = field(default_factory=lambda: _NOTHING)
    """user_id and at_us of events that changed since."""
    _known: Known | None = None
    _source: Source | None = None
    """What `_begin` began."""
    full: str = ""
    """Why nothing was taken over."""
    _taken: Taken | None = None
    computed: int = 0
    """Rows of users that were computed."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Of the source that the settings name."""
        return cls(Home.of(settings).last_features(source_name(settings)))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other build uses this folder. The kernel ends a turn whose process dies."""
        with turn(self.folder, waits="another run builds features of this source; this one waits for its end"):
            yield

    def report(self) -> str:
        """What the last build did, as a line for people. Empty where there was none."""
        try:
            return str(json.loads((self.folder / STATE).read_text(encoding="utf-8"))["report"])
        except (OSError, ValueError, KeyError):
            return ""

    def known(self, source: Source) -> Known | None:
        """What the last build knew of the log of `source`. None: the log is too large to hold its lines in memory."""
        self._begin(source)
        if num_buckets_for(source) > 1:
            return None
        tables = []
        for name, content in sorted(self._state["events"].items()):
            kept = self.folder / LINES / f"{content}.parquet"
            if self._same_tables and kept.is_file():
                tables.append(read_lines(kept))
                self._lines[content] = None
            else:
                self._lines[content] = rows = lines_of_file(source, source.tables.folder / name)
                tables.append(rows)
        self._known = Known(together(tables, source.taxonomy))
        if self._same_tables:
            days = pc.unique(self._changed["at_us"]).to_numpy()
            kept_demand = self._last["demand"].items()
            self._known.demand = {name: one for name, one in kept_demand if not changes_demand(days, one[MOMENT])}
            if (self.folder / SPENDS_FILE).is_file():
                self._known.spends = still_paid(pq.read_table(self.folder / SPENDS_FILE), self._changed)
        return self._known

    def take(self, source: Source, shared: Shared, scratch: Path) -> Taken | None:
        """Find the rows of earlier decisions that a build of `source` would compute again. None: it computes all.

        Args:
            source: all users.
            shared: what they have in common.
            scratch: folder for the rows.
        """
        if self._source is not source:
            self._begin(source)
        last, connection, weights = self._last, source.backend.con, shared.look_weights
        self._state |= {
            "signature": signature(shared),
            "ids": list(source.ids.versions),
            "items": len(source.taxonomy.item_ids),
            "axes": axes(source, len(source.taxonomy.item_ids)),
        }
        for name, meant in zip(MEANINGS, (weights.searches, weights.texts), strict=True):
            nothing = pa.table({"nothing": pa.array([], pa.string())})
            self._meanings[name] = marks.hashed(connection, nothing if meant is None else meant)
        self._fresh[OTHERS] = marks.of_the_rest(connection, source.tables)
        self.full = self.full or self._reason(last, source)
        if self.full:
            return None
        days = len(pc.unique(self._changed["at_us"]))
        new = list(source.taxonomy.item_ids[last["items"] :])
        others = marks.differing(connection, pq.read_table(self.folder / MARKS / OTHERS), self._fresh[OTHERS])
        parts = [self._changed, others, marks.of_events_with(connection, source.tables, "item_id", new)]
        for name, now in self._meanings.items():
            before = pq.read_table(self.folder / name)
            values = marks.differing(connection, before, now, now.column_names[0])[0].unique().to_pylist()
            parts.append(marks.of_events_with(connection, source.tables, MEANINGS[name], values, hashed=True))
        invalid = pa.concat_tables(parts)
        self._taken = Taken(kept_rows(pq.ParquetFile(self.folder / USERS_FILE), source, shared, invalid, scratch), days)
        return self._taken

    def drop(self, reason: str) -> None:
        """Say that what `take` returned was not used."""
        self._taken, self.full = None, reason

    def remember(self, features: Path) -> None:
        """Keep what was built, the folder of a feature set, for the next build."""
        if self._taken is None:
            report = f"full build: {self.full}"
        else:
            days = f"{self._taken.days:,} day{'' if self._taken.days == 1 else 's'}"
            kept = self._taken.rows.num_rows
            report = f"increment: {days} changed, {self.computed:,} rows computed, {kept:,} kept"
        log.info("features", how=report)
        with whole_folder(self.folder) as folder:
            (folder / MARKS).mkdir()
            link_or_copy(features / USERS_FILE, folder / USERS_FILE)
            for name in (OTHERS, *(f"{content}.parquet" for content in set(self._state["events"].values()))):
                if name in self._fresh:
                    pq.write_table(self._fresh[name], folder / MARKS / name, compression="zstd")
                else:
                    link_or_copy(self.folder / MARKS / name, folder / MARKS / name)
            if self._known is not None:
                self._state["demand"] = self._known.new_demand
                pq.write_table(self._known.new_spends, folder / SPENDS_FILE, compression="zstd")
            (folder / LINES).mkdir()
            for content, rows in self._lines.items():
                name = f"{content}.parquet"
                if rows is not None:
                    write_lines(rows, folder / LINES / name)
                else:
                    link_or_copy(self.folder / LINES / name, folder / LINES / name)
            for name, meant in self._meanings.items():
                pq.write_table(meant, folder / name)
            write_text(folder / STATE, json.dumps({**self._state, "report": report}, indent=1))
            write_manifest(folder, kind="last features")

    def _begin(self, source: Source) -> None:
        """Read the last build, and compute the marks of the files of events that it does not know."""
        self._source = source
        self._state = {"tables": digest(signature_of_tables(source.tables)), "events": _files_of_events(source)}
        self._state["demand"] = {}
        self._last, self._fresh, self._lines, self._known, self._taken, self.full = {}, {}, {}, None, None, ""
        try:
            if self.folder.exists():
                read_manifest(self.folder)
                self._last = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        except CorruptFileError as error:
            self.full = f"the last build cannot be read ({error})"
            log.warning("the last build cannot be read, so all is computed", error=str(error))
        self._same_tables = self._last.get("tables") == self._state["tables"]
        for name, content in self._state["events"].items():
            if not self._has(content):
                path = source.tables.folder / name
                self._fresh[f"{content}.parquet"] = marks.of_events(source.backend.con, path)
        self._changed = self._differing(source.backend.con) if self._same_tables else _NOTHING

    def _reason(self, last: Mapping[str, Any], source: Source) -> str:
        """Why no row can be taken over. Empty: some can."""
        if not last:
            return "the first one of this source"
        other = [name for name, value in self._state["signature"].items() if last["signature"].get(name) != value]
        if other:
            return f"{' and '.join(other)} changed"
        if self._state["ids"][: len(last["ids"])] != last["ids"]:
            return "the ids of items are others"
        if axes(source, last["items"]) != last["axes"]:
            return "items that were there changed their place in the taxonomy"
        return ""

    def _has(self, content: str) -> bool:
        return self._same_tables and (self.folder / MARKS / f"{content}.parquet").is_file()

    def _differing(self, connection: Any) -> pa.Table:
        """user_id and at_us of the events that changed, came or went."""
        known: Mapping[str, str] = self._last["events"]

        def of(files: Mapping[str, str], others: Mapping[str, str]) -> pa.Table:
            names = [f"{content}.parquet" for name, content in files.items() if others.get(name) != content]
            found = [
                self._fresh[name] if name in self._fresh else pq.read_table(self.folder / MARKS / name)
                for name in names
            ]
            return pa.concat_tables(found) if found else _NOTHING

        return marks.differing(connection, of(known, self._state["events"]), of(self._state["events"], known))


def _files_of_events(source: Source) -> dict[str, str]:
    files = source.tables.manifest["files"]
    return {name: file["sha256"] for name, file in files.items() if name.startswith("events/")}
