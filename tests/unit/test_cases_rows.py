"""Which rows of a file count: `where`, words to ignore, words that the contract lacks, scales, days and null words."""

import re
from pathlib import Path

import pytest
from small_shop import SmallShop, ask

from recommender.datasets.files import read_tables
from recommender.errors import ContractError, SourceError


@pytest.fixture
def shop(tmp_path: Path) -> SmallShop:
    return SmallShop(tmp_path)


ORDERS = """\
order_no,customer_no,ordered_at,sku,qty,total,status
1,17,2024-03-02 10:00:00,tin,1,9.5,complete
2,18,2024-03-03 11:00:00,tin,1,9.5,cancelled
3,17,2024-03-12 12:00:00,tin,1,9.5,complete
4,,2024-03-12 13:00:00,tin,1,9.5,
"""
COLUMNS = 'columns = { user_id = "customer_no", event_time = "ordered_at", item_id = "sku" }\n'


def test_cancelled_orders_are_left_out_and_counted_by_the_rule(shop: SmallShop) -> None:
    shop.write("orders.csv", ORDERS)
    shop.parts["events"] = (
        f'file = "orders.csv"\nwhere = "status = \'complete\'"\n{COLUMNS}constants = {{ kind = "purchase" }}\n'
    )
    tables = shop.read()
    assert ask(tables, "SELECT event_id FROM events ORDER BY 1") == [("0-2",), ("0-4",)]
    assert tables.manifest["left_out"] == {"events": {"where: status = 'complete'": 2}}
    assert any("2 rows left out by where" in said for said in tables.manifest["decisions"])


def test_an_order_status_is_a_kind_of_which_some_words_are_ignored(shop: SmallShop) -> None:
    shop.write("orders.csv", ORDERS.replace(",\n", ",open\n"))
    columns = COLUMNS.replace(" }", ', kind = "status" }')
    shop.parts["events"] = (
        f'file = "orders.csv"\n{columns}'
        'values = { kind = { complete = "purchase", cancelled = "ignore", open = "ignore" } }\n'
    )
    tables = shop.read()
    assert tables.manifest["rows"]["events"] == 2
    assert tables.manifest["left_out"]["events"] == {
        "values.kind: cancelled = ignore": 1,
        "values.kind: open = ignore": 1,
    }


@pytest.mark.parametrize("guest", ["", "NULL", "None", "n/a"])
def test_guest_orders_are_left_out_by_a_condition(shop: SmallShop, guest: str) -> None:
    lines = "".join(f"{guest},2024-03-04 10:00:0{n},tin,1,9.5\n" for n in range(5))
    shop.write("events.csv", (shop.folder / "events.csv").read_text() + lines)
    shop.parts["events"] += "where = \"lower(coalesce(user_id, '')) NOT IN ('', 'null', 'none', 'n/a')\"\n"
    tables = shop.read()
    assert ask(tables, "SELECT count(*), count(user_id) FROM events") == [(3, 3)]
    assert sum(tables.manifest["left_out"]["events"].values()) == 5


@pytest.mark.parametrize(
    ("where", "fact"),
    [
        ("quantity > 0", "TRY_CAST"),  # texts of a CSV are no numbers
        ("statu = 'x'", "user_id"),  # lists the columns there are
        ("status = ", "where"),
        ("user_id IN (SELECT user_id FROM 'events.csv')", "SELECT"),
        ("true) OR (SELECT true", "where"),
        ("user_id = 'nobody'", "all 3 rows"),
    ],
)
def test_a_wrong_condition_is_refused_with_its_key_and_what_it_may_name(shop: SmallShop, where: str, fact: str) -> None:
    shop.parts["events"] += f'where = "{where}"\n'
    with pytest.raises(SourceError, match=r"mapping\.toml: tables\.events\.where") as caught:
        shop.read()
    assert fact in str(caught.value)


