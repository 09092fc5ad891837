"""Opens DuckDB for whole logs: a limit of memory, a folder for what exceeds it, and a session in UTC."""

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import duckdb

from recommender.settings import ResourceSettings
from recommender.settings.sizes import bytes_of
from recommender.storage.scratch import scratch_folder

Configuration: TypeAlias = dict[str, str | bool | int | float | list[str]]
SHARE = 0.5
"""Share of the memory that DuckDB may use where the settings name no limit. By hand: the other half is for what it does
not count (Python, Arrow's batches, the allocator's reserves) and for the system's cache of files."""
LEAST_BYTES = 256 * 2**20
"""What two threads need to sort and to join at all. Below, DuckDB stops with an error."""
CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 2**60
"""The first version of cgroups writes a huge number where there is no limit."""


@contextmanager
def open_engine(resources: ResourceSettings, purpose: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """A database in memory that spills to the disk, and a temporary folder beside its spilled pages.

    Args:
        resources: threads, the limit of memory, and where temporary files lie.
        purpose: part of the temporary folder's name, so that a person who finds it knows what it was.
    """
    with (
        scratch_folder(purpose, resources.scratch) as folder,
        duckdb.connect(config=configuration(resources, Path(folder) / "spilled")) as connection,
    ):
        prepare(connection)
        yield connection, Path(folder)


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Settings of a session: UTC, and no progress bar, which DuckDB prints for slow queries, into files too."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")


@contextmanager
def single_thread(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let one thread do all work for a while."""
    (threads,) = connection.execute("SELECT current_setting('threads')").fetchone() or (1,)
    connection.execute("SET threads = 1")
    try:
        yield
    finally:
        connection.execute(f"SET threads = {threads}")


def configuration(resources: ResourceSettings, spill: Path | None = None) -> Configuration:
    """DuckDB's configuration.

    Args:
        resources: threads and the limit of memory.
        spill: a folder of this connection alone, because two processes would overwrite each other's pages. DuckDB makes
            it when it needs it, and takes it away. None: one of a name of its own, where temporary files lie.
    """
    folder = spill or Path(resources.scratch or tempfile.gettempdir()) / f"recommender-spilled-{uuid.uuid4().hex}"
    return {
        "threads": resources.threads,
        "memory_limit": f"{memory_limit(resources) // 2**20}MiB",
        "temp_directory": str(folder),
    }


def memory_limit(resources: ResourceSettings) -> int:
    """Bytes that DuckDB may use: the setting, or a share of what the machine or the process's cgroup has."""
    if resources.memory_limit is not None:
        return bytes_of(resources.memory_limit)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(LEAST_BYTES, int(SHARE * min([machine, *_of_cgroups()])))


def _of_cgroups() -> Iterator[int]:
    """Limits of the process's cgroup and of those around it, of either version."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            text = _text(folder / name)
            if text.isdecimal() and int(text) < NO_LIMIT:
                yield int(text)
            if folder == root:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:  # a container does not see the cgroups around it
        return ""
