"""Removes what `recommender.privacy.retention` found, beside a running endpoint and a running pipeline.

A folder is first renamed to a hidden name in one step and then deleted, so nobody sees half of it. A clean that was
killed leaves hidden folders, which the next one deletes.
"""

import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recommender import logs
from recommender.errors import RegistryError
from recommender.privacy.retention import Kept, Leftover, Limits, find
from recommender.registry import Registry
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.in_use import alone
from recommender.storage.manifest import WRITER_DIGITS
from recommender.storage.turns import turn

log = logs.get(__name__)
REMOVED = ".removed-"
UNLOCKED = ("decisions",)
"""Kinds that no pipeline and no training reads, so that they go while one runs."""


@dataclass(frozen=True)
class Removed:
    """What a clean did."""

    removed: tuple[Leftover, ...]
    kept: tuple[Kept, ...]
    """What was found before, but is needed now."""


def remove(settings: Settings, leftovers: Sequence[Leftover], limits: Limits, now: datetime) -> Removed:
    """Remove those of `leftovers` that are still old and not needed.

    While a pipeline, a training or a materialisation uses the home, only decisions go: it may read all else.

    Raises:
        CorruptFileError: as `find`.
        OSError: something cannot be removed.
    """
    home = Home.of(settings)
    home.root.mkdir(parents=True, exist_ok=True)
    hidden: list[Path] = []
    removed: list[Leftover] = []
    kept: list[Kept] = []
    with alone(home) as free, turn(home.removing, waits="another clean or forget removes; this one waits for it"):
        delete_hidden(home)
        still, _ = find(settings, limits, now)
        there = {(one.kind, one.name): one for one in still}
        for leftover in leftovers:
            now_there = there.get((leftover.kind, leftover.name))
            if not free and leftover.kind not in UNLOCKED:
                kept.append(Kept(leftover.kind, leftover.name, "a pipeline or a training uses this home now"))
            elif now_there is None:
                kept.append(Kept(leftover.kind, leftover.name, "needed or used again meanwhile"))
            else:
                try:
                    hidden += _hide(home, now_there)
                    removed.append(now_there)
                except RegistryError as error:  # promoted or trained again meanwhile
                    kept.append(Kept(leftover.kind, leftover.name, str(error)))
    # The locks are free again: a hidden name is nobody's, and deleting takes long.
    for path in hidden:
        delete_folder(path)
    log.info("cleaned", removed=len(removed), kept=len(kept), bytes=sum(one.num_bytes for one in removed))
    return Removed(tuple(removed), tuple(kept))


def _hide(home: Home, leftover: Leftover) -> list[Path]:
    """Take a leftover's files away and rename its folders. Returns the folders' hidden names."""
    if leftover.kind == "versions":
        (path,) = leftover.paths
        target = hidden_name(path.parent)
        Registry(home.root).remove(leftover.name, target, unchanged_since=leftover.changed)
        return [target]
    if leftover.kind == "runs":
        forget_steps(home, leftover.name)
    hidden = []
    for path in leftover.paths:
        if path.is_dir():
            # Artifacts lie deep in the folder of a run. All hidden names lie beside the runs, where they are found.
            folder = home.pipeline_artifacts if path.is_relative_to(home.pipeline_artifacts) else path.parent
            target = hidden_name(folder)
            path.rename(target)
            hidden.append(target)
        else:
            path.unlink(missing_ok=True)
    return hidden


def forget_steps(home: Home, run_id: str) -> None:
    """Remove the local runner's memory of finished steps whose artifacts lie in a run that goes."""
    for entry in home.pipeline_cache.glob("*.json") if home.pipeline_cache.is_dir() else []:
        if f"/{run_id}/" in entry.read_text(encoding="utf-8", errors="replace"):
            entry.unlink(missing_ok=True)


def hidden_name(folder: Path) -> Path:
    """A name in `folder` that the next clean or forget deletes, if this one is killed before it does."""
    return folder / f"{REMOVED}{uuid.uuid4().hex[:WRITER_DIGITS]}"


def delete_hidden(home: Home) -> None:
    """Delete what a killed clean left."""
    versions = Registry(home.root).versions_folder
    for folder in (
        home.runs,
        home.pipeline_artifacts,
        home.checkpoints,
        home.catalogue_versions,
        home.decision_days,
        versions,
        *home.of_sources,
    ):
        for path in folder.glob(f"{REMOVED}*") if folder.is_dir() else []:
            delete_folder(path)


def delete_folder(folder: Path) -> None:
    """Delete a folder, also while another process deletes it too. When it returns, nothing of it is left."""

    def failed(_: object, path: str, error: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(error[1], FileNotFoundError):  # what the other one was faster with
            raise error[1]

    shutil.rmtree(folder, onerror=failed)
