"""Forgetting 100 users of a shop: what is left of them in every file of the home and of the online store's server.

    python -m benchmarks.features.forget --stores sqlite,redis,postgres

The scanner (`recommender.privacy.scanner`) decodes every format. It is run before too, where it must find all of them.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.decision.rows import Row, merge
from benchmarks.features import REPORT
from benchmarks.features.forgotten_home import fill
from benchmarks.features.stores import KINDS, servers, settings_in
from benchmarks.measured_on import measured_on
from recommender.privacy.scanner import Scanner
from recommender.settings import Settings

NUM_USERS, NUM_FORGOTTEN = 300, 100
REDIS_KEEPS = ("--appendonly", "yes", "--save", "3600 1", "--rdbcompression", "no")
"""Redis keeps files, without the compression that would hide ids from the scanner."""


def rows(say: Callable[[str], None], kinds: Sequence[str] = KINDS) -> list[Row]:
    """A row for each store: files and databases that hold an id afterwards."""
    found = []
    for kind in kinds:
        with TemporaryDirectory(prefix="forget-", dir="/tmp") as name, _started(kind, Path(name)) as (settings, places):
            found.append(_of(kind, settings, Path(name), places, say))
    return found


@contextmanager
def _started(kind: str, folder: Path) -> Iterator[tuple[Settings, list[Path]]]:
    """Settings of an empty store, and the folders in which its server keeps what it stores."""
    if kind == "redis":
        server = folder / "redis"
        server.mkdir()
        with servers().valkey(server, *REDIS_KEEPS) as port:
            yield settings_in(folder, kind="redis", redis_url=f"redis://127.0.0.1:{port}/0"), [server]
    elif kind == "postgres":
        with servers().postgres() as socket:
            url = f"postgresql://postgres@/postgres?host={socket}"
            yield settings_in(folder, kind="postgres", postgres_url=url), [Path(socket) / "data" / "base"]
    else:
        yield settings_in(folder), []


def _of(kind: str, settings: Settings, folder: Path, places: Sequence[Path], say: Callable[[str], None]) -> Row:
    from recommender.privacy.forgetting import forget
    from serving.online_store.erasure import erasure_of

    users = fill(settings, folder, num_users=NUM_USERS)
    gone, stay = users[::3][:NUM_FORGOTTEN], [user for row, user in enumerate(users) if row % 3]
    scanned = [settings.home, *places]
    before = _traces(kind, settings, scanned, gone)
    missed = set(gone).difference(*[ids for _, ids in before]) if before else set(gone)
    began, cpu = time.perf_counter(), time.process_time()
    report = forget(settings, gone, erasure_of(settings))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    after = _traces(kind, settings, scanned, gone)
    kept = {one for _, ids in _traces(kind, settings, scanned, stay) for one in ids}
    if missed or kept != set(stay) or len(gone) != NUM_FORGOTTEN:
        raise RuntimeError(f"{kind}: the scanner does not see {len(missed)} of the users before, or others are gone")
    say(f"{kind}: {len(before)} files with ids before, {len(after)} after; {wall_s:.1f} s, {cpu_s:.1f} CPU-s")
    for path, ids in after:
        say(f"  {path}: {len(ids)} ids")
    facts = {
        "users": len(users),
        "files_before": len(before),
        "found": {line.place: sum(trace.count for trace in line.found) for line in report.lines if line.found},
        "seconds": round(wall_s, 2),
        "cpu_seconds": round(cpu_s, 2),
    }
    traces = sum(len(ids) for _, ids in after) + report.left
    return Row.at_most(f"forget {NUM_FORGOTTEN} users, traces left, {kind}", traces, 0, **facts)


def _traces(
    kind: str, settings: Settings, folders: Sequence[Path], users: Sequence[str]
) -> list[tuple[Path, frozenset[str]]]:
    """Files that hold ids of these users, once the store has written what it holds."""
    if kind == "postgres":
        import psycopg

        address = settings.store.postgres
        with psycopg.connect(host=address.host, dbname=address.database, user=address.user) as connection:
            connection.execute("CHECKPOINT")
    scanner = Scanner(users)
    return [(seen.path, seen.ids) for folder in folders for seen in scanner.scan(folder)]


def main() -> int:
    """Measure, print and merge the rows into the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", default=",".join(KINDS), help="which stores, separated by commas")
    merge(rows(print, parser.parse_args().stores.split(",")), measured_on(), REPORT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
