"""Users in buckets: the same bytes for any number of them, and the same rows from a pickle and Arrow tables."""

import pickle
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from feature_shop import AS_OF, Shop

from recommender.datasets.tables import TIME, Tables
from recommender.errors import ContractError
from recommender.features import buckets, build
from recommender.features.look_weights import look_weights
from recommender.features.shared import Shared, shared_of
from recommender.features.source import open_source
from recommender.features.users import rows_of_users
from recommender.features.value_names import ValueNames
from recommender.matching.catalogue import Catalogue
from recommender.settings import LookSettings


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Purchases that came back, looks, a user who only looks, one without any event, and two columns fewer."""
    shop = Shop.generate(tmp_path_factory.mktemp("world") / "tables")
    events = shop.frames["events"]
    came_back = pc.and_(pc.equal(events["kind"], "purchase"), pc.less(pc.second(events["event_time"]), 20))
    later = pc.add(events["event_time"], pa.scalar(timedelta(days=6)))
    events = events.append_column("returned_at", pc.if_else(came_back, later, pa.scalar(None, TIME)))
    share = pc.if_else(pc.less(pc.second(events["event_time"]), 10), 1.0, 0.5)
    shop.frames["events"] = events.append_column("returned_share", pc.if_else(came_back, share, None))
    item = shop.frames["campaign_items"]["item_id"][0].as_py()
    users = shop.frames["users"]["user_id"].to_pylist()
    looks = [
        {
            "event_id": f"look-{k}",
            "user_id": user,
            "kind": ("view", "cart", "like", "review")[k % 4],
            "item_id": item,
            "event_time": AS_OF - timedelta(days=k % 60),
            "rating": 3.0,
        }
        for k, user in enumerate([*users, "looker"])
    ]
    shop = shop.adding("users", [{"user_id": "looker"}, {"user_id": "nobody"}]).adding("events", looks)
    # Whom the table of users does not have counts in the shop's demand, and gets no row of its own.
    campaign = shop.frames["targets"]["campaign_id"][0].as_py()
    moment, stranger = AS_OF - timedelta(days=30), {"user_id": "stranger", "campaign_id": campaign}
    shop = shop.adding("targets", [{**stranger, "targeted_at": moment}])
    shop = shop.adding("participations", [{**stranger, "participated_at": moment + timedelta(days=1)}])
    bought = {"kind": "purchase", "item_id": item, "event_time": moment, "quantity": 1.0, "amount": 2.0}
    shop = shop.adding("events", [{**bought, "event_id": "of a stranger", "user_id": "stranger"}])
    return shop.without("events", "discount").without("users", "region")


@pytest.fixture(scope="module")
def tables(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return shop.write(tmp_path_factory.mktemp("tables") / "tables")


@pytest.fixture(scope="module")
def features(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tables, tmp_path_factory.mktemp("features") / "features", as_of=AS_OF, num_buckets=1)


@pytest.mark.parametrize(("num_buckets", "facts"), [(3, True), (7, False)])
def test_the_bytes_of_a_feature_set_do_not_depend_on_the_number_of_buckets(
    tables: Tables, features: Path, num_buckets: int, facts: bool, tmp_path: Path
) -> None:
    found = build(tables, tmp_path / "features", as_of=AS_OF, num_buckets=num_buckets, facts=facts)
    files = {str(file.relative_to(features)) for file in features.rglob("*") if file.is_file()}
    assert {"users.parquet", "pairs.parquet", "facts.parquet", "catalogue/manifest.json"} <= files
    if not facts:
        files -= {"facts.parquet", "manifest.json"}  # the second lists the first
    assert [name for name in sorted(files) if (found / name).read_bytes() != (features / name).read_bytes()] == []
    for name in ("users", "pairs"):
        assert "stranger" not in pq.read_table(found / f"{name}.parquet")["user_id"].to_pylist()


@pytest.mark.parametrize("name", ["users", "items", "campaigns"])
def test_an_empty_table_is_refused_by_its_name(shop: Shop, name: str, tmp_path: Path) -> None:
    empty = replace(shop, frames={**shop.frames, name: shop.frames[name].slice(0, 0)})
    with pytest.raises(ContractError, match=f"{name}: the table is empty"):
        build(empty.write(tmp_path / "tables"), tmp_path / "features", as_of=AS_OF)
    assert not (tmp_path / "features").exists()


def test_a_large_table_is_put_together_in_parts_that_leave_none_of_its_files_in_memory(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pq.read_table(features / "users.parquet")
    of_row = buckets.buckets_of(whole["user_id"], 4)
    rows = buckets.Rows()
    for bucket in range(4):
        rows.users.append(rows.kept(whole.filter(pa.array(of_row == bucket)), tmp_path / f"{bucket}.arrow"))
    monkeypatch.setattr(buckets, "PART_ROWS", 100)
    parts = list(buckets.together(rows.users, ["user_id", "event_timestamp"], rows.let_go))
    assert resident_kib(tmp_path) == 0
    assert [len(part) for part in parts] == [100] * (len(whole) // 100) + [len(whole) % 100]
    assert pa.concat_tables(parts).to_pandas().equals(whole.to_pandas())
    assert len(rows.users[0].combine_chunks().to_pandas()) == (of_row == 0).sum(), "what is read again comes back"
    assert resident_kib(tmp_path) > 0


def resident_kib(folder: Path) -> int:
    """Memory of this process that holds files of a folder (proc(5), smaps)."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            inside = str(folder) in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_the_bucket_of_a_user_is_the_crc_32_of_the_identifier_in_utf_8() -> None:
    # The check value of CRC-32, as catalogues of CRC algorithms list it, and one of text beyond ASCII.
    assert buckets.buckets_of(pa.array(["123456789", "用户"]), 1_000_003).tolist() == [
        0xCBF43926 % 1_000_003,
        0x1DEAA2DD % 1_000_003,
    ]


def test_some_users_have_the_same_rows_where_only_their_own_rows_and_a_pickle_are_known(
    tables: Tables, features: Path, tmp_path: Path
) -> None:
    source = open_source(tables, AS_OF, threads=1, spill=tmp_path / "spill")
    version = Catalogue.load(features / "catalogue").taxonomy_version
    weights = look_weights(source, LookSettings(), None)
    shared: Shared = pickle.loads(pickle.dumps(shared_of(source, ValueNames(), weights, taxonomy_version=version)))
    listed = pq.read_table(features / "facts.parquet")["user_id"]
    users = listed.filter(pa.array(buckets.buckets_of(listed, 20) == 4))
    assert 0 < len(users) < 30
    rows = {}
    for name in buckets.OF_USERS:
        table = ds.dataset(tables.folder / name, format="parquet", partitioning=None).to_table()
        rows[name] = ibis.memtable(table.filter(pc.is_in(table["user_id"], value_set=users)))
    own = buckets.source_of_users(ibis.duckdb.connect(), shared, rows)
    found = rows_of_users(own, shared, tmp_path)
    for name, table in (("users", found.users), ("pairs", found.pairs)):
        whole = pq.read_table(features / f"{name}.parquet").select(table.column_names)
        expected = whole.filter(pc.is_in(whole["user_id"], value_set=users))
        assert table.combine_chunks().to_pandas().equals(expected.combine_chunks().to_pandas())
