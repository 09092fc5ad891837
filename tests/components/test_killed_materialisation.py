"""A materialisation that adds an item, killed anywhere or still running, never makes a user unreadable for serving."""

import io
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from feature_repo import materialise, online
from feature_repo.ordered_stores import InOrder
from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import CONTRACT, Tables, open_tables
from recommender.datasets.write import write_tables
from recommender.features import build
from recommender.matching.affinity import match, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_history import unpack_histories
from recommender.matching.packed_user import PORTRAIT_KINDS, PackedUser, ServingSchema, unpack
from recommender.settings import ServingSettings, Settings, StoreSettings
from recommender.storage.home import Home
from recommender.storage.ids import IdsFile
from recommender.storage.manifest import read_manifest, write_manifest
from serving.online_store.client import OnlineStoreClient
from serving.shop import ShopFollower

POINTS = 20
"""Of a materialisation, at which it is killed."""
WRITES = frozenset(("execute", "executemany", "fsync", "mkdir", "replace", "sendall", "symlink", "write"))
WRITERS = (ModuleType, io.BufferedWriter, socket.socket, sqlite3.Connection, sqlite3.Cursor)
"""The calls by which it changes files or a store, or asks them, and what they belong to (`os` is a module)."""
NEW = ("!new", "!also new")
"""Items and departments that would be the first of all in alphabetical order."""


def with_new_items(tables: Tables, names: Sequence[str], folder: Path) -> Tables:
    """A later day: products, each of a new department, which one user has bought."""
    frames = {}
    for name in CONTRACT:
        if tables.has(name):
            table = ds.dataset(tables.folder / name, format="parquet", partitioning=None).to_table()
            frames[name] = table.select([column for column in table.column_names if column in CONTRACT[name].columns])
    events = frames["events"]
    last = events.filter(pc.equal(events["kind"], "purchase")).sort_by("event_time").to_pylist()[-1]
    for new in names:
        for name, row in (("items", {"department": new}), ("events", last)):
            schema = frames[name].schema
            full = {column: {**row, "item_id": new}.get(column) for column in schema.names}
            frames[name] = pa.concat_tables([frames[name], pa.Table.from_pylist([full], schema=schema)])
    write_tables(frames, folder, source="test", time_zone=tables.time_zone, decisions=[])
    return open_tables(folder)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The feature sets of yesterday, today and tomorrow, built with one home's ids. Each has one item more."""
    root = tmp_path_factory.mktemp("days")
    world = World(num_users=8, num_items=40, num_campaigns=6, num_categories=4, days=150, seed=3)
    tables, file = generate(world, root / "tables"), IdsFile(root / "ids.json")
    logs = [tables, *(with_new_items(tables, NEW[: 1 + later], root / f"tables-{later}") for later in range(2))]
    built = [
        build(log, root / f"{day}", as_of=tables.log_end, threads=1, kept_ids=file) for day, log in enumerate(logs)
    ]
    return [with_few_features(features) for features in built]


def with_few_features(features: Path) -> Path:
    """Keep two portrait features of a kind, and those about departments: Feast takes a second for two hundred."""
    users, facts = pq.read_table(features / "users.parquet"), read_manifest(features)
    of_kinds = [[name for name in users.column_names if name.startswith(f"{kind}__")] for kind in PORTRAIT_KINDS]
    few = {name for names in of_kinds for name in names[:2]}
    kept = [name for name in users.column_names if "__" not in name or name in few or "__department" in name]
    pq.write_table(users.select(kept), features / "users.parquet")
    write_manifest(features, as_of=facts["as_of"])
    return features


