"""Reading what one request needs, beside a bare GET of the same bytes and beside Feast's own ways to read.

    python -m benchmarks.features.online_read --reads 2000
    python -m benchmarks.features.online_read --soak 240

`read` is what a thread pays, with the hop to a reading thread and back; `read_async` is what the gateway pays on its
event loop. The soak measures what Feast and what serving's client add to the process's memory.
"""

import argparse
import gc
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop

from benchmarks.decision.rows import Row, merge
from benchmarks.features import REPORT
from benchmarks.features.stores import AS_OF, KINDS, feature_set, started
from benchmarks.measured_on import measured_on
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.online_store.client import OnlineStoreClient
from serving.online_store.feast_format import entity_key, hash_field

NUM_USERS, NUM_READS, WARM_UP = 2_000, 2_000, 100
NUM_FEATURES, BLOB_BYTES = 150, 17_300
"""As a user of Complete Journey, whose packed value has 17.9 KB."""
LIMIT = 2.5
VIEW, FIELD = "user_serving", "packed"
REFRESH_S = 30
"""Seconds between registry refreshes that the soak stands for: two hours are 240 of them."""
Reader = Callable[[str], object]


def rows(say: Callable[[str], None], num_reads: int = NUM_READS, kinds: Sequence[str] = KINDS) -> list[Row]:
    """Two rows for each store (`read`, `read_async`), with Feast's own ways among their facts."""
    found: list[Row] = []
    with TemporaryDirectory(prefix="features-", dir="/tmp") as name:
        features = feature_set(
            Path(name) / "features", num_users=NUM_USERS, num_features=NUM_FEATURES, blob_bytes=BLOB_BYTES
        )
        for kind in kinds:
            with started(kind, Path(name) / kind) as settings:
                found += _of(kind, features, settings, say, num_reads)
    return found


def _of(kind: str, features: Path, settings: Settings, say: Callable[[str], None], num_reads: int) -> list[Row]:
    from feature_repo import materialise
    from feature_repo.environment import open_store

    materialise(features, settings)
    users = [f"user {row}" for row in np.random.default_rng(2).integers(0, NUM_USERS, num_reads)]
    with ExitStack() as stack:
        client = stack.enter_context(closing(OnlineStoreClient.open(settings)))
        bare = stack.enter_context(closing(_Bare(kind, settings)))
        store = open_store(settings)
        readers: dict[str, Reader] = {
            "bare": bare.get,
            "read": lambda user: client.read(user, timeout_s=60),
            "feast_packed": lambda user: store.get_online_features([f"{VIEW}:{FIELD}"], [{"user_id": user}]).to_dict(),
        }
        readers |= _by_number(store, users[:50])
        if bare.get(users[0]) is None or client.read(users[0], timeout_s=60) is None:
            raise RuntimeError(f"{kind}: nothing to read")
        p50 = _interleaved(readers, users)
        p50["read_async"], bare_async = uvloop.run(_on_a_loop(client, bare.get, users))
        if kind == "postgres":
            online: Any = store.provider.online_store
            online.disconnect()
    facts = {f"{name}_ms": round(value * 1e3, 4) for name, value in p50.items()}
    say(f"{kind}: " + ", ".join(f"{name} {value}" for name, value in facts.items()))
    label = f"online read of all one request needs, {kind}, p50 over a bare GET"
    return [
        Row.at_most(f"{label}: a thread's, with its hop", p50["read"] / p50["bare"], LIMIT, **facts),
        Row.at_most(f"{label}: the gateway's", p50["read_async"] / bare_async, LIMIT, **facts),
    ]


def _interleaved(readers: dict[str, Reader], users: Sequence[str]) -> dict[str, float]:
    """The median seconds of each reader. They take turns, so that a neighbour's load falls on all of them."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    slow = {name for name in readers if name.startswith("feast")}
    for turn, user in enumerate(users):
        for name, read in readers.items():
            if name in slow and turn >= len(users) // 10:
                continue
            began = time.perf_counter()
            read(user)
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(measured[min(WARM_UP, len(measured) // 2) :]) for name, measured in times.items()}


async def _on_a_loop(client: OnlineStoreClient, bare: Reader, users: Sequence[str]) -> tuple[float, float]:
    """The median seconds of `read_async` and of the bare GET, which take turns."""
    ours, plain = [], []
    for user in users:
        began = time.perf_counter()
        await client.read_async(user, timeout_s=60)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        bare(user)
        plain.append(time.perf_counter() - began)
    client.close()
    return statistics.median(ours[WARM_UP:]), statistics.median(plain[WARM_UP:])


class _Bare:
    """The store's own client asking for the same bytes, by a key that is made before."""

    def __init__(self, kind: str, settings: Settings) -> None:
        project = settings.store.project
        self._keys = {f"user {row}": entity_key("user_id", f"user {row}") for row in range(NUM_USERS)}
        self._connection: Any
        if kind == "redis":
            import redis

            field, suffix = hash_field(VIEW, FIELD), project.encode()
            self._connection = redis.Redis.from_url(settings.store.redis_url)
            self.get: Reader = lambda user: self._connection.hget(self._keys[user] + suffix, field)
            return
        query = f'SELECT value FROM "{project}_{VIEW}" WHERE entity_key = {{0}} AND feature_name = {{0}}'
        if kind == "sqlite":
            path = Home.of(settings).feature_store.online_database
            self._connection = sqlite3.connect(path, check_same_thread=False)
            text = query.format("?")
            self.get = lambda user: self._connection.execute(text, (self._keys[user], FIELD)).fetchone()
            return
        import psycopg

        self._connection = psycopg.connect(**settings.store.postgres.keywords(None), autocommit=True)
        cursor, asked = self._connection.cursor(binary=True), query.format("%s")

        def get(user: str) -> object:
            return cursor.execute(asked, (self._keys[user], FIELD), prepare=True).fetchone()

        self.get = get

    def close(self) -> None:
        self._connection.close()


