"""Exports as shops have them, by preview: what is said of them, and that what it says to write is enough.

The numbers are those of the list of inputs that once failed. Cases whose answer is a draft are in the draft's tests.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_shop import EVENTS, SmallShop, ask

from recommender.datasets import preview_mapping
from recommender.datasets.preview import Preview
from recommender.errors import RecommenderError

PURCHASE = 'constants = { kind = "purchase" }\n'
HEAD = "user_id,event_time,item_id,amount\n"
KINDS = "user_id,event_time,item_id,kind\n"
ORDERS = (
    "order_no,customer_no,ordered_at,sku,qty,total,status\n"
    "1,17,2024-03-02 10:00:00,tin,1,9.5,complete\n2,18,2024-03-03 11:00:00,tin,1,9.5,cancelled\n"
    "3,18,2024-03-04 11:00:00,tin,1,9.5,refunded\n"
)
ORDER_COLUMNS = (
    'columns = { user_id = "customer_no", event_time = "ordered_at", item_id = "sku", quantity = "qty", '
    'amount = "total"%s }\n'
)


@dataclass(frozen=True)
class Case:
    """An export, what a preview says of it (None: nothing), and what the tables hold with the mapping's `mended`."""

    events: str | bytes
    says: tuple[str, ...] | None
    mended: str
    rows: dict[str, int]
    users: set[str] = field(default_factory=lambda: {"17", "18"})
    plain: str = PURCHASE
    name: str = "events.csv"


CASES = {
    "06 epoch seconds mapped as milliseconds": Case(
        HEAD + "17,1709370000,tin,9.5\n18,1709460000,tin,9.5\n",
        ("events.event_time", "unix_ms", "unix_s", "line 2 of events.csv"),
        PURCHASE + 'formats = { event_time = "unix_s" }\n',
        {"purchase": 2},
        plain=PURCHASE + 'formats = { event_time = "unix_ms" }\n',
    ),
    "11 a doubtful decimal comma": Case(
        HEAD.replace(",", ";") + "17;2024-03-02;tin;1,234\n18;2024-03-03;tin;2,500\n",
        ("events.amount", "decimal = ", "thousands = ", "'1,234'"),
        PURCHASE + 'decimal = ","\n',
        {"purchase": 2},
    ),
    "12 an offset after a blank": Case(
        HEAD + "17,2026-04-05 21:06:21 +0400,tin,9.5\n18,2026-04-06 21:06:21 -0330,tin,9.5\n",
        None,
        PURCHASE,
        {"purchase": 2},
    ),
    "14 a return": Case(
        HEAD + "17,2024-03-11,tin,9.5\n18,2024-03-11,tin,9.5\n18,2024-03-13,tin,-9.5\n",
        None,
        PURCHASE,
        {"purchase": 2, "return": 1},
    ),
    "22 a Windows encoding": Case(
        (HEAD + "17,2024-03-02,café,9.5\n18,2024-03-03,tin,9.5\n").encode("cp1252"),
        ("events.csv: line 2", "0xe9", 'encoding = "cp1252"', "café"),
        PURCHASE + 'encoding = "cp1252"\n',
        {"purchase": 2},
    ),
    "22 GBK": Case(
        ("用户ID,下单时间,商品ID,实付金额\n17,2024-03-02,tin,9.5\n18,2024-03-03,茶叶,9.5\n").encode("gbk"),
        ("line 1", 'encoding = "gbk"', "用户ID"),
        PURCHASE
        + 'encoding = "gbk"\ncolumns = { user_id = "用户ID", event_time = "下单时间", item_id = "商品ID", '
        + 'amount = "实付金额" }\n',
        {"purchase": 2},
    ),
    "26 guests": Case(
        HEAD + "17,2024-03-02,tin,9.5\n18,2024-03-03,tin,9.5\n,2024-03-04,tin,9.5\n",
        None,
        PURCHASE + 'where = "user_id IS NOT NULL"\n',
        {"purchase": 2},
    ),
    "28 discounts below zero": Case(
        "user_id,event_time,item_id,amount,discount\n17,2024-03-02,tin,9.5,-0.60\n18,2024-03-03,tin,9.5,0\n",
        None,
        PURCHASE + "scale = { discount = -1 }\n",
        {"purchase": 2},
    ),
    "30 kinds that nobody mapped": Case(
        KINDS + "17,2024-03-02,tin,purchase\n18,2024-03-03,tin,fav\n18,2024-03-03,tin,like\n18,2024-03-04,tin,pv\n",
        ("events.kind", "'fav' (1 rows)", "'pv' (1 rows)", '"ignore"', "favourite"),
        'values = { kind = { fav = "favourite", pv = "ignore" } }\n',
        {"purchase": 1, "favourite": 1, "like": 1},
        plain="",
    ),
    "36 an order's status, as a condition": Case(
        ORDERS,
        ("events.user_id", "events.event_time", "`columns`"),
        PURCHASE + ORDER_COLUMNS % "" + "where = \"status NOT IN ('cancelled', 'refunded')\"\n",
        {"purchase": 1},
        users={"17"},
    ),
    "36 an order's status, as its kind": Case(
        ORDERS,
        ("'complete' (1 rows)", "'cancelled' (1 rows)", "'refunded' (1 rows)", '"ignore"'),
        ORDER_COLUMNS % ', kind = "status"'
        + 'values = { kind = { complete = "purchase", cancelled = "ignore", refunded = "return" } }\n',
        {"purchase": 1, "return": 1},
        plain=ORDER_COLUMNS % ', kind = "status"',
    ),
    "20 JSON lines of records": Case(
        '{"user_id":17,"event_time":"2024-03-02T10:00:00Z","item_id":"tin","amount":"9.5"}\n'
        '{"user_id":18,"event_time":"2024-03-03T10:00:00Z","item_id":"tin","note":{"a":[1]}}\n',
        None,
        PURCHASE,
        {"purchase": 2},
        name="events.jsonl",
    ),
}


