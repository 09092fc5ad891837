"""What every step of a pipeline has around its one call: its log, its refusals, and patience with a store that is away.

A log begins with what the step reads and ends with what it wrote and took. Where the step is refused, the last line is
one sentence with the reason and the remedy, without a traceback, and the process exits with 1. KFP does not try such a
step again; a step whose pod is lost it does.
"""

import errno
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from recommender import logs
from recommender.errors import AWAY, RecommenderError

if TYPE_CHECKING:
    from kfp.dsl import Metrics

WAITS_S = (2.0, 4.0, 8.0, 16.0)
"""Pauses between tries while a store is away: 30 s together. A server that is moved to another node is back by then;
one that is away for longer needs a person. By hand."""
DETAILS = "In detail:"
"""Line above the details of a refusal, which are indented. The sentence itself follows them."""
OF_THE_VOLUME = {
    errno.EACCES: "give it to this user, or run the pod as its owner",
    errno.EPERM: "give it to this user, or run the pod as its owner",
    errno.EROFS: "mount a volume there that can be written",
    errno.ENOSPC: "make room on the volume (recommender clean), or enlarge it",
    errno.EDQUOT: "make room on the volume (recommender clean), or raise its quota",
}
"""What a person does about an error of the file system."""
KIB, MIB = 2**10, 2**20
Answer = TypeVar("Answer")
log = logs.get(__name__)


@contextmanager
def running(
    name: str, *, reads: Mapping[str, object] | None = None, writes: Mapping[str, str | Path] | None = None
) -> Iterator[dict[str, object]]:
    """Run a step's call: log what it reads, what it wrote and took, and end the process at a refusal.

    Args:
        name: the step's name.
        reads: what it reads, by name: paths of artifacts and parameters that choose something.
        writes: paths of the artifacts that it writes, by name.

    Yields:
        A dict for other facts about what was written, such as a version's id.

    Raises:
        SystemExit: a refusal, with exit code 1; its cause is the error.
    """
    logs.configure(process=f"step:{name}")
    log.info("step reads", **dict(reads or {}))
    started, wrote = time.monotonic(), dict[str, object]()
    try:
        yield wrote
    except RecommenderError as error:
        _refuse(error, type(error).__name__, str(error))
    except OSError as error:
        remedy = OF_THE_VOLUME.get(error.errno or 0)
        if remedy is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _refuse(error, type(error).__name__, f"{where}{error.strerror} (user {os.getuid()}); {remedy}")
    sizes = {what: _size(Path(path)) for what, path in (writes or {}).items()}
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB // MIB  # Linux counts it in KiB
    log.info(
        "step wrote", **sizes, **wrote, seconds=round(time.monotonic() - started, 2), peak_memory_mib=int(peak_mib)
    )


def patiently(call: Callable[[], Answer], *, waits_s: tuple[float, ...] = WAITS_S) -> Answer:
    """The answer of `call`, which is tried again after each of `waits_s` seconds while a store or bucket is away.

    Args:
        call: what to do. It must be safe to repeat.
        waits_s: the pauses.

    Raises:
        RecommenderError: `call` refuses, or the store is still away after the last pause.
    """
    for tried, wait_s in enumerate(waits_s, start=1):
        try:
            return call()
        except AWAY as error:
            log.warning("away for now, trying again", problem=str(error), tried=tried, wait_s=wait_s)
            time.sleep(wait_s)
    try:
        return call()
    except AWAY as error:
        raise type(error)(f"{error} (tried {len(waits_s) + 1} times in {sum(waits_s):.0f} s)") from error


def log_metrics(metrics: "Metrics", values: Mapping[str, float]) -> None:
    """Write numbers into a step's metrics artifact, which KFP's UI shows."""
    for name, value in values.items():
        metrics.log_metric(name, value)


def _refuse(error: Exception, kind: str, message: str) -> NoReturn:
    """Print a refusal and end the process. The last line is the first one of the message, a whole sentence."""
    sentence, *details = message.splitlines()
    shown = [DETAILS, *(f"  {line.strip()}" for line in details)] if details else []
    print(*shown, f"{kind}: {sentence}", sep="\n", file=sys.stderr, flush=True)
    raise SystemExit(1) from error


def _size(path: Path) -> dict[str, Any]:
    """Path, number of files and bytes of what a step wrote."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {"path": str(path), "files": len(files), "bytes": sum(file.stat().st_size for file in files)}
