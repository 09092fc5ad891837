"""Tables that break the contract are refused by name, column and row, and the rows that break it can be listed."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recommender.datasets.contract import check, check_shape, open_views, row_problems
from recommender.datasets.synthetic import World, generate
from recommender.datasets.tables import CONTRACT, EVENT_KINDS, Tables, open_tables
from recommender.datasets.write import write_tables
from recommender.errors import ContractError, CorruptFileError, SourceError

Frames = dict[str, pa.Table]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    world = World(num_users=30, num_items=20, num_campaigns=4, num_categories=4, days=120, seed=3)
    return generate(world, tmp_path_factory.mktemp("shop") / "tables")


@pytest.fixture
def frames(shop: Tables) -> Frames:
    return {
        name: pa.concat_tables(pq.ParquetFile(file).read() for file in sorted((shop.folder / name).rglob("*.parquet")))
        for name in CONTRACT
    }


def written(frames: Frames, folder: Path) -> Tables:
    return write_tables(frames, folder / "tables", source="test", time_zone="UTC", decisions=())


def with_value(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(column), column, pa.array(values, table.schema.field(column).type))


def refused(frames: Frames, folder: Path) -> ContractError:
    tables = written(frames, folder)
    with pytest.raises(ContractError) as caught:
        check(tables)
    return caught.value


def test_a_whole_shop_keeps_the_contract(shop: Tables) -> None:
    check(shop)


def test_a_duplicate_key_is_named_with_its_row(frames: Frames, tmp_path: Path) -> None:
    frames["users"] = pa.concat_tables([frames["users"], frames["users"].slice(4, 1)])
    error = refused(frames, tmp_path)
    assert (error.table, error.column, error.row) == ("users", "user_id", "row 5: user_id user-00004")


def test_keys_that_share_a_missing_part_are_duplicates_too(frames: Frames, tmp_path: Path) -> None:
    without_coupon = frames["campaign_items"].filter(pc.is_null(frames["campaign_items"]["coupon_id"])).slice(0, 1)
    frames["campaign_items"] = pa.concat_tables([frames["campaign_items"], without_coupon])
    error = refused(frames, tmp_path)
    assert (error.table, error.column) == ("campaign_items", "campaign_id")
    assert without_coupon["item_id"][0].as_py() in str(error.row)


def test_an_orphan_foreign_key_is_named_with_its_row(frames: Frames, tmp_path: Path) -> None:
    frames["targets"] = with_value(frames["targets"], "user_id", 0, "nobody")
    error = refused(frames, tmp_path)
    assert (error.table, error.column) == ("targets", "user_id")
    assert "users" in str(error)
    assert "nobody" in str(error.row)


def test_a_null_in_a_key_is_named(frames: Frames, tmp_path: Path) -> None:
    frames["items"] = with_value(frames["items"], "item_id", 2, None)
    error = refused(frames, tmp_path)
    assert (error.table, error.column) == ("items", "item_id")
    assert "row" in str(error.row)


def test_a_window_that_ends_before_it_starts_is_named(frames: Frames, tmp_path: Path) -> None:
    starts_at = frames["campaigns"]["starts_at"][1].as_py()
    frames["campaigns"] = with_value(frames["campaigns"], "ends_at", 1, starts_at)
    error = refused(frames, tmp_path)
    assert (error.table, error.column, error.row) == ("campaigns", "ends_at", "row 1: campaign_id campaign-001")


def test_an_unknown_kind_is_named(frames: Frames, tmp_path: Path) -> None:
    frames["events"] = with_value(frames["events"], "kind", 7, "stare")
    error = refused(frames, tmp_path)
    assert (error.table, error.column) == ("events", "kind")
    assert all(fact in str(error) for fact in ("stare", *EVENT_KINDS))


def test_an_impossible_propensity_and_a_number_that_is_none_are_named(frames: Frames, tmp_path: Path) -> None:
    impossible = {**frames, "targets": with_value(frames["targets"], "propensity", 0, 1.5)}
    error = refused(impossible, tmp_path / "propensity")
    assert (error.table, error.column) == ("targets", "propensity")
    assert "1.5" in str(error)
    endless = {**frames, "items": with_value(frames["items"], "price", 0, float("inf"))}
    error = refused(endless, tmp_path / "price")
    assert (error.table, error.column) == ("items", "price")


def test_all_bad_rows_of_a_table_are_listed_with_their_reasons(frames: Frames, tmp_path: Path) -> None:
    targets = with_value(frames["targets"], "user_id", 3, "nobody")
    frames["targets"] = with_value(targets, "propensity", 5, 0.0)
    tables = written(frames, tmp_path)
    with open_views(tables) as connection:
        problems = row_problems(connection, tables, "targets").order("_column").fetchall()
        rows = {
            row: connection.execute("SELECT user_id FROM targets WHERE _row = ?", [row]).fetchone()
            for row, _, _ in problems
        }
        assert row_problems(connection, tables, "users").fetchall() == []
    assert [column for _, column, _ in problems] == ["propensity", "user_id"]
    assert rows[problems[1][0]] == ("nobody",)


def test_an_empty_table_is_refused(frames: Frames, tmp_path: Path) -> None:
    for name in ("users", "events"):
        tables = written({**frames, name: frames[name].slice(0, 0)}, tmp_path / name)
        with pytest.raises(ContractError) as caught:
            check_shape(tables)
        assert (caught.value.table, caught.value.column) == (name, None)


def test_a_renamed_column_is_refused_with_the_name_that_was_meant(shop: Tables, tmp_path: Path) -> None:
    shutil.copytree(shop.folder, tmp_path / "tables")
    file = tmp_path / "tables" / "users" / "part.parquet"
    pq.write_table(pq.read_table(file).rename_columns({"user_id": "userid"}), file)
    with pytest.raises(ContractError, match="'userid'") as caught:
        check_shape(Tables(tmp_path / "tables"))
    assert (caught.value.table, caught.value.column) == ("users", "user_id")


def test_another_dtype_is_refused(shop: Tables, tmp_path: Path) -> None:
    shutil.copytree(shop.folder, tmp_path / "tables")
    file = tmp_path / "tables" / "items" / "part.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.column_names.index("price"), "price", table["price"].cast(pa.string())), file)
    with pytest.raises(ContractError, match=r"double.*string") as caught:
        check_shape(Tables(tmp_path / "tables"))
    assert (caught.value.table, caught.value.column) == ("items", "price")


def test_a_missing_table_is_refused(frames: Frames, tmp_path: Path) -> None:
    del frames["campaigns"]
    with pytest.raises(ContractError) as caught:
        written(frames, tmp_path)
    assert (caught.value.table, caught.value.column) == ("campaigns", None)
    assert not (tmp_path / "tables").exists()


def test_a_column_that_the_contract_lacks_is_refused(frames: Frames, tmp_path: Path) -> None:
    frames["users"] = frames["users"].append_column("shoe_size", pa.array([40] * frames["users"].num_rows))
    with pytest.raises(ContractError) as caught:
        written(frames, tmp_path)
    assert (caught.value.table, caught.value.column) == ("users", "shoe_size")


def test_a_time_without_a_zone_is_refused(frames: Frames, tmp_path: Path) -> None:
    naive = frames["campaigns"]["starts_at"].cast(pa.timestamp("us"))
    frames["campaigns"] = frames["campaigns"].set_column(
        frames["campaigns"].column_names.index("starts_at"), "starts_at", naive
    )
    with pytest.raises(ContractError, match=r"timestamp\[us\]") as caught:
        written(frames, tmp_path)
    assert (caught.value.table, caught.value.column) == ("campaigns", "starts_at")


def test_the_order_of_rows_and_columns_changes_no_byte(shop: Tables, frames: Frames, tmp_path: Path) -> None:
    straight = written(frames, tmp_path / "straight")
    turned = {
        name: table.select(table.column_names[::-1]).take(pa.array(range(table.num_rows - 1, -1, -1)))
        for name, table in frames.items()
    }
    assert written(turned, tmp_path / "turned").data_hash == straight.data_hash
    changed = {**frames, "users": with_value(frames["users"], "region", 0, "moon")}
    assert written(changed, tmp_path / "changed").data_hash != straight.data_hash


def test_events_lie_by_month_and_show_readers_no_further_column(shop: Tables) -> None:
    months = sorted(folder.name for folder in (shop.folder / "events").iterdir())
    assert months[0] in ("2023-12", "2024-01")
    with open_views(shop) as connection:
        assert set(connection.sql("FROM events").columns) == {"_row", *shop.manifest["columns"]["events"]}


def test_a_flipped_bit_is_found_before_tables_are_opened(shop: Tables, tmp_path: Path) -> None:
    shutil.copytree(shop.folder, tmp_path / "tables")
    file = tmp_path / "tables" / "users" / "part.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"users/part\.parquet"):
        open_tables(tmp_path / "tables")


def test_a_truncated_file_is_named(shop: Tables, tmp_path: Path) -> None:
    shutil.copytree(shop.folder, tmp_path / "tables")
    file = tmp_path / "tables" / "users" / "part.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"users/part\.parquet"):
        check_shape(Tables(tmp_path / "tables"))
