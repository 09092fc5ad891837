"""Where Spark's executors write the rows of their buckets: a folder of its own for each build, beside its output."""

import re
import uuid
from datetime import UTC, datetime, timedelta

from recommender import logs
from recommender.datasets.places import Place
from recommender.storage.manifest import WRITER_DIGITS

KEPT = timedelta(days=1)
"""Parts whose newest file is older were left by a build that was killed. By hand: a bucket takes minutes, and each one
writes a file when it ends."""
log = logs.get(__name__)


def new_parts(output: Place, *, now: datetime | None = None) -> Place:
    """A folder for the parts of one more build of `output`. Parts that killed builds have left beside it are removed.

    In an object store it is `<output>.parts-<number>`, on this machine the same with a point before it.
    """
    around, _, name = output.location.rstrip("/").rpartition("/")
    stem = f"{name}.parts" if output.is_remote else f".{name}.parts"
    _sweep(Place(around or "/"), stem, now or datetime.now(UTC))
    return Place(f"{around}/{stem}-{uuid.uuid4().hex[:WRITER_DIGITS]}")


def _sweep(around: Place, stem: str, now: datetime) -> None:
    parts = re.compile(rf"{re.escape(stem)}(-[0-9a-f]{{{WRITER_DIGITS}}})?")  # an earlier release had no numbers
    for name in around.folders():
        if parts.fullmatch(name):
            folder = Place(f"{around.location}/{name}")
            changed = max((file.changed for file in folder.files().values()), default=now)
            if changed < now - KEPT:
                log.info("parts of a killed build removed", path=folder.location, changed=str(changed))
                folder.remove()
