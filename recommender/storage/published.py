"""Publishing: a run leaves its results under fixed names, each written whole, with the run and the data it came from.

Later commands (`report`, `tune`) read these and never search the pipeline runner's own folders.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from recommender.errors import CorruptFileError, RegistryError
from recommender.storage.home import Home, Published
from recommender.storage.manifest import (
    MANIFEST,
    link_or_copy,
    read_manifest,
    sha256,
    whole_folder,
    write_bytes,
    write_text,
)


@dataclass(frozen=True)
class Origin:
    """Where something published came from. `content`: SHA-256 of the file, or of the folder's manifest."""

    run: str
    """The pipeline run's id; empty where a failed step published and did not know it."""
    data_hash: str
    content: str


def publish(published: Published, sources: Mapping[Path, Path], *, run: str, data_hash: str) -> None:
    """Copy each source to its published name (`sources`: name -> file or folder with a manifest), whole or not at all.

    A name keeps what it held before until the new content is complete. What is published already is not copied again.

    Raises:
        CorruptFileError: a folder is not what its manifest says; names the file.
    """
    for target, source in sources.items():
        content = _content(source)
        if not (target.exists() and _is(target, content)):
            if source.is_dir():
                with whole_folder(target) as folder:
                    shutil.copytree(source, folder, copy_function=link_or_copy, dirs_exist_ok=True)
            else:
                write_bytes(target, source.read_bytes())
        write_text(published.origin(target), json.dumps(asdict(Origin(run, data_hash, content)), indent=1))


def origin_of(published: Published, target: Path) -> Origin | None:
    """Where `target` came from; None where nobody recorded it, or where its record is about other content.

    Raises:
        CorruptFileError: `target` is missing or damaged.
    """
    try:
        origin = Origin(**json.loads(published.origin(target).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return origin if origin.content == _content(target) else None


def published_training_set(home: Home) -> Path:
    """The training set that the last run published.

    Raises:
        RegistryError: no run has published one yet; says which command does.
    """
    folder = home.published.training_set
    if not folder.is_dir():
        raise RegistryError(f"{folder}: no run has published a training set yet; make one with: recommender run")
    return folder


def _content(path: Path) -> str:
    if path.is_dir():
        read_manifest(path)
        return sha256(path / MANIFEST)
    return sha256(path)


def _is(target: Path, content: str) -> bool:
    try:
        return _content(target) == content
    except CorruptFileError:
        return False
