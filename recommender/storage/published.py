"""Publishing: a run leaves its results under fixed names, each written whole, with the run and the data they came from.

Later commands (`report`, `tune`) read these and never search the pipeline runner's own folders.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from recommender import logs
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

log = logs.get(__name__)


@dataclass(frozen=True)
class Origin:
    """The origin of a published file or folder. `content`: SHA-256 of the file, or of the folder's manifest."""

    run: str
    """The pipeline run's id. Empty if a failed step published, because it does not know the id."""
    data_hash: str
    content: str


def publish(
    home: Home,
    *,
    run: str,
    data_hash: str,
    training_set: Path | None = None,
    validation_page: Path | None = None,
    training_page: Path | None = None,
    evaluation: Path | None = None,
    evaluation_page: Path | None = None,
    verdict: Path | None = None,
) -> None:
    """Copy what is given to its published name, each whole or not at all.

    What is published already is not copied again.

    Args:
        home: where it is published.
        run: the run that publishes.
        data_hash: of the tables that it came from.
        training_set: folder of a training set.
        validation_page: HTML of a validation.
        training_page: HTML of the challenger's training.
        evaluation: folder of an evaluation document.
        evaluation_page: HTML of an evaluation.
        verdict: JSON of the gate's verdict.

    Raises:
        CorruptFileError: a folder differs from its manifest. Names the file.
    """
    names = home.published
    sources = {
        names.training_set: training_set,
        names.validation_page: validation_page,
        names.training_page: training_page,
        names.evaluation: evaluation,
        names.evaluation_page: evaluation_page,
        names.verdict: verdict,
    }
    for target, source in sources.items():
        if source is not None:
            content = _content(source)
            _place(source, target, content)
            write_text(names.origin(target), json.dumps(asdict(Origin(run, data_hash, content)), indent=1))
            log.info("published", path=str(target), run=run, data_hash=data_hash)


def origin_of(published: Published, target: Path) -> Origin | None:
    """The origin of `target`. None if it is not recorded, or if the record is about other content.

    Raises:
        CorruptFileError: `target` is missing or damaged.
    """
    try:
        origin = Origin(**json.loads(published.origin(target).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if not target.exists():
        raise CorruptFileError(f"{target}: missing, though run {origin.run} published it; run it again")
    return origin if origin.content == _content(target) else None


def published_training_set(home: Home) -> Path:
    """The training set that the last run published.

    Raises:
        RegistryError: no run has published one yet. Names the command that does.
    """
    folder = home.published.training_set
    if not folder.is_dir():
        raise RegistryError(f"{folder}: no run has published a training set yet; make one with: recommender run")
    return folder


def _place(source: Path, target: Path, content: str) -> None:
    """Give `target` the content of `source`, of which `content` is the hash."""
    if target.exists() and _is(target, content):
        return
    if source.is_dir():
        with whole_folder(target) as folder:
            shutil.copytree(source, folder, copy_function=link_or_copy, dirs_exist_ok=True)
    else:
        write_bytes(target, source.read_bytes())


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
