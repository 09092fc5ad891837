"""Where Spark's executors write the rows of their buckets: a folder of its own for each build, beside its output."""

import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from recommender import logs
from recommender.datasets.places import Place
from recommender.storage.manifest import WRITER_DIGITS

KEPT = timedelta(days=1)
"""Parts whose newest file is older were left by a build that was killed. By hand: a bucket takes minutes, and each one
writes a file when it ends."""
log = logs.get(__name__)


def new_parts(output: Place, *, now: datetime | None = None) -> Place:
    """A folder for the parts of one more build of `output`. Parts that killed builds have left there are removed."""
    folder = _folder(output)
    _sweep(folder, now or datetime.now(UTC))
    return Place(f"{folder.location}/{uuid.uuid4().hex[:WRITER_DIGITS]}")


def remove(parts: Place) -> None:
    """Remove the parts of a build that has ended, and the folder around them if no other build uses it."""
    parts.remove()
    if not parts.is_remote:
        with suppress(OSError):  # another build writes there
            parts.path.parent.rmdir()


def _folder(output: Place) -> Place:
    if output.is_remote:
        return Place(f"{output.location.rstrip('/')}.parts")
    return Place(str(output.path.with_name(f".{output.path.name}.parts")))


def _sweep(folder: Place, now: datetime) -> None:
    newest: dict[str, datetime] = {}
    for name, file in folder.files().items():
        build = PurePosixPath(name).parts[0]
        newest[build] = max(file.changed, newest.get(build, file.changed))
    for build, changed in newest.items():
        if changed < now - KEPT:
            log.info("parts of a killed build removed", path=f"{folder.location}/{build}", changed=str(changed))
            Place(f"{folder.location}/{build}").remove()
            folder.remove_file(build)  # a release before this one wrote the files without a folder of their own
