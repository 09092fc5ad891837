"""What a draft must not take for something else: returns, tills, reports, control groups, flags, cents and sheets."""

import tomllib
from pathlib import Path

import pytest
from test_draft import draft, read, tables
from test_reading_excel import workbook

from recommender.datasets import draft_mapping
from recommender.errors import SourceError

ORDERS = "order_no,customer,ordered_at,sku,qty,line_total\n" + "".join(
    f"{n // 2},C{n % 5},2024-03-{n % 27 + 1:02d} 10:00:00,P{n % 4},1,9.5\n" for n in range(20)
)
CAMPAIGNS = "campaign_id,starts_at,ends_at\nspring,2024-03-10,2024-03-20\nsummer,2024-06-10,2024-06-20\n"


def test_a_file_of_returns_holds_returns_at_their_own_time(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        orders=ORDERS,
        returns="order_number,article_number,returned_quantity,returned_at,refund_amount\n"
        "0,P0,1,2024-04-20 09:00:00,9.5\n1,P2,1,2024-04-21 09:00:00,9.5\n",
    )
    found = read(
        tmp_path, text, "SELECT kind, count(*), max(event_time)::DATE::VARCHAR FROM events GROUP BY 1 ORDER BY 1"
    )
    assert found == [("purchase", 20, "2024-03-20"), ("return", 2, "2024-04-21")]


def test_a_handful_of_cashiers_are_not_the_shoppers(tmp_path: Path) -> None:
    rows = "".join(
        f"R{n},{n % 2},K{n % 11:04d},P{n % 4},2024-03-{n % 27 + 1:02d} 10:00:00,2024-06-01 03:00:00\n"
        for n in range(40)
    )
    text = draft(tmp_path, receipts=f"receipt_id,user_id,customer_no,product_id,receipt_time,created_at\n{rows}")
    query = "SELECT count(DISTINCT user_id), max(event_time)::DATE::VARCHAR FROM events"
    assert read(tmp_path, text, query) == [(11, "2024-03-27")]
    assert "DECIDE: user_id" in text


def test_a_report_of_the_same_orders_is_not_read_a_second_time(tmp_path: Path) -> None:
    text = draft(tmp_path, orders=ORDERS, sales_report=ORDERS)
    assert read(tmp_path, text, "SELECT count(*) FROM events") == [(20,)]
    assert "sales_report.csv has the same orders" in text


def test_carts_and_wishes_are_no_purchases_and_payments_no_events(tmp_path: Path) -> None:
    acts = "customer,product_id,added_at\nC1,P1,2024-03-02 10:00:00\nC2,P2,2024-03-03 10:00:00\n"
    text = draft(
        tmp_path,
        orders=ORDERS,
        cart_additions=acts,
        wishlist=acts,
        payments="payment_id,order_no,amount,paid_at,customer\n1,0,19.0,2024-03-02 10:00:00,C0\n",
    )
    kinds = dict(read(tmp_path, text, "SELECT kind, count(*) FROM events GROUP BY 1"))
    assert kinds == {"purchase": 20, "cart": 2, "favourite": 2}
    assert "UNUSED" in text
    assert "payments.csv" in text


def test_the_control_group_was_not_targeted(tmp_path: Path) -> None:
    sends = "campaign_id,customer,sent_at,arm\n" + "".join(
        f"spring,C{n},2024-03-10 09:00:00,{'control' if n % 3 == 0 else 'treatment'}\n" for n in range(9)
    )
    text = draft(tmp_path, orders=ORDERS, campaigns=CAMPAIGNS, sends=sends)
    assert read(tmp_path, text, "SELECT count(*) FROM targets") == [(6,)]
    assert "control in arm" in text


def test_targets_with_a_time_of_redemption_hold_participations_too(tmp_path: Path) -> None:
    sent = "coupon_id,campaign_id,customer,sent_at,redeemed_at\n" + "".join(
        f"K{n},spring,C{n},2024-03-10 09:00:00,{'2024-03-12 10:00:00' if n % 3 == 0 else ''}\n" for n in range(9)
    )
    text = draft(tmp_path, orders=ORDERS, campaigns=CAMPAIGNS, coupons_sent=sent)
    counts = "SELECT (SELECT count(*) FROM targets), (SELECT count(*) FROM participations)"
    assert read(tmp_path, text, counts) == [(9, 3)]


def test_a_list_of_products_in_a_cell_is_taken_apart(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        orders=ORDERS,
        promotions="promotion_id,valid_from,valid_to,products\nspring,2024-03-10,2024-03-20,P0|P1\n"
        "summer,2024-06-10,2024-06-20,P2|P3|P1\n",
    )
    assert read(tmp_path, text, "SELECT count(*) FROM campaign_items") == [(5,)]


