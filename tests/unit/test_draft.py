"""A draft of a mapping is made by evidence: words of the header, values, and keys that files share."""

import tomllib
from pathlib import Path
from typing import Any

import duckdb
import pytest

from recommender.datasets import draft_mapping
from recommender.datasets.files import read_tables
from recommender.errors import SourceError


def draft(folder: Path, **files: str) -> str:
    """The draft for CSV files with these names and contents."""
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return draft_mapping([folder / f"{name}.csv" for name in files], folder=folder)


def tables(text: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = tomllib.loads(text)["tables"]
    return found


def read(folder: Path, text: str, query: str) -> list[tuple[object, ...]]:
    """The answer of a query over the tables that the draft reads."""
    (folder / "mapping.toml").write_text(text, encoding="utf-8")
    with read_tables(folder / "mapping.toml", complete=False) as found:
        return found.connection.execute(query).fetchall()


PROMOTIONS = "promotion,title,valid_from,valid_to\nspring,Tins,{0},{1}\nsummer,Jars,{2},{3}\n"


@pytest.mark.parametrize(
    ("days", "written"),
    [
        (("10.03.24", "20.03.24", "21.06.24", "30.06.24"), "%d.%m.%y"),
        (("10-03-2024", "20-03-2024", "21-06-2024", "30-06-2024"), "%d-%m-%Y"),
        (("03/10/2024", "03/20/2024", "06/21/2024", "06/30/2024"), "%m/%d/%Y"),
        (("10/03/2024", "20/03/2024", "21/06/2024", "30/06/2024"), "%d/%m/%Y"),
    ],
)
def test_days_have_the_format_that_their_numbers_over_twelve_prove(
    tmp_path: Path, days: tuple[str, ...], written: str
) -> None:
    text = draft(tmp_path, promotions=PROMOTIONS.format(*days))
    (section,) = tables(text)["campaigns"]
    assert section["formats"] == {"starts_at": written, "ends_at": written}
    starts = read(tmp_path, text, "SELECT campaign_id, starts_at::DATE::VARCHAR FROM campaigns ORDER BY 1")
    assert starts == [("spring", "2024-03-10"), ("summer", "2024-06-21")]


def test_days_that_can_be_read_in_two_ways_are_asked_about(tmp_path: Path) -> None:
    text = draft(tmp_path, promotions=PROMOTIONS.format("01/02/2024", "03/02/2024", "04/05/2024", "06/05/2024"))
    assert "# DECIDE: starts_at" in text
    assert set(tables(text)) == {"campaigns"}


def test_a_decimal_comma_is_written_into_the_mapping(tmp_path: Path) -> None:
    rows = "".join(f"{user};2024-03-0{user} 10:00:00;tin;1;{user},50\n" for user in range(1, 6))
    text = draft(tmp_path, events="user_id;event_time;item_id;quantity;amount\n" + rows)
    assert tables(text)["events"][0]["decimal"] == ","
    assert read(tmp_path, text, "SELECT sum(amount) FROM events") == [(17.5,)]


def test_the_column_event_is_the_kind_and_not_the_identifier(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        events="timestamp,visitorid,event,itemid,transactionid\n1709370000000,901,view,41,\n"
        "1709370100000,901,addtocart,41,\n1709370200000,901,transaction,41,7\n",
    )
    kinds = read(tmp_path, text, "SELECT kind, user_id, item_id, event_time::VARCHAR FROM events ORDER BY event_time")
    assert [kind for kind, *_ in kinds] == ["view", "cart", "purchase"]
    assert kinds[0][1:] == ("901", "41", "2024-03-02 09:00:00+00")


def test_a_checkout_begun_is_no_purchase_and_an_empty_column_no_user(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        events="event_date,event_timestamp,event_name,user_pseudo_id,user_id,item_id\n"
        "20240302,1709370000000000,begin_checkout,5.1,,tin\n20240302,1709370001000000,view_search_results,5.1,,\n"
        "20240302,1709370002000000,view_item,5.1,,tin\n20240302,1709370003000000,purchase,5.1,,tin\n",
    )
    found = read(tmp_path, text, "SELECT kind, user_id, event_time::VARCHAR FROM events ORDER BY event_time")
    assert found == [
        ("search", "5.1", "2024-03-02 09:00:01+00"),
        ("view", "5.1", "2024-03-02 09:00:02+00"),
        ("purchase", "5.1", "2024-03-02 09:00:03+00"),
    ]
    assert "begin_checkout" in text


ORDERS = "order_id,customer_id,order_status,order_purchase_timestamp\no1,c1,delivered,2024-03-02 10:00:00\n"
LINES = "order_id,order_item_id,product_id,price,freight_value\no1,1,tin,9.50,2.00\no1,2,jar,4.00,2.00\n"
CUSTOMERS = "customer_id,customer_unique_id,customer_city\nc1,u1,here\nc2,u1,here\n"


def test_orders_lines_and_persons_in_three_files_are_joined(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        customers=CUSTOMERS,
        orders=ORDERS + "o2,c2,canceled,2024-03-12 12:00:00\n",
        order_items=LINES + "o2,1,tin,9.50,2.00\n",
        order_reviews="review_id,order_id,review_score,review_creation_date\nr1,o1,5,2024-03-05 00:00:00\n",
    )
    found = read(tmp_path, text, "SELECT user_id, item_id, amount, kind FROM events ORDER BY item_id")
    assert found == [("u1", "jar", 4.0, "purchase"), ("u1", "tin", 9.5, "purchase")]
    assert "order_reviews.csv" in text.split("# UNUSED")[1]


def test_chinese_headers_are_read(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        订单="订单编号,用户ID,商品ID,下单时间,数量,实付金额\n1,17,tin,2024-03-02 10:00:00,1,9.5\n",
        活动="活动ID,活动名称,开始时间,结束时间\nspring,罐头节,2024-03-10,2024-03-20\n",
        活动商品="活动ID,商品ID\nspring,tin\n",
    )
    assert set(tables(text)) == {"events", "campaigns", "campaign_items"}
    assert read(tmp_path, text, "SELECT user_id, item_id, quantity, amount FROM events") == [("17", "tin", 1, 9.5)]
    assert read(tmp_path, text, "SELECT campaign_id, name FROM campaigns") == [("spring", "罐头节")]


@pytest.mark.parametrize(
    "header",
    [
        "Kundennummer;Artikel-Nr.;Bestelldatum;Menge;Betrag",
        "id_cliente;id_producto;fecha_pedido;cantidad;importe",
        "code client;code article;date commande;quantité;montant",
        "id_cliente;id_produto;data_pedido;quantidade;valor_total",
    ],
)
def test_headers_in_other_languages_are_read(tmp_path: Path, header: str) -> None:
    rows = "17;tin;2024-03-02 10:00:00;1;9,50\n18;jar;2024-03-03 10:00:00;2;19,00\n"
    text = draft(tmp_path, export=f"{header}\n{rows}")
    assert read(tmp_path, text, "SELECT user_id, item_id, quantity, amount FROM events ORDER BY 1") == [
        ("17", "tin", 1, 9.5),
        ("18", "jar", 2, 19.0),
    ]


STATUSES = "order_no,customer_no,ordered_at,sku,qty,total,status\n"


def test_cancelled_orders_and_guests_are_left_out_with_a_comment(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        orders=STATUSES + "1,17,2024-03-02 10:00:00,tin,1,9.5,complete\n2,18,2024-03-03 11:00:00,tin,1,9.5,cancelled\n"
        "3,,2024-03-04 11:00:00,tin,1,9.5,complete\n4,19,2024-03-05 11:00:00,tin,1,9.5,refunded\n",
    )
    assert read(tmp_path, text, "SELECT user_id FROM events") == [("17",)]
    comments = "\n".join(line for line in text.splitlines() if line.startswith("# CHECK"))
    assert "cancelled" in comments
    assert "refunded" in comments
    assert "guests" in comments


def test_all_words_of_a_long_kind_column_are_seen(tmp_path: Path) -> None:
    views = "".join(f"u{n % 50},i{n % 9},2024-03-{n % 28 + 1:02d} 10:00:00,view\n" for n in range(30_000))
    text = draft(tmp_path, log=f"user_id,item_id,event_time,kind\n{views}u1,i1,2024-03-02 10:00:00,order placed\n")
    assert read(tmp_path, text, "SELECT count(*) FROM events WHERE kind = 'purchase'") == [(1,)]


@pytest.mark.parametrize(
    ("prices", "total"),
    [("2.50,2.50,2.50", [2.5, 5.0, 7.5]), ("2.50,5.00,7.50", [2.5, 5.0, 7.5])],
    ids=["a price of one unit", "a price of the line"],
)
def test_the_values_show_whether_a_price_is_for_one_unit(tmp_path: Path, prices: str, total: list[float]) -> None:
    rows = "".join(
        f"u{n},tin,2024-03-0{n} 10:00:00,{n},{price}\n" for n, price in enumerate(prices.split(","), start=1)
    )
    text = draft(tmp_path, sales=f"customer,sku,sold_date,units,price\n{rows}".replace("sold_date", "date"))
    assert [row[0] for row in read(tmp_path, text, "SELECT amount FROM events ORDER BY user_id")] == total


def test_a_file_that_fits_no_table_is_named(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        weather="day,degrees\n2024-03-02,4\n2024-03-03,5\n",
        log="user_id,item_id,event_time\nu1,tin,2024-03-02 10:00:00\nu1,jar,2024-03-03 10:00:00\n",
    )
    assert "weather.csv: fits no table" in text
    assert set(tables(text)) == {"events"}


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        twice="a,a\n1,2\n",
        log="user_id,item_id,event_time\nu1,tin,2024-03-02 10:00:00\nu1,jar,2024-03-03 10:00:00\n",
    )
    assert "twice.csv" in text.split("# UNREAD")[1]
    assert set(tables(text)) == {"events"}
    with pytest.raises(SourceError, match=r"twice\.csv"):
        draft_mapping([tmp_path / "twice.csv"])


