"""Rows that are taken over from the last build: whatever happened since, the files are those of a full build."""

import hashlib
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.tables import TIME
from recommender.features import build
from recommender.features.last_build import LastBuild
from recommender.storage.ids import IdsFile

Row = dict[str, object]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Half of the users, who may return what they buy."""
    shop = Shop.generate(tmp_path_factory.mktemp("world") / "tables")
    events = shop.frames["events"].append_column("returned_at", pa.nulls(len(shop.frames["events"]), TIME))
    events = events.append_column("returned_share", pa.nulls(len(events), pa.float64()))
    return replace(shop, frames={**shop.frames, "events": events})


class Home:
    """A home whose features follow a shop from day to day."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.last, self.ids = folder, LastBuild(folder / "last"), IdsFile(folder / "ids.json")
        self.builds = sum(1 for _ in folder.glob("tables-*"))

    def compared(
        self, shop: Shop, as_of: datetime, *, num_buckets: int = 1, whole: bool = True, facts: bool = False
    ) -> str:
        """Build what is known at `as_of` with the last build, and without if `whole`. Returns what the former did."""
        self.builds += 1
        known = dict(shop.frames)
        for name, moment in (("events", "event_time"), ("participations", "participated_at")):
            known[name] = known[name].filter(pc.less(known[name][moment], pa.scalar(as_of, TIME)))
        tables = Shop(known).write(self.folder / f"tables-{self.builds}")
        ours, full = self.folder / f"ours-{self.builds}", self.folder / f"full-{self.builds}"
        options = {"as_of": as_of, "threads": 1, "kept_ids": self.ids, "facts": facts}
        build(tables, ours, last=self.last, num_buckets=num_buckets, **options)  # type: ignore[arg-type]
        if whole:
            build(tables, full, **options)  # type: ignore[arg-type]
            files = sorted(str(file.relative_to(full)) for file in full.rglob("*") if file.is_file())
            assert "users.parquet" in files
            assert [name for name in files if (ours / name).read_bytes() != (full / name).read_bytes()] == []
        return self.last.report()


def day(number: int) -> datetime:
    return AS_OF + timedelta(days=number)


def kept(report: str) -> int:
    assert report.startswith("increment: "), report
    return int(report.split(", ")[2].removesuffix(" kept").replace(",", ""))


def changed(shop: Shop, column: str, place: int, value: object) -> Shop:
    """The shop with another value in the event at a place."""
    events = shop.frames["events"]
    values = events[column].to_pylist()
    values[place] = value
    at = events.column_names.index(column)
    events = events.set_column(at, column, pa.array(values, events.schema.field(column).type))
    return replace(shop, frames={**shop.frames, "events": events})


def late(shop: Shop, rng: np.random.Generator) -> Shop:
    """Purchases that happened on some earlier day and arrive now."""
    users, items = shop.frames["users"]["user_id"].to_pylist(), shop.frames["items"]["item_id"].to_pylist()
    rows: list[Row] = [
        {
            "event_id": f"late-{len(shop.frames['events'])}-{k}",
            "user_id": users[int(rng.integers(len(users)))],
            "kind": "purchase",
            "event_time": day(-int(rng.integers(1, 150))) + timedelta(seconds=int(rng.integers(86_400))),
            "item_id": items[int(rng.integers(len(items)))],
            "amount": 3.25,
        }
        for k in range(3)
    ]
    return shop.adding("events", rows)


def corrected(shop: Shop, rng: np.random.Generator) -> Shop:
    """A purchase costs something else, another one comes back, and a third one never was."""
    events = shop.frames["events"]
    bought = pc.and_(pc.equal(events["kind"], "purchase"), pc.less(events["event_time"], AS_OF))
    places = rng.choice(np.flatnonzero(bought.to_numpy(zero_copy_only=False)), 3, replace=False).tolist()
    shop = changed(changed(shop, "amount", places[0], 12.34), "returned_at", places[1], day(-2))
    left = np.delete(np.arange(len(events)), places[2])
    return replace(shop, frames={**shop.frames, "events": shop.frames["events"].take(pa.array(left))})


def with_new_ones(shop: Shop, rng: np.random.Generator) -> Shop:
    """A user, an item that had been sold before the catalogue knew it, and a campaign for it."""
    number = f"!{len(shop.frames['users'])}"  # the first in alphabetical order
    user = shop.frames["users"]["user_id"][int(rng.integers(20))].as_py()
    counts = Counter(shop.frames["items"]["department"].to_pylist())
    department = counts.most_common(1)[0][0]  # so that the departments keep their order
    campaign = {
        **shop.frames["campaigns"].to_pylist()[0],
        "campaign_id": number,
        "starts_at": day(-5),
        "ends_at": day(60),
    }
    when: Row = {"kind": "purchase", "amount": 5.0, "item_id": number}
    return (
        shop.adding("users", [{"user_id": number}])
        .adding("items", [{"item_id": number, "department": department}])
        .adding("campaigns", [campaign])
        .adding("campaign_items", [{"campaign_id": number, "item_id": number}])
        .adding("targets", [{"campaign_id": number, "user_id": one, "targeted_at": day(-5)} for one in (number, user)])
        .adding("participations", [{"campaign_id": number, "user_id": user, "participated_at": day(-3)}])
        .adding("events", [{**when, "event_id": f"new-{number}", "user_id": user, "event_time": day(-40)}])
    )


