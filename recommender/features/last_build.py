"""Takes over the rows of past decisions from the last build, where nothing that they depend on has changed.

    home/last_features/<source>/
      users.parquet          the rows of the last build
      marks/<hash>.parquet   what these rows depend on, of each file of events (`features.marks`)
      marks/others.parquet   the same of attributes, targets and participations
      searches.parquet, texts.parquet   what searches and reviews meant, by the hash of their words
      state.json             what all rows depend on (`signature`), the files of events, and what the last build did

What the result says is what a full build says, to the byte. Whatever is unclear means a full build.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import recommender
from recommender import logs
from recommender.errors import CorruptFileError
from recommender.features import marks
from recommender.features.bought import microseconds_of
from recommender.features.shared import Shared
from recommender.features.source import Source
from recommender.matching.numbering import NAME_BYTES
from recommender.settings import Settings
from recommender.storage.home import USERS_FILE, Home, source_name
from recommender.storage.manifest import digest, link_or_copy, read_manifest, whole_folder, write_manifest, write_text
from recommender.storage.turns import turn

log = logs.get(__name__)
STATE, MARKS, OTHERS = "state.json", "marks", "others.parquet"
MEANINGS = {"searches.parquet": "query", "texts.parquet": "text"}
"""File of what words meant -> the column of events that has the words."""
NAMED_FROM = 4
"""Byte of a packed value at which the name of its ids begins: behind the magic number."""


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
    _meanings: dict[str, pa.Table] = field(default_factory=dict)
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

    def take(self, source: Source, shared: Shared, scratch: Path) -> Taken | None:
        """Find the rows of earlier decisions that a build of `source` would compute again. None: it computes all.

        Args:
            source: all users.
            shared: what they have in common.
            scratch: folder for the rows.
        """
        self._state = {
            "signature": signature(shared),
            "ids": list(source.ids.versions),
            "items": len(source.taxonomy.item_ids),
            "axes": _axes(source, len(source.taxonomy.item_ids)),
            "events": _files_of_events(source),
        }
        self._taken = None
        weights, connection = shared.look_weights, source.backend.con
        for name, meant in zip(MEANINGS, (weights.searches, weights.texts), strict=True):
            nothing = pa.table({"nothing": pa.array([], pa.string())})
            self._meanings[name] = marks.hashed(connection, nothing if meant is None else meant)
        self._fresh = {OTHERS: marks.of_the_rest(connection, source.tables)}
        try:
            last = self._last()
            self.full = self._reason(last, source)
        except CorruptFileError as error:
            last, self.full = {}, f"the last build cannot be read ({error})"
        known = {} if self.full else last["events"]
        for name, content in self._state["events"].items():
            if known.get(name) != content and not self._has(content):
                path = source.tables.folder / name
                self._fresh[f"{content}.parquet"] = marks.of_events(connection, path)
        if self.full:
            return None
        changed = self._changed(known, connection)
        days = len(pc.unique(changed["at_us"]))
        new = list(source.taxonomy.item_ids[last["items"] :])
        others = marks.differing(connection, pq.read_table(self.folder / MARKS / OTHERS), self._fresh[OTHERS])
        parts = [changed, others, marks.of_events_with(connection, source.tables, "item_id", new)]
        for name, now in self._meanings.items():
            before = pq.read_table(self.folder / name)
            values = marks.differing(connection, before, now, now.column_names[0])[0].unique().to_pylist()
            parts.append(marks.of_events_with(connection, source.tables, MEANINGS[name], values, hashed=True))
        invalid = pa.concat_tables(parts)
        self._taken = Taken(self._rows(source, shared, invalid, scratch), days)
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
            for name, meant in self._meanings.items():
                pq.write_table(meant, folder / name)
            write_text(folder / STATE, json.dumps({**self._state, "report": report}, indent=1))
            write_manifest(folder, kind="last features")

    def _last(self) -> dict[str, Any]:
        if not self.folder.exists():
            return {}
        read_manifest(self.folder)
        found: dict[str, Any] = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
        return found

    def _reason(self, last: Mapping[str, Any], source: Source) -> str:
        """Why no row can be taken over. Empty: some can."""
        if not last:
            return "the first one of this source"
        other = [name for name, value in self._state["signature"].items() if last["signature"].get(name) != value]
        if other:
            return f"{' and '.join(other)} changed"
        if self._state["ids"][: len(last["ids"])] != last["ids"]:
            return "the ids of items are others"
        if _axes(source, last["items"]) != last["axes"]:
            return "items that were there changed their place in the taxonomy"
        return ""

    def _has(self, content: str) -> bool:
        return not self.full and (self.folder / MARKS / f"{content}.parquet").is_file()

    def _changed(self, known: Mapping[str, str], connection: Any) -> pa.Table:
        """user_id and at_us of the events that changed, came or went."""

        def of(files: Mapping[str, str], others: Mapping[str, str]) -> pa.Table:
            names = [f"{content}.parquet" for name, content in files.items() if others.get(name) != content]
            found = [
                self._fresh[name] if name in self._fresh else pq.read_table(self.folder / MARKS / name)
                for name in names
            ]
            return pa.concat_tables(found) if found else self._fresh[OTHERS].slice(0, 0)

        return marks.differing(connection, of(known, self._state["events"]), of(self._state["events"], known))

    def _rows(self, source: Source, shared: Shared, invalid: pa.Table, scratch: Path) -> pa.Table:
        """Rows of the last build at decisions before `as_of` that are still there and know nothing that changed."""
        file = pq.ParquetFile(self.folder / USERS_FILE)
        keys = file.read(["user_id", "event_timestamp"])
        keys = keys.append_column("place", pa.array(np.arange(keys.num_rows)))
        connection = source.backend.con
        connection.register(
            "last_keys", keys.set_column(1, "at_us", pa.array(microseconds_of(keys["event_timestamp"])))
        )
        connection.register("invalid", invalid)
        connection.register("decided", _decided(source))
        places = (
            connection.sql(
                "SELECT place FROM last_keys SEMI JOIN decided USING (user_id, at_us) "
                "LEFT JOIN (SELECT user_id, min(at_us) AS from_us FROM invalid GROUP BY user_id) USING (user_id) "
                "WHERE from_us IS NULL OR at_us <= from_us ORDER BY place"
            )
            .to_arrow_table()["place"]
            .to_numpy()
        )
        kept = np.zeros(keys.num_rows, dtype=bool)
        kept[places] = True
        if file.num_row_groups == 1:
            return _renamed(file.read().filter(pa.array(kept)), shared.taxonomy_version)
        path = scratch / "taken.arrow"
        with pa.ipc.new_file(path, file.schema_arrow) as writer:
            first = 0
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                of_group = kept[first : first + rows.num_rows]
                writer.write_table(_renamed(rows.filter(pa.array(of_group)), shared.taxonomy_version))
                first += len(of_group)
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def signature(shared: Shared) -> dict[str, str]:
    """What the rows of all users depend on, by what people call it."""
    manifest = shared.tables.manifest
    columns = {name: sorted(manifest["columns"].get(name, ())) for name in ("users", "events", "campaigns")}
    weights, tables = shared.look_weights, shared.tables
    looks: list[Any] = [None if one is None else str(one.schema) for one in (weights.searches, weights.texts)]
    if shared.looked:
        looks.append({name: value for name, value in vars(weights.rules).items() if name != "before"})
    found: dict[str, Any] = {
        "the program": [_program(), *map(version, ("duckdb", "numpy", "pyarrow"))],
        "the tables' columns": [columns, "event_time_has_hours" in manifest, tables.event_time_has_hours],
        "time zone or currency": [tables.time_zone, tables.currency],
        "what looks count": looks,
        "the kinds of events": shared.kinds,
        "attributes of users": {name: vars(one) for name, one in shared.attributes.items()},
        "types of campaigns": dict(shared.types),
        "the largest departments": dict(shared.departments),
    }
    return {name: digest(value) for name, value in found.items()}


def _program() -> str:
    """Hash of the code that computes features. `code_identity` would leave comments out, but takes a CPU second."""
    root = Path(recommender.__file__).parent
    paths = sorted(path for package in ("features", "matching", "datasets") for path in (root / package).rglob("*.py"))
    return digest([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])


def _axes(source: Source, items: int) -> str:
    return hashlib.sha256(np.ascontiguousarray(source.taxonomy.axes_VA[:items]).tobytes()).hexdigest()


def _files_of_events(source: Source) -> dict[str, str]:
    files = source.tables.manifest["files"]
    return {name: file["sha256"] for name, file in files.items() if name.startswith("events/")}


def _decided(source: Source) -> pa.Table:
    """user_id and at_us of the decisions before `as_of`."""
    targets = source.targets
    targets = targets.filter(targets.targeted_at < source.as_of)
    listed = targets.select("user_id", "targeted_at").distinct().to_pyarrow()
    return pa.table({"user_id": listed["user_id"], "at_us": pa.array(microseconds_of(listed["targeted_at"]))})


def _renamed(rows: pa.Table, taxonomy_version: str) -> pa.Table:
    """Rows whose packed values name the newest state of the ids. The numbers in them are the same in each."""
    name = bytes.fromhex(taxonomy_version)
    if not rows.num_rows or rows["affinity"][0].as_py()[NAMED_FROM : NAMED_FROM + NAME_BYTES] == name:
        return rows
    for column in ("affinity", "history"):
        values = [value[:NAMED_FROM] + name + value[NAMED_FROM + NAME_BYTES :] for value in rows[column].to_pylist()]
        rows = rows.set_column(rows.column_names.index(column), column, pa.array(values, pa.binary()))
    return rows