def test_records_inside_columns_are_laid_open(tmp_path: Path) -> None:
    lines = "".join(
        f'{{"id": {n}, "buyer": {{"email": "u{n % 2}@x.org"}}, "created_at": "2024-03-0{n + 1} 10:00:00", '
        f'"line_items": [{{"sku": "tin", "quantity": 1, "price": 2.5}}, {{"sku": "jar", "quantity": 2, "price": 4}}]'
        "}\n"
        for n in range(4)
    )
    (tmp_path / "orders.jsonl").write_text(lines, encoding="utf-8")
    text = draft_mapping([tmp_path / "orders.jsonl"], folder=tmp_path)
    found = read(tmp_path, text, "SELECT user_id, item_id, sum(amount) FROM events GROUP BY ALL ORDER BY ALL")
    assert found == [("u0@x.org", "jar", 16), ("u0@x.org", "tin", 5), ("u1@x.org", "jar", 16), ("u1@x.org", "tin", 5)]


def test_an_encoding_is_found_and_written(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes(
        "customer,sku,date,quantity\n17,café crème,2024-03-02,1\n18,thé,2024-03-03,1\n".encode("cp1252")
    )
    text = draft_mapping([tmp_path / "orders.csv"], folder=tmp_path)
    assert tables(text)["events"][0]["encoding"] == "cp1252"
    assert read(tmp_path, text, "SELECT item_id FROM events ORDER BY 1") == [("café crème",), ("thé",)]


def test_parquet_is_drafted_like_text(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT 17 AS customer, 'tin' AS sku, TIMESTAMP '2024-03-02 10:00:00' AS bought_at, 9.5 AS paid "
            f"UNION ALL SELECT 17, 'jar', TIMESTAMP '2024-03-03', 3.5) TO '{tmp_path}/sales.parquet'"
        )
    text = draft_mapping([tmp_path / "sales.parquet"], folder=tmp_path)
    assert read(tmp_path, text, "SELECT user_id, sum(amount) FROM events GROUP BY 1") == [("17", 13.0)]


def test_a_discount_with_a_decimal_comma_is_taken_off_exactly(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        lines="order_no;customer;date;sku;lineitem_quantity;lineitem_price;lineitem_discount\n"
        "1;17;2024-03-02;tin;2;1.009,50;0,50\n2;18;2024-03-03;tin;1;1.009,50;\n3;18;2024-03-04;jar;1;4,00;1,00\n",
    )
    assert read(tmp_path, text, "SELECT amount FROM events ORDER BY event_time") == [(2018.5,), (1009.5,), (3.0,)]


def test_a_cancelled_line_leaves_the_other_lines_of_its_order(tmp_path: Path) -> None:
    rows = "".join(
        f"{n // 2},u{n % 4},2024-03-0{n // 2 + 1} 10:00:00,i{n % 3},1,9.5,{'2024-03-20' if n in (3, 7) else ''}\n"
        for n in range(12)
    )
    text = draft(tmp_path, lines=f"order_id,customer_id,created_at,sku,qty,amount,cancelled_at\n{rows}")
    assert read(tmp_path, text, "SELECT count(*) FROM events") == [(10,)]