@pytest.fixture(params=["sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    store = StoreSettings()
    if request.param == "redis":
        store = StoreSettings(kind="redis", redis_url=request.getfixturevalue("redis_url"))
    return Settings(home=tmp_path / "home", store=store, serving=ServingSettings(store_deadline_ms=60_000))


class Server:
    """A gateway and a worker as far as they read users: both follow the files, and hold an older state for a while."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.client = settings, OnlineStoreClient.open(settings)
        self.follower = ShopFollower(settings)
        self.first = self.catalogue

    @property
    def catalogue(self) -> Catalogue:
        assert self.follower.current is not None, self.follower.problem
        return self.follower.current.catalogue

    def close(self) -> None:
        self.client.close()

    def read(self, user_id: str) -> bytes:
        """The user's packed value, after doing with it what a request does, by the first and the newest catalogue."""
        packed = self.client.read(user_id, timeout_s=20)
        assert packed is not None, user_id
        layouts = ServingSchema.load(Home.of(self.settings).feature_store.root).by_layout()
        shopper = unpack(user_id, packed.content, layouts)
        self.follower.refresh()
        assert self.follower.problem is None
        for catalogue in (self.first, self.catalogue):
            user = unpack_user(shopper.affinity, catalogue.numbering)
            match(user, catalogue.incidence(range(len(catalogue.campaign_ids))))
            histories = unpack_histories([shopper.history], np.array([shopper.feature_time_us]), catalogue.numbering)
            assert histories.items_T.max(initial=0) < len(catalogue.item_ids)
        return packed.content


@pytest.fixture
def server(days: list[Path], settings: Settings) -> Iterator[Server]:
    """Serves yesterday's features."""
    materialise(days[0], settings)
    with closing(Server(settings)) as server:
        yield server


class Killed(BaseException):
    """Ends a materialisation as abruptly as an exception can."""


@dataclass
class Writing:
    """A materialisation that is ended by `end` before it writes at a place, or before a batch of rows."""

    end: Callable[[], None]
    place: int | None = None
    batch: int | None = None
    places: list[object] = field(default_factory=list)
    batches: int = 0

    def run(self, features: Path, settings: Settings) -> None:
        sys.setprofile(self._profile)
        try:
            materialise(features, settings)
        finally:
            sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, what: Any) -> None:
        if event == "call" and frame.f_code is InOrder.replace.__code__:
            self.batches += 1
            self.places.append(None)  # the next rows, which are written as those before
            if self.batches == self.batch:
                self.end()
        elif event == "c_call" and what.__name__ in WRITES and isinstance(what.__self__, WRITERS):
            where = (what.__name__, frame.f_code)
            # What writes many times in a row, such as a batch's rows, is one place.
            if self.places[-1:] != [where]:
                self.places.append(where)
                if len(self.places) == self.place:
                    self.end()


def end_by_exception() -> None:
    raise Killed


def end_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_a_process(features: Path, settings: Settings, batch: int, *, meanwhile: Callable[[], object]) -> None:
    """Materialise in a process of its own, which the kernel kills before a batch of rows."""
    child = os.fork()
    if not child:
        try:
            Writing(end_by_signal, batch=batch).run(features, settings)
        finally:
            os._exit(1)
    try:
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            meanwhile()
            time.sleep(0.05)  # leaves the child a core
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    assert os.WIFSIGNALED(ended[1])


def test_every_user_is_readable_while_a_materialisation_runs_and_wherever_it_is_killed(
    days: list[Path], settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A batch is written as one, so with a single one no kill would come between two users.
    monkeypatch.setattr(online, "USERS_PER_BATCH", 1)
    users = sorted(set(pq.read_table(days[2] / "users.parquet", columns=["user_id"])["user_id"].to_pylist()))
    assert len(users) == 8

    def days_read() -> list[bytes]:
        """What of each user tells its day: a new department is a new portrait feature, so the layout is another one."""
        return [PackedUser.check(server.read(user)).layout for user in users]

    yesterday = days_read()
    undisturbed = Writing(end_by_exception)
    undisturbed.run(days[0], settings)
    assert days_read() == yesterday
    assert len(undisturbed.places) > POINTS
    # Today's run has replaced six of the eight users, and tomorrow's three.
    for features, batch in ((days[1], 7), (days[2], 4)):
        killed_in_a_process(features, settings, batch, meanwhile=days_read)
    assert [days_read().count(layout) for layout in dict.fromkeys(days_read())] == [3, 3, 2]
    for number, place in enumerate(np.linspace(1, len(undisturbed.places), POINTS).round().astype(int).tolist()):
        ended = False
        while not ended:
            try:
                Writing(end_by_exception, place=place).run(days[1 + number % 2], settings)
            except Killed:
                ended = True
            place -= 1  # where it was not reached: what an earlier run left whole is not written again
        days_read()
    with closing(Server(settings)) as restarted:
        assert all(restarted.read(user) for user in users)
    materialise(days[2], settings)
    assert len(set(days_read())) == 1
    assert set(NEW) < set(server.catalogue.item_ids)
    assert not set(NEW) & set(server.first.item_ids)