def test_flags_leave_out_tests_and_mark_returns(tmp_path: Path) -> None:
    rows = "".join(
        f"{n},C{n % 5},2024-03-0{n + 1},P1,9.5,{str(n == 3).lower()},{int(n == 4)},{'2024-04-01' if n == 5 else ''}\n"
        for n in range(9)
    )
    text = draft(
        tmp_path,
        transactions=f"order_id,customer_id,order_date,product_id,line_total,is_return,is_test_order,deleted_at\n{rows}",
    )
    found = read(tmp_path, text, "SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1")
    assert found == [("purchase", 6), ("return", 1)]


def test_amounts_in_cents_are_divided(tmp_path: Path) -> None:
    rows = "".join(f"C{n},P1,2024-03-0{n + 1} 10:00:00,{950 + n}\n" for n in range(5))
    text = draft(tmp_path, sales=f"customer,product,created_at,amount_cents\n{rows}")
    assert read(tmp_path, text, "SELECT min(amount), max(amount) FROM events") == [(9.5, 9.54)]
    assert "cents" in text


def test_days_as_excel_counts_them_are_read(tmp_path: Path) -> None:
    rows = "".join(f"C{n},P1,{45353 + n},9.5\n" for n in range(5))
    text = draft(tmp_path, sales=f"customer,product,Order date,total\n{rows}".replace("sales", ""))
    assert read(tmp_path, text, "SELECT min(event_time)::DATE::VARCHAR FROM events") == [("2024-03-02",)]


def test_targets_in_epochs_give_campaigns_where_no_file_lists_them(tmp_path: Path) -> None:
    sends = "".join(f"{'spring' if n % 2 else 'summer'},C{n % 5},{1707379200000 + 86_400_000 * n}\n" for n in range(10))
    text = draft(tmp_path, orders=ORDERS, push_notifications=f"campaign_id,customer,sent_at\n{sends}")
    assert "PROBLEM" not in text
    assert read(tmp_path, text, "SELECT count(*) FROM campaigns WHERE ends_at > starts_at") == [(2,)]


def test_a_customer_who_may_be_all_guests_is_named(tmp_path: Path) -> None:
    rows = "".join(f"{n},{'CASH SALE' if n % 2 else f'C{n % 9}'},2024-03-{n % 27 + 1:02d},P1,9.5\n" for n in range(60))
    text = draft(tmp_path, orders=f"order_no,customer,order_date,sku,total\n{rows}")
    assert "CASH SALE has 30 rows" in text


def test_a_discount_of_the_whole_order_is_named_and_not_spread(tmp_path: Path) -> None:
    rows = "".join(
        f"#{n // 2},a{n % 4}@x.org,2024-03-{n % 27 + 1:02d},P{n % 3},1,9.5,{'' if n % 2 else '3.00'}\n"
        for n in range(20)
    )
    text = draft(
        tmp_path,
        export=f"Order,Email,Created at,Lineitem sku,Lineitem quantity,Lineitem price,Discount Amount\n{rows}",
    )
    assert read(tmp_path, text, "SELECT sum(amount) FROM events") == [(190.0,)]
    assert "Discount Amount is of a whole order" in text


def test_every_sheet_of_a_workbook_is_read(tmp_path: Path) -> None:
    header = ["Invoice", "StockCode", "Quantity", "InvoiceDate", "Price", "Customer ID"]
    rows = [[f"5{n}", f"P{n % 3}", 2, f"{{}}-03-0{n + 1} 10:00:00", 9.5, f"1{n % 4}"] for n in range(8)]
    sheets = {
        f"Year {year}": [
            header,
            *([cell.format(year) if isinstance(cell, str) else cell for cell in row] for row in rows),
        ]
        for year in (2010, 2011)
    }
    (tmp_path / "retail.xlsx").write_bytes(workbook(**sheets))
    text = draft_mapping([tmp_path / "retail.xlsx"], folder=tmp_path)
    assert {section["sheet"] for section in tables(text)["events"]} == set(sheets)
    assert read(tmp_path, text, "SELECT count(*), sum(amount) FROM events") == [(16, 304.0)]


def test_files_that_fit_no_table_give_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"weather\.csv"):
        draft(tmp_path, weather="day,degrees\n2024-03-02,4\n2024-03-03,5\n")


