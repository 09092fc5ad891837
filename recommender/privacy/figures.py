"""The place that is the figures of the last valid tables of each source, with which the next run compares its own.

They hold no id, but hashes of some. What a forget takes from the tables must be known to them too: otherwise the next
run would take a heavy shopper's missing rows for lost files, and stop.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from recommender import logs
from recommender.datasets.contract import open_views
from recommender.datasets.moments import as_of as moment_of
from recommender.datasets.statistics import Statistics, measure, read_statistics, write_statistics
from recommender.datasets.statistics.measure import hashes_of
from recommender.datasets.tables import CONTRACT, Tables
from recommender.days import DayStore
from recommender.errors import CorruptFileError
from recommender.event_tables.forgotten_rows import USER
from recommender.privacy.files import runs_of
from recommender.privacy.places import Trace, has_rows, in_draft
from recommender.privacy.removal import hidden_name
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST, read_manifest, whole_folder, write_manifest

log = logs.get(__name__)
VISIBLE = 0.1
"""Share of a day's rows from which a loss matters where it cannot be measured. By hand: half of the fifth that stops a
run."""


class Figures:
    """The figures of all sources of a home."""

    name = "figures of valid tables"

    def __init__(self, settings: Settings) -> None:
        self._settings, self._home = settings, Home.of(settings)

    def find(self, users: Sequence[str]) -> list[Trace]:
        """Hashes of these users."""
        hashes = self._hashes(users)
        found = []
        for folder in self._folders():
            statistics = _read(folder)
            known = set() if statistics is None else {one for own in statistics.keys.values() for one in own}
            if seen := {user for user, one in hashes.items() if one in known}:
                name = str(folder.relative_to(self._home.root))
                found.append(Trace(name, len(seen), "hashes", frozenset(seen)))
        return found

    def remove(self, users: Sequence[str]) -> list[str]:
        """Measure the tables again without them, where these are still there. So call it before they go."""
        return [note for folder in self._folders() if (note := self._without(folder, users))]

    def _without(self, folder: Path, users: Sequence[str]) -> str:
        """Take users out of the figures of a source. Returns what to know about it, if anything."""
        statistics = _read(folder)
        if statistics is None:
            return ""
        try:
            tables = self._tables(str(read_manifest(folder, verify=False).get("data_hash", "")))
            if tables is not None:
                if any(has_rows(path, set(users)) for path in sorted(tables.folder.rglob("*.parquet"))):
                    _write(folder, _measured(tables, users, self._settings, moment_of(self._settings.time, tables)))
                return ""
        except (duckdb.Error, CorruptFileError, OSError, KeyError) as error:
            log.warning("the figures of the last valid tables cannot be measured again", problem=str(error))
        hashes = set(self._hashes(users).values())
        keys = {name: tuple(one for one in own if one not in hashes) for name, own in statistics.keys.items()}
        loss = self._largest_loss(folder.name, users)
        if loss is not None and loss < VISIBLE:
            if keys != statistics.keys:
                _write(folder, replace(statistics, keys=keys))
            return ""
        if loss is None and keys == statistics.keys:
            return ""
        self._drop(folder)
        return "the tables of the last valid run are not here, so their figures went: the next run compares with none"

    def _largest_loss(self, source: str, users: Sequence[str]) -> float | None:
        """The largest share of these users in the rows of a day. None: the home has no days of the source."""
        store = DayStore(self._home.days(source))
        days = store.read().days.values() if (store.folder / MANIFEST).is_file() else ()
        shares = [has_rows(store.path(one), set(users)) / max(one.rows, 1) for one in days if store.path(one).is_file()]
        return max(shares, default=None)

    def _tables(self, data_hash: str) -> Tables | None:
        """The tables of the last valid run."""
        for run in runs_of(self._home):
            for manifest in sorted(run.rglob(MANIFEST)):
                if not in_draft(manifest, run) and (manifest.parent / "events").is_dir():
                    found = json.loads(manifest.read_text(encoding="utf-8"))
                    if found.get("content_hash") == data_hash:
                        return Tables(manifest.parent)
        return None

    def _folders(self) -> Iterator[Path]:
        around = self._home.validated("x").parent
        for folder in sorted(around.iterdir()) if around.is_dir() else []:
            if (folder / MANIFEST).is_file() and not in_draft(folder, around):
                yield folder

    def _drop(self, folder: Path) -> None:
        target = hidden_name(self._home.pipeline_artifacts)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        shutil.rmtree(target)

    @staticmethod
    def _hashes(users: Sequence[str]) -> Mapping[str, int]:
        with duckdb.connect() as connection:
            return hashes_of(connection, users)


def _measured(tables: Tables, users: Sequence[str], settings: Settings, until: datetime) -> Statistics:
    """The statistics of tables without the rows of some users."""
    with open_views(tables, settings.resources) as connection:
        connection.register("gone", pa.table({"gone": pa.array(list(users), pa.string())}))
        for name in CONTRACT:
            if tables.has(name, USER):
                glob = tables.glob(name).replace("'", "''")
                connection.execute(
                    f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet('{glob}', hive_partitioning = false) "
                    f"WHERE {USER} IS NULL OR {USER} NOT IN (SELECT gone FROM gone)"
                )
        return measure(connection, tables, until)


def _read(folder: Path) -> Statistics | None:
    try:
        return read_statistics(folder)
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None  # the next run refuses it


def _write(folder: Path, statistics: Statistics) -> None:
    """Write the figures of a source anew, in one step. Those of tables keep all but their numbers of rows."""
    manifest = read_manifest(folder, verify=False)
    facts: dict[str, Any] = {name: value for name, value in manifest.items() if name not in ("files", "content_hash")}
    for name, own in facts.get("figures", {}).items():
        if name in statistics.rows and "rows" in own:
            own["rows"] = statistics.rows[name]
    with whole_folder(folder) as made:
        write_statistics(statistics, made)
        write_manifest(made, **facts)
