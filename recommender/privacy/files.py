"""Places that are files: what Feast reads offline, runs and training sets, and all else in a home."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recommender.decisions.log import folders_of as folders_of_decisions
from recommender.errors import FeatureStoreError
from recommender.event_tables.forgotten_rows import copy_without
from recommender.events.log import folders_of as folders_of_events
from recommender.privacy.places import Trace, has_rows, parquet_in, scanner_of
from recommender.privacy.removal import forget_steps, hidden_name
from recommender.privacy.scanner import Scanner
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import MANIFEST, WRITER_DIGITS, link_or_copy, whole_folder, write_manifest

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
        found = [_trace(self._home, path, has_rows(path, known)) for path in self._files()]
        with _fetched(self._elsewhere) as copies:
            found += [Trace(address, has_rows(path, known), "rows") for address, path in copies]
        return [trace for trace in found if trace.count]

    def remove(self, users: Sequence[str]) -> list[str]:
        """Write the files that hold them anew, in a folder that takes the place of the old one."""
        folder, known = self._home.feature_store.offline, set(users)
        theirs = [path for path in self._files() if has_rows(path, known)]
        if theirs:
            without = partial(copy_without, users=known)
            _rewrite(folder, dict.fromkeys(theirs, without))
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
        rows = {place: sum(has_rows(path, known) for path in parquet_in(place)) for place in places}
        found = [_trace(self._home, place, number) for place, number in rows.items() if number]
        sets = self._training_sets()
        if sets and (
            found
            or self._offline.find(users)
            or any(has_rows(one / PAIRS, known) for one in sets if (one / PAIRS).is_file())
        ):
            found += [_trace(self._home, one, 1, "folder without ids") for one in sets]
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
            shutil.rmtree(path)
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
        return [_trace(self._home, path, rows, what) for path, rows, what in self._found(users)]

    def remove(self, users: Sequence[str]) -> list[str]:
        """Write rows anew without them, and overwrite ids in texts. What a trained version holds cannot be removed."""
        problems: list[str] = []
        scanner = scanner_of(self._home, users)
        whole: dict[Path, dict[Path, Change]] = {}
        for path, _, what in self._found(users):
            name = path.relative_to(self._home.root)
            if name.parts[0] in KEPT_AS_THEY_ARE:
                problems.append(f"{name}: {KEPT_AS_THEY_ARE[name.parts[0]]}")
            elif what != "rows" and not _is_text(path):
                problems.append(f"{name}: holds the id in a format that is not known; delete the file")
            elif (folder := self._listed_in(path)) is not None:
                change = (
                    partial(copy_without, users=set(users)) if what == "rows" else partial(_copy_over, scanner=scanner)
                )
                whole.setdefault(folder, {})[path] = change
            elif what == "rows":
                draft = path.with_name(f".{path.name}.{'0' * WRITER_DIGITS}")
                copy_without(path, draft, set(users))
                draft.replace(path)
            else:
                _overwrite(path, scanner)
        for folder, changes in whole.items():
            _rewrite(folder, changes)
        return problems

    def _listed_in(self, path: Path) -> Path | None:
        """The outermost folder whose manifest lists a file."""
        listing = [
            folder
            for folder in path.parents
            if folder.is_relative_to(self._home.root) and path.relative_to(folder).as_posix() in _files_of(folder)
        ]
        return listing[-1] if listing else None

    def _found(self, users: Sequence[str]) -> Iterator[tuple[Path, int, str]]:
        known, scanner = set(users), scanner_of(self._home, users)
        places = (*self._known, *(folder for run in runs_of(self._home) for folder in data_folders(run)))
        for path in sorted(self._home.root.rglob("*")):
            if path.is_symlink() or not path.is_file() or any(path.is_relative_to(one) for one in places):
                continue
            with suppress(FileNotFoundError):
                if path.suffix == ".parquet" and (rows := has_rows(path, known)):
                    yield path, rows, "rows"
                elif scanner.ids and (ids := scanner.in_file(path)):
                    yield path, len(ids), "ids"


@contextmanager
def _fetched(address: str | None) -> Iterator[list[tuple[str, Path]]]:
    """The Parquet files below an address (s3://bucket/prefix, file:///folder), copied into a temporary folder."""
    if not address:
        yield []
        return
    from pyarrow import fs

    with TemporaryDirectory(prefix="offline-") as name:
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


def _trace(home: Home, path: Path, count: int, what: str = "rows") -> Trace:
    return Trace(str(path.relative_to(home.root)), count, what)


def _rewrite(folder: Path, changes: Mapping[Path, Change]) -> None:
    """Write a folder with a manifest anew, in one step. The manifest keeps its facts and names the new bytes."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    facts = {name: value for name, value in manifest.items() if name not in ("files", "content_hash")}
    with whole_folder(folder) as draft:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST):
            target = draft / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            changes.get(path, link_or_copy)(path, target)
        write_manifest(draft, **facts)


def _is_text(path: Path) -> bool:
    content = path.read_bytes()
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _copy_over(source: Path, target: Path, scanner: Scanner) -> None:
    shutil.copyfile(source, target)
    _overwrite(target, scanner)


def _overwrite(path: Path, scanner: Scanner) -> None:
    """Put x in place of every byte of the ids. The length stays, so a process that writes the file goes on."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        for start, end in scanner.places(content):
            file.seek(start)
            file.write(b"x" * (end - start))
        file.flush()
        os.fsync(file.fileno())


def _files_of(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"])
    return {}
