"""Places that are files with rows: what Feast reads offline, and runs and training sets."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from recommender.errors import FeatureStoreError
from recommender.event_tables.forgotten_rows import copy_without
from recommender.privacy.places import Trace, has_rows, parquet_in
from recommender.privacy.removal import delete_folder, forget_steps, hidden_name
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST, link_or_copy, whole_folder, write_manifest
from recommender.storage.scratch import scratch_folder

CORPUS, PAIRS = "corpus.safetensors", "pairs.parquet"
"""Files of a training set (`recommender.features.training_set`)."""
GROUNDWORK = "groundwork-"
"""Begin of the names of folders with labels of pairs (`recommender.models.campaign.groundwork`)."""
Change = Callable[[Path, Path], None]
"""Writes a copy of a file without the users."""
OFFLINE_VARIABLE = "FEATURE_STORE_OFFLINE"
"""The address of a copy of the offline store (`feature_repo.materialisation`)."""


class OfflineStore:
    """The Parquet files that Feast reads, and their copy in an object store."""

    name = "offline store"

    def __init__(self, settings: Settings) -> None:
        self._home = Home.of(settings)
        self._elsewhere = os.environ.get(OFFLINE_VARIABLE)

    def find(self, users: Sequence[str]) -> list[Trace]:
        """Rows of each file."""
        known = set(users)
        with _fetched(self._elsewhere) as copies:
            places = [*((str(path.relative_to(self._home.root)), path) for path in self._files()), *copies]
            return [trace for name, path in places if (trace := rows_in(name, [path], known)).count]

    def remove(self, users: Sequence[str]) -> list[str]:
        """Write the files that hold them anew, in a folder that takes the place of the old one."""
        folder, known = self._home.feature_store.offline, set(users)
        theirs = [path for path in self._files() if has_rows(path, known)]
        if theirs:
            without = partial(copy_without, users=known)
            rewrite_folder(folder, dict.fromkeys(theirs, without))
        with _fetched(self._elsewhere) as copies:
            for address, path in copies:
                if has_rows(path, known):
                    changed = path.with_name(f"without-{path.name}")
                    copy_without(path, changed, known)
                    _put(changed, address)
        return []

    def _files(self) -> list[Path]:
        return list(parquet_in(self._home.feature_store.offline))


class Runs:
    """Tables, features and training sets that runs left, with the memory of finished steps and of the last build.

    The next run makes them again. Training sets, and labels that fits keep of them, hold purchases without ids: all of
    them go where one place here or the offline store knows a user. The last build of features keeps words of searches
    and reviews without ids: it goes where it has rows of a user.
    """

    name = "runs and training sets"

    def __init__(self, settings: Settings, offline: OfflineStore) -> None:
        self._home, self._offline = Home.of(settings), offline

    def find(self, users: Sequence[str]) -> list[Trace]:
        """Rows of each run, and training sets that may hold purchases of these users."""
        known = set(users)
        places = [*self._runs(), *self._last_builds()]
        traces = [rows_in(str(place.relative_to(self._home.root)), parquet_in(place), known) for place in places]
        found = [trace for trace in traces if trace.count]
        sets = self._training_sets()
        if sets and (
            found
            or self._offline.find(users)
            or any(has_rows(one / PAIRS, known) for one in sets if (one / PAIRS).is_file())
        ):
            found += [
                trace_of(self._home, one, 1, "folder with purchases of all shoppers, without ids") for one in sets
            ]
        return found

    def remove(self, users: Sequence[str]) -> list[str]:
        """Take their folders away, training sets first: a removal that was killed finds the others by their ids."""
        found = self.find(users)
        if not found:
            return []
        theirs, hidden = {self._home.root / trace.where for trace in found}, []
        runs = [run for run in self._runs() if run in theirs or any(run in one.parents for one in theirs)]
        for run in runs:
            forget_steps(self._home, run.name)
        folders = [*self._training_sets(), *(folder for run in runs if run in theirs for folder in data_folders(run))]
        folders += [build for build in self._last_builds() if build in theirs]
        for folder in dict.fromkeys(folders):
            target = hidden_name(self._home.pipeline_artifacts)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            hidden.append(target)
        self._home.published.origin(self._home.published.training_set).unlink(missing_ok=True)
        for path in hidden:
            delete_folder(path)
        return []

    def _runs(self) -> list[Path]:
        return runs_of(self._home)

    def _last_builds(self) -> list[Path]:
        kept = self._home.last_builds.iterdir() if self._home.last_builds.is_dir() else ()
        return sorted(path for path in kept if path.is_dir() and not path.name.startswith("."))

    def _training_sets(self) -> list[Path]:
        folders = [self._home.published.training_set, *(one for run in self._runs() for one in data_folders(run))]
        kept = self._home.checkpoints.glob(f"{GROUNDWORK}*") if self._home.checkpoints.is_dir() else ()
        return [*(folder for folder in folders if (folder / CORPUS).is_file()), *sorted(kept)]


def runs_of(home: Home) -> list[Path]:
    """The folders of artifacts, one for each run."""
    if not home.pipeline_artifacts.is_dir():
        return []
    return [
        path
        for path in sorted(home.pipeline_artifacts.iterdir())
        if path.is_dir() and path != home.pipeline_cache and not path.name.startswith(".")
    ]


def data_folders(run: Path) -> list[Path]:
    """The outermost folders of a run that have a manifest and hold Parquet: tables, features and training sets."""
    found: set[Path] = set()
    for path in parquet_in(run):
        above = [one for one in path.parents if one.is_relative_to(run) and (one / MANIFEST).is_file()]
        found.add(above[-1] if above else path.parent)
    return sorted(one for one in found if not any(other in one.parents for other in found))


@contextmanager
def _fetched(address: str | None) -> Iterator[list[tuple[str, Path]]]:
    """The Parquet files below an address (s3://bucket/prefix, file:///folder), copied into a temporary folder."""
    if not address:
        yield []
        return
    from pyarrow import fs

    with scratch_folder("offline") as name:
        try:
            there, root = fs.FileSystem.from_uri(address)
            listed = there.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
            copies = []
            for number, file in enumerate(one for one in listed if one.is_file and one.extension == "parquet"):
                path = Path(name) / f"{number}-{file.base_name}"
                with there.open_input_stream(file.path) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                copies.append((f"{address.rstrip('/')}{file.path[len(root.rstrip('/')) :]}", path))
        except (OSError, ValueError) as error:
            raise FeatureStoreError(f"{OFFLINE_VARIABLE}={address}: cannot be read ({error})") from None
        yield copies


def _put(path: Path, address: str) -> None:
    """Replace one file at an address. An object store does that in one step, and for a folder a rename does."""
    from pyarrow import fs

    try:
        there, target = fs.FileSystem.from_uri(address)
        local = isinstance(there, fs.LocalFileSystem)
        with path.open("rb") as source, there.open_output_stream(f"{target}.new" if local else target) as stream:
            shutil.copyfileobj(source, stream)
        if local:
            there.move(f"{target}.new", target)
    except (OSError, ValueError) as error:
        raise FeatureStoreError(f"{address}: cannot be written ({error})") from None


def trace_of(home: Home, path: Path, count: int, what: str = "rows", users: frozenset[str] = frozenset()) -> Trace:
    """What a file or folder of the home holds."""
    return Trace(str(path.relative_to(home.root)), count, what, users)


def rows_in(name: str, files: Iterable[Path], users: set[str]) -> Trace:
    """The rows of Parquet files about these users, under one name."""
    seen: set[str] = set()
    return Trace(name, sum(has_rows(path, users, seen) for path in files), "rows", frozenset(seen))


def rewrite_folder(folder: Path, changes: Mapping[Path, Change]) -> None:
    """Write a folder with a manifest anew, in one step. The manifest keeps its facts and names the new bytes."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    facts = {name: value for name, value in manifest.items() if name not in ("files", "content_hash")}
    with whole_folder(folder) as draft:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST):
            target = draft / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            changes.get(path, link_or_copy)(path, target)
        write_manifest(draft, **facts)