def preview(shop: SmallShop, case: Case, part: str) -> Preview:
    content = case.events if isinstance(case.events, bytes) else case.events.encode()
    (shop.folder / case.name).write_bytes(content)
    shop.parts["events"] = f'file = "{case.name}"\n{part}'
    return preview_mapping(shop.mapping())


def said(shop: SmallShop, case: Case) -> str:
    """What the preview says that a run needs."""
    try:
        return "\n".join(preview(shop, case, case.plain).missing)
    except RecommenderError as error:
        return str(error)


@pytest.mark.parametrize("name", CASES)
def test_the_words_for_an_export_hold_what_to_write_and_it_is_enough(tmp_path: Path, name: str) -> None:
    shop, case = SmallShop(tmp_path), CASES[name]
    words = said(shop, case)
    for fact in case.says or ():
        assert fact in words
    assert bool(words) == (case.says is not None)
    mended = preview(shop, case, case.mended)
    events = next(table for table in mended.tables if table.name == "events")
    assert events.kinds == case.rows
    assert events.quarantined == 0
    read = shop.read()
    assert {user for (user,) in ask(read, "SELECT DISTINCT user_id FROM events")} == case.users


def test_case_02_a_gap_in_a_parquet_column_makes_no_other_shopper(tmp_path: Path) -> None:
    shop = SmallShop(tmp_path)
    times = ["2024-03-02", "2024-03-03", "2024-03-03", "2024-03-12"]
    columns = {"user_id": [17.0, None, 18.0, 17.0], "item_id": ["tin"] * 4, "event_time": times}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    shop.parts["events"] = f'file = "events.parquet"\n{PURCHASE}'
    found = preview_mapping(shop.mapping())
    (known,) = (fact for fact in found.facts if fact.name == "facts.targeted_users_known")
    (users,) = (table for table in found.tables if table.name == "users")
    assert (known.value, users.rows) == (1.0, 2)


def test_case_04_a_mistyped_year_moves_no_now_and_is_said(tmp_path: Path) -> None:
    shop = SmallShop(tmp_path)
    days = "".join(f"{user},2024-03-{day:02d} 10:00:00,tin,1,9.5\n" for day in range(1, 30) for user in range(16, 26))
    shop.write("events.csv", EVENTS + days + "17,2099-01-01 10:00:00,tin,1,9.5\n")
    found = preview_mapping(shop.mapping())
    judged = next(fact for fact in found.facts if fact.name == "facts.campaigns_inside_the_log")
    assert judged.holds
    tables = shop.read()
    assert tables.log_end.isoformat() == "2024-03-29T09:00:00+00:00"


@pytest.mark.parametrize(
    ("last", "fact"),
    [("17,2024-03", "line 5 has 2 fields where 5 are wanted"), ('17,2024-03-12,"tin', "line 5: a quote opens")],
)
def test_case_23_a_short_last_line_is_named(tmp_path: Path, last: str, fact: str) -> None:
    shop = SmallShop(tmp_path)
    shop.write("events.csv", EVENTS + last)
    with pytest.raises(RecommenderError) as caught:
        preview_mapping(shop.mapping())
    assert fact in str(caught.value)


def test_case_27_a_label_gives_targets_and_participations(tmp_path: Path) -> None:
    shop = SmallShop(tmp_path)
    shop.write("campaigns.csv", "campaign_id,start_date,end_date\nspring,10/03/24,20/03/24\nsummer,21/06/24,30/06/24\n")
    shop.parts["campaigns"] = (
        'file = "campaigns.csv"\nconstants = { kind = "coupon" }\n'
        'columns = { starts_at = "start_date", ends_at = "end_date" }\n'
    )
    shop.write(
        "train.csv", "id,campaign_id,coupon_id,customer_id,redemption_status\n1,spring,7,17,0\n2,spring,8,18,1\n"
    )
    shop.parts["targets"] = 'file = "train.csv"\nlabel = "redemption_status"\ncolumns = { user_id = "customer_id" }\n'
    tables = {table.name: table for table in preview_mapping(shop.mapping()).tables}
    assert tables["targets"].rows == 2
    (taken,) = tables["participations"].first
    assert (taken["user_id"], taken["coupon_id"]) == ("18", "8")