@pytest.mark.parametrize("word", ["fav", "begin_checkout", "购买", 'say "hi"'])
def test_a_kind_that_nobody_mapped_stops_the_run_with_its_count(shop: SmallShop, word: str) -> None:
    quoted = '"' + word.replace('"', '""') + '"'
    shop.write(
        "events.csv",
        "user_id,event_time,item_id,kind\n17,2024-03-02 10:00:00,tin,purchase\n"
        f"18,2024-03-03 11:00:00,tin,{quoted}\n17,2024-03-12 12:00:00,tin,{quoted}\n",
    )
    shop.parts["events"] = 'file = "events.csv"\n'
    with pytest.raises(ContractError) as caught:
        shop.read()
    assert caught.value.column == "kind"
    for fact in (repr(word), "2 rows", "values", '"ignore"', "favourite", "line 3 of events.csv"):
        assert fact in str(caught.value)


def test_like_comment_favourite_and_follow_have_a_place(shop: SmallShop) -> None:
    kinds = ("purchase", "fav", "like", "comment", "follow")
    rows = "".join(f"17,2024-03-02 10:00:0{n},tin,{kind},good,3.5\n" for n, kind in enumerate(kinds))
    shop.write("events.csv", "user_id,event_time,item_id,kind,text,dwell_s\n" + rows)
    shop.parts["events"] = 'file = "events.csv"\nvalues = { kind = { fav = "favourite" } }\n'
    tables = shop.read()
    found = ask(tables, "SELECT kind, text, dwell_s FROM events ORDER BY event_time")
    assert found == [(kind.replace("fav", "favourite"), "good", 3.5) for kind in kinds]
    assert "left_out" in tables.manifest
    assert tables.manifest["left_out"] == {}


def test_a_kind_of_another_part_may_be_ignored_altogether(shop: SmallShop) -> None:
    shop.write("clicks.csv", "user_id,event_time,item_id,kind\n17,2024-03-02 10:00:00,tin,pv\n")
    shop.parts["events"] = 'file = "clicks.csv"\nvalues = { kind = { pv = "ignore" } }\n'
    with pytest.raises(ContractError, match=r'"ignore" leaves out all 1 rows of .*clicks\.csv'):
        shop.read()


@pytest.mark.parametrize(
    ("scale", "written", "expected"), [(-1, "-0.60", 0.6), (0.01, "1999", 19.99), (0.001, "7", 0.007), (2.5, "2", 5.0)]
)
def test_signs_and_cents_are_scaled_without_an_error_in_the_last_digit(
    shop: SmallShop, scale: float, written: str, expected: float
) -> None:
    shop.write("events.csv", f"user_id,event_time,item_id,amount,discount\n17,2024-03-02 10:00:00,tin,9.5,{written}\n")
    shop.parts["events"] += f"scale = {{ discount = {scale} }}\n"
    assert ask(shop.read(), "SELECT discount, amount FROM events") == [(expected, 9.5)]


def test_a_scale_of_what_is_no_number_is_refused(shop: SmallShop) -> None:
    shop.parts["events"] += "scale = { item_id = 10 }\n"
    with pytest.raises(SourceError, match=r"tables\.events\.scale\.item_id.*amount"):
        shop.read()


def test_day_numbers_count_from_the_first_day(shop: SmallShop) -> None:
    shop.write("campaigns.csv", "campaign_id,starts_at,ends_at\nspring,10,20\n")
    shop.write("events.csv", "user_id,event_time,item_id\n17,1,tin\n17,12,tin\n")
    shop.parts["campaigns"] += 'formats = { starts_at = "day", ends_at = "day" }\nfirst_day = 2024-03-01\n'
    shop.parts["events"] += 'formats = { event_time = "day" }\nfirst_day = 2024-03-01\n'
    tables = shop.read()
    assert ask(tables, "SELECT starts_at::VARCHAR, ends_at::VARCHAR FROM campaigns") == [
        ("2024-03-09 23:00:00+00", "2024-03-20 23:00:00+00")
    ]
    assert ask(tables, "SELECT max(event_time)::VARCHAR FROM events") == [("2024-03-12 22:59:59.999999+00",)]
    assert tables.event_time_has_hours is False


def test_a_log_with_hours_says_so(shop: SmallShop) -> None:
    assert shop.read().event_time_has_hours is True