def with_odd_baskets(shop: Shop, rng: np.random.Generator) -> Shop:
    """An item is twice in a basket, once with a coupon, and comes into the basket again two months later."""
    line = next(row for row in shop.frames["events"].to_pylist() if row["kind"] == "purchase" and row["basket_id"])
    again = {"event_id": "again", "coupon_discount": 0.5}
    later = {"event_id": "later", "event_time": line["event_time"] + timedelta(days=61)}
    return shop.adding("events", [{**line, **again}, {**line, **later}])


def without_a_user(shop: Shop, rng: np.random.Generator) -> Shop:
    """A user is forgotten."""
    frames = {
        name: table.filter(pc.not_equal(table["user_id"], shop.frames["users"]["user_id"][5]))
        for name, table in shop.frames.items()
        if "user_id" in table.column_names
    }
    return replace(shop, frames={**shop.frames, **frames})


@pytest.fixture(scope="module")
def built(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after its first build."""
    home = Home(tmp_path_factory.mktemp("built"))
    assert home.compared(shop, day(0), whole=False) == "full build: the first one of this source"
    return home.folder


@pytest.fixture
def home(built: Path, tmp_path: Path) -> Home:
    folder = tmp_path / "home"
    shutil.copytree(built, folder)
    return Home(folder)


@pytest.mark.parametrize(
    ("changes", "num_buckets"),
    [
        ([], 1),
        ([late, corrected], 3),
        ([with_new_ones, late], 1),
        ([corrected, with_odd_baskets, without_a_user], 1),
    ],
)
def test_whatever_happened_since_the_bytes_are_those_of_a_full_build(
    shop: Shop, home: Home, changes: Sequence[Callable[[Shop, np.random.Generator], Shop]], num_buckets: int
) -> None:
    rng = np.random.default_rng(11)
    for change in changes:
        shop = change(shop, rng)
    assert kept(home.compared(shop, day(1), num_buckets=num_buckets)) > 100


def test_a_search_that_means_something_else_counts_anew_and_its_words_are_kept_as_hashes(
    shop: Shop, home: Home
) -> None:
    asked = sorted(set(shop.frames["events"]["query"].drop_null().to_pylist()))
    hashes = {hashlib.sha256(query.encode()).hexdigest() for query in asked}
    kept_ones = pq.read_table(home.last.folder / "searches.parquet")["query"].to_pylist()
    assert kept_ones
    assert hashes.issuperset(kept_ones)
    items = shop.frames["items"]
    names = [asked[0], *items["name"].to_pylist()[1:]]
    renamed = items.set_column(items.column_names.index("name"), "name", pa.array(names))
    assert kept(home.compared(replace(shop, frames={**shop.frames, "items": renamed}), day(0))) > 0


def test_what_changes_all_rows_makes_a_full_build_that_says_why(shop: Shop, home: Home) -> None:
    items = shop.frames["items"]
    departments = items["department"].to_pylist()
    departments[0] = next(name for name in departments if name != departments[0])
    at = items.column_names.index("department")
    moved = replace(shop, frames={**shop.frames, "items": items.set_column(at, "department", pa.array(departments))})
    report = home.compared(moved, day(0), whole=False)
    assert report.startswith("full build: ")
    assert "taxonomy" in report or "departments" in report
    assert "columns" in home.compared(moved.without("events", "discount"), day(0), whole=False)


def test_what_is_known_of_the_log_grows_from_day_to_day(shop: Shop, home: Home) -> None:
    """The second day takes over what the first one computed, and what it took over."""
    home.compared(shop, day(1), whole=False)
    assert kept(home.compared(corrected(shop, np.random.default_rng(5)), day(2), facts=True)) > 100


@pytest.mark.parametrize("pattern", ["users.parquet", "lines/*.parquet"])
def test_a_damaged_last_build_makes_a_full_one(shop: Shop, home: Home, pattern: str) -> None:
    file = next(home.last.folder.glob(pattern))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "cannot be read" in home.compared(shop, day(1), whole=False)


def test_a_second_build_waits_for_the_first_one(tmp_path: Path) -> None:
    last = LastBuild(tmp_path / "last")
    script = (
        "import sys; from pathlib import Path; from recommender.features.last_build import LastBuild\n"
        "with LastBuild(Path(sys.argv[1])).turn(): print('in turn', flush=True)"
    )
    with last.turn():
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(last.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert other.stderr is not None
        assert "waits" in other.stderr.readline()
        assert other.poll() is None
    assert other.communicate(timeout=60)[0] == "in turn\n"
