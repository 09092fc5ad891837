"""Complete Journey becomes canonical tables as its decisions say. The whole year is read once."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pyarrow.parquet as pq
import pytest

from recommender.datasets import complete_journey, ingest
from recommender.datasets.contract import check, open_views
from recommender.datasets.tables import Tables
from recommender.errors import SourceError
from recommender.settings import SourceSettings


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return ingest(SourceSettings(), tmp_path_factory.mktemp("year") / "tables")


@pytest.fixture(scope="module")
def views(year: Tables) -> duckdb.DuckDBPyConnection:
    return open_views(year)


def one(views: duckdb.DuckDBPyConnection, query: str) -> tuple[object, ...]:
    return views.execute(query).fetchone() or ()


@pytest.fixture
def small_source(tmp_path: Path) -> Path:
    """The source's own files, the log cut to its first 2,000 lines."""
    folder = tmp_path / "source"
    folder.mkdir()
    for file in complete_journey.source_files():
        table = pq.read_table(file)
        pq.write_table(table.slice(0, 2_000) if file.stem == "transactions" else table, folder / file.name)
    return folder


def test_the_year_keeps_the_contract_and_its_counts(year: Tables) -> None:
    check(year)
    rows = year.manifest["rows"]
    assert (rows["events"], rows["users"], rows["campaigns"], rows["targets"]) == (1_469_307, 2_469, 27, 6_589)
    assert rows["participations"] == 2_102
    assert rows["campaign_items"] == 116_204 - 4_872 - year.manifest["quarantined"]["campaign_items"]
    assert year.log_end == datetime(2018, 1, 1, 4, 1, 20, tzinfo=UTC)


def test_windows_are_local_days_whatever_the_season(views: duckdb.DuckDBPyConnection) -> None:
    winter = one(views, "SELECT epoch(starts_at), epoch(ends_at) FROM campaigns WHERE campaign_id = '24'")
    summer = one(views, "SELECT epoch(starts_at), epoch(ends_at) FROM campaigns WHERE campaign_id = '13'")
    zone = ZoneInfo("America/New_York")
    assert winter == (datetime(2016, 11, 14, tzinfo=zone).timestamp(), datetime(2017, 1, 17, tzinfo=zone).timestamp())
    assert summer == (datetime(2017, 8, 8, tzinfo=zone).timestamp(), datetime(2017, 9, 25, tzinfo=zone).timestamp())


def test_a_redemption_is_known_at_the_end_of_its_local_day_and_inside_its_window(
    views: duckdb.DuckDBPyConnection,
) -> None:
    outside = """SELECT count(*) FROM participations JOIN campaigns USING (campaign_id)
        WHERE participated_at < starts_at OR participated_at >= ends_at"""
    before_days_end = """SELECT count(*) FROM participations
        WHERE strftime(timezone('America/New_York', participated_at), '%H:%M:%S.%f') <> '23:59:59.999999'"""
    assert one(views, outside) == one(views, before_days_end) == (0,)


def test_fuel_keeps_its_money_and_loses_its_units(views: duckdb.DuckDBPyConnection) -> None:
    lines, money = one(views, "SELECT count(*), sum(amount) FROM events WHERE quantity IS NULL")
    assert lines == 13_494
    assert isinstance(money, float)
    assert money > 300_000


def test_what_a_household_paid_is_never_below_zero(views: duckdb.DuckDBPyConnection) -> None:
    assert one(views, "SELECT count(*) FROM events WHERE amount < 0 OR discount < 0 OR coupon_discount < 0") == (0,)


def test_every_item_has_a_name_that_a_shopper_can_read(views: duckdb.DuckDBPyConnection) -> None:
    assert one(views, "SELECT count(*) FROM items WHERE name IS NULL OR trim(name) = ''") == (0,)
    assert one(views, "SELECT name FROM items WHERE item_id = '1000050'") == ("Kids cereal, 14.5 oz",)
    assert one(views, "SELECT name FROM campaigns WHERE campaign_id = '18'") == ("Type A coupon booklet, 2017-10-30",)


def test_orphan_coupon_rows_are_set_aside_with_their_reason(year: Tables) -> None:
    aside = pq.read_table(year.folder / "quarantine" / "campaign_items.parquet")
    assert aside.num_rows == year.manifest["quarantined"]["campaign_items"] > 0
    assert {"_row", "_reason", "product_id"} <= set(aside.column_names)


def test_each_decision_is_a_sentence_with_its_number(year: Tables) -> None:
    said = " ".join(year.manifest["decisions"])
    for fact in ("read as UTC", "America/New_York", "4,872 coupon rows", "13,494 lines", "Type A"):
        assert fact in said


def test_the_same_source_gives_the_same_bytes(small_source: Path, tmp_path: Path) -> None:
    first = complete_journey.ingest(tmp_path / "first", folder=small_source)
    assert complete_journey.ingest(tmp_path / "again", folder=small_source).data_hash == first.data_hash


def test_a_missing_file_is_named(small_source: Path, tmp_path: Path) -> None:
    (small_source / "coupons.parquet").unlink()
    with pytest.raises(SourceError, match=r"coupons\.parquet"):
        complete_journey.ingest(tmp_path / "tables", folder=small_source)


def test_a_missing_column_is_named(small_source: Path, tmp_path: Path) -> None:
    file = small_source / "products.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["brand"]), file)
    with pytest.raises(SourceError, match=r"products\.parquet.*'brand'"):
        complete_journey.ingest(tmp_path / "tables", folder=small_source)


def test_a_truncated_file_is_named_and_leaves_nothing(small_source: Path, tmp_path: Path) -> None:
    file = small_source / "transactions.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"transactions\.parquet"):
        complete_journey.ingest(tmp_path / "tables", folder=small_source)
    assert not (tmp_path / "tables").exists()


def test_a_file_with_broken_pages_is_named(small_source: Path, tmp_path: Path) -> None:
    file = small_source / "coupons.parquet"
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    file.write_bytes(content)
    with pytest.raises(SourceError, match=r"coupons\.parquet"):
        complete_journey.ingest(tmp_path / "tables", folder=small_source)