def _by_number(store: Any, users: Sequence[str]) -> dict[str, Reader]:
    """Feast's read of 150 numbers and two blobs as features of their own, plain and with `precompute_online`.

    A way that the store refuses is left out.
    """
    import pandas as pd
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Bytes, Float32

    names = [f"number_{index}" for index in range(NUM_FEATURES)]
    fields = [*(Field(name=name, dtype=Float32) for name in names), Field(name="blob", dtype=Bytes)]
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = FileSource(name="numbers", path="/nowhere.parquet", timestamp_field="event_timestamp")
    view = FeatureView(name="numbers", entities=[user], schema=fields, source=source, ttl=timedelta(0), online=True)
    plain = FeatureService(name="plain", features=[view])
    ahead = FeatureService(name="ahead", features=[view], precompute_online=True)
    store.apply([view, plain, ahead])
    unique = sorted(set(users))
    frame = pd.DataFrame(np.ones((len(unique), NUM_FEATURES), np.float32), columns=names)
    frame["user_id"], frame["event_timestamp"] = unique, pd.Timestamp(AS_OF)
    frame["blob"] = [bytes(BLOB_BYTES)] * len(unique)
    store.write_to_online_store("numbers", frame)
    turns = {name: iter(range(10**9)) for name in ("plain", "ahead")}

    def reader(name: str) -> Reader:
        service = store.get_feature_service(name)
        return lambda _: store.get_online_features(
            service, [{"user_id": unique[next(turns[name]) % len(unique)]}], full_feature_names=name == "ahead"
        ).to_dict()

    found = {"feast_numbers": reader("plain")}
    try:
        store.precompute_feature_service("ahead")
        reader("ahead")("")
        found["feast_precomputed"] = reader("ahead")
    except (NotImplementedError, RuntimeError) as error:
        print(f"precompute_online: {error}")
    return found


def soak(say: Callable[[str], None], refreshes: int, reads: int = 50) -> list[Row]:
    """Growth of this process's memory over registry refreshes with reads between, as of `refreshes` x 30 s."""
    from feature_repo import materialise
    from feature_repo.environment import open_store

    found = []
    with TemporaryDirectory(prefix="features-", dir="/tmp") as name, started("sqlite", Path(name)) as settings:
        features = feature_set(Path(name) / "features", num_users=200, num_features=50, blob_bytes=1_800)
        materialise(features, settings)
        store = open_store(settings)
        client = OnlineStoreClient.open(settings)

        def feast() -> None:
            store.refresh_registry()  # type: ignore[no-untyped-call]
            for row in range(reads):
                store.get_online_features([f"{VIEW}:{FIELD}"], [{"user_id": f"user {row}"}]).to_dict()

        def serving() -> None:
            client._load_schema()
            for row in range(reads):
                client.read(f"user {row}", timeout_s=60)

        for label, turn in (("Feast", feast), ("serving's client", serving)):
            for _ in range(20):  # caches fill
                turn()
            gc.collect()
            before = _resident_mib()
            for _ in range(refreshes):
                turn()
            gc.collect()
            grown = _resident_mib() - before
            hours = refreshes * REFRESH_S / 3_600
            say(f"{label}: {grown:+.1f} MiB over {refreshes} refreshes ({hours:g} h) and {refreshes * reads:,} reads")
            facts = {"refreshes": refreshes, "reads": refreshes * reads, "resident_mib": round(before)}
            row_name = f"soak of {hours:g} h in fast forward, {label}: MiB grown"
            found.append(Row(name=row_name, value=grown, goal="", facts=facts))
        client.close()
    return found


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096 / 2**20


def main() -> int:
    """Measure, print and merge the rows into the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=NUM_READS, help="reads of each way")
    parser.add_argument("--stores", default=",".join(KINDS), help="which stores, separated by commas")
    parser.add_argument("--soak", type=int, metavar="REFRESHES", help="the soak instead, with so many refreshes")
    chosen = parser.parse_args()
    found = soak(print, chosen.soak) if chosen.soak else rows(print, chosen.reads, chosen.stores.split(","))
    merge(found, measured_on(), REPORT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