def test_words_for_a_missing_value_are_those_of_the_mapping(shop: SmallShop) -> None:
    shop.write("events.csv", "user_id,event_time,item_id,amount\n17,2024-03-02 10:00:00,-,unknown\n")
    shop.parts["events"] += 'nulls = ["-", "unknown"]\n'
    assert ask(shop.read(), "SELECT item_id, amount FROM events") == [(None, None)]


def test_rows_that_cannot_be_read_are_set_aside_and_rows_left_out_are_not_judged(shop: SmallShop) -> None:
    lines = "".join(f"17,2024-03-04 10:{n % 60:02d}:00,tin,1,9.5\n" for n in range(200))
    bad = "17,yesterday,tin,1,9.5\n" + "test,never,tin,x,y\n" * 50
    shop.write("events.csv", (shop.folder / "events.csv").read_text() + lines + bad)
    shop.parts["events"] += "where = \"user_id <> 'test'\"\n"
    tables = shop.read()
    assert tables.manifest["quarantined"]["events"] == 1
    assert tables.manifest["left_out"]["events"] == {"where: user_id <> 'test'": 50}


@pytest.mark.parametrize("reversed_order", [False, True])
def test_files_of_one_shape_are_one_table_whatever_the_order_on_the_disk(shop: SmallShop, reversed_order: bool) -> None:
    names = ["orders-2024-03.csv", "orders-2024-04.csv", "old/orders-2024-02.csv"]
    for name in reversed(names) if reversed_order else names:
        shop.write(name, f"item_id,user_id,event_time\ntin,17,2024-{name[-6:-4]}-02 10:00:00\n")
    shop.parts["events"] = 'file = "orders-*.csv"\nconstants = { kind = "purchase" }\n'
    tables = shop.read()
    found = ask(tables, "SELECT event_id, strftime(event_time, '%m') FROM events ORDER BY 1")
    assert found == [("0-0-2", "03"), ("0-1-2", "04")]
    shop.parts["events"] = 'file = "**/orders-2024-*.csv"\nconstants = { kind = "purchase" }\n'
    assert shop.read().manifest["rows"]["events"] == 3


def test_a_pattern_without_a_file_and_a_file_of_another_shape_are_named(shop: SmallShop) -> None:
    shop.parts["events"] = 'file = "sales-?.csv"\nconstants = { kind = "purchase" }\n'
    with pytest.raises(SourceError, match=re.escape("sales-?.csv")):
        shop.read()
    shop.write("sales-1.csv", "user_id,event_time,item_id\n17,2024-03-02 10:00:00,tin\n")
    shop.write("sales-2.csv", "user_id,event_time,item\n17,2024-03-02 10:00:00,tin\n")
    with pytest.raises(SourceError, match=r"sales-2\.csv lacks 'item_id'"):
        shop.read()


def test_a_bad_row_of_one_of_several_files_is_set_aside_once(shop: SmallShop) -> None:
    good = "user_id,event_time,item_id\n" + "17,2024-03-02 10:00:00,tin\n" * 200
    shop.write("2023/sales.csv", good)
    shop.write("2024/sales.csv", good + "17,soon,tin\n")
    shop.parts["events"] = 'file = "*/sales.csv"\nconstants = { kind = "purchase" }\n'
    tables = shop.read()
    assert tables.manifest["quarantined"]["events"] == 1
    assert tables.manifest["rows"]["events"] == 400


def test_a_log_without_campaigns_can_be_looked_at(tmp_path: Path) -> None:
    shop = SmallShop(tmp_path)
    shop.parts = {"events": shop.parts["events"]}
    with pytest.raises(ContractError) as caught, read_tables(shop.mapping()):
        pass
    with read_tables(shop.mapping(), complete=False) as read:
        assert read.table("events").aggregate("count(*)").fetchone() == (3,)
        assert read.missing[0] == str(caught.value)
        assert [table for table in ("campaigns", "targets") if any(table in one for one in read.missing)]


def test_words_for_a_column_that_is_not_mapped_are_refused(shop: SmallShop) -> None:
    shop.parts["events"] += 'values = { kind = { a = "buy" } }\n'
    with pytest.raises(ContractError) as caught:
        shop.read()
    assert caught.value.column == "kind"