def test_what_a_query_does_not_read_is_listed(tmp_path: Path) -> None:
    text = draft(
        tmp_path,
        orders="order_id,customer_id,created_at,terminal\n1,C1,2024-03-02 10:00:00,T1\n2,C2,2024-03-03 10:00:00,T2\n",
        order_items="order_id,product_id,price,shelf\n1,P1,9.5,a\n2,P2,9.5,b\n2,P1,9.5,c\n",
    )
    said = [line for line in text.splitlines() if line.startswith("# not used of")]
    assert any("terminal" in line for line in said)
    assert any("shelf" in line for line in said)
    assert set(tomllib.loads(text)["tables"]) >= {"events"}


def test_offers_sent_again_and_again_are_campaigns_of_their_own(tmp_path: Path) -> None:
    rows = [
        f"2024-03-{day:02d} 09:00:00,C{n},offer received,spring,\n"
        f"2024-03-{day:02d} 1{n}:00:00,C{n},offer completed,spring,\n"
        f"2024-03-{day:02d} 1{n}:00:00,C{n},transaction,,9.5\n"
        for day in (4, 11)
        for n in range(6)
    ]
    text = draft(tmp_path, transcript="timestamp,customer,event,offer_id,amount\n" + "".join(rows))
    assert "PROBLEM" not in text
    tables_of = ("campaigns", "targets", "participations")
    counts = f"SELECT {', '.join(f'(SELECT count(*) FROM {one})' for one in tables_of)}"
    assert read(tmp_path, text, counts) == [(2, 12, 12)]
    assert read(tmp_path, text, "SELECT count(DISTINCT starts_at) FROM campaigns") == [(2,)]


def test_a_damaged_workbook_is_an_unread_file_beside_others(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS, encoding="utf-8")
    (tmp_path / "cut.xlsx").write_bytes(workbook(Orders=[["a", "b"], ["1", "2"]])[:-40])
    text = draft_mapping([tmp_path / "orders.csv", tmp_path / "cut.xlsx"], folder=tmp_path)
    assert "cut.xlsx" in text.split("# UNREAD")[1]
    with pytest.raises(SourceError, match=r"gone\.xlsx"):
        draft_mapping([tmp_path / "gone.xlsx"])


def test_german_headers_of_times_and_money_and_a_column_of_actions_are_known(tmp_path: Path) -> None:
    files = {
        "bestellungen.csv": "Bestellnr;Kundennr;Bestellt am;Artikelnr;Menge;Bezahlt CHF;Rabatt CHF;Gutschein CHF",
        "klicks.csv": "Ereignis;Kundennr;Zeit;Aktion;Artikelnr",
        "likes.csv": "Kundennr;Artikelnr;Zeit",
        "retouren.csv": "Retourennr;Kundennr;Retour am;Artikelnr;Menge;Erstattet CHF",
        "kunden.csv": "Kundennr;Kunde seit;Ort",
        "artikel.csv": "Artikelnr;Bezeichnung;Preis CHF",
    }

    def times(hour: int) -> enumerate[str]:
        return enumerate(f"2026-04-{day:02}T{hour}:37:{day:02}+02:00" for day in range(1, 29))

    rows = {
        "bestellungen.csv": [f"B{k};K-{k % 9};{at};A{k % 5};1;{k + 7},95;0,50;" for k, at in times(15)],
        "klicks.csv": [
            f"E{k};K-{k % 9};{at};{('ansicht', 'klick', 'warenkorb')[k % 3]};A{k % 5}" for k, at in times(16)
        ],
        "likes.csv": [f"K-{k % 9};A{k % 5};{at}" for k, at in times(17)],
        "retouren.csv": [f"R{k};K-{k % 9};{at};A{k % 5};1;{k + 7},95" for k, at in times(18)],
        "kunden.csv": [f"K-{k};2023-12-2{k}T03:44:26+01:00;Bern" for k in range(9)],
        "artikel.csv": [f"A{k};Tee {k};{k + 7},95" for k in range(5)],
    }
    written = {name: "\n".join([head, *rows[name]]) + "\n" for name, head in files.items()}
    made = draft(tmp_path, **{name.removesuffix(".csv"): text for name, text in written.items()})
    assert "no column looks like" not in made
    for column in ("Bestellt am", "Bezahlt CHF", "Rabatt CHF", "Retour am", "Erstattet CHF", "Kunde seit", "Preis CHF"):
        assert column in "\n".join(line for line in made.splitlines() if "not used" not in line), column
    found = {Path(part["file"]).name: part for part in tables(made)["events"] if "file" in part}
    assert found["klicks.csv"]["values"]["kind"] == {"ansicht": "view", "klick": "click", "warenkorb": "cart"}
    assert found["likes.csv"]["constants"]["kind"] == "like"
