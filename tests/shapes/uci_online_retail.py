"""UCI "Online Retail": a British gift wholesaler's invoice lines, as the CSV that is passed around (cp1252)."""

from datetime import datetime, timedelta
from pathlib import Path

from shapes.export_files import write_csv

GOODS = (
    ("85123A", "WHITE HANGING HEART T-LIGHT HOLDER", "2.55"),
    ("71053", "WHITE METAL LANTERN", "3.39"),
    ("84406B", "CREAM CUPID HEARTS COAT HANGER", "2.75"),
    ("22633", "HAND WARMER UNION JACK", "1.85"),
    ("84879", "ASSORTED COLOUR BIRD ORNAMENT", "1.69"),
    ("22423", "REGENCY CAKESTAND 3 TIER", "12.75"),
    ("21730", "GLASS STAR FROSTED T-LIGHT HOLDER", "4.25"),
    ("21669", "BLUE STRIPE CERAMIC DRAWER KNOB £1", "1.25"),
)
CUSTOMERS = (17850, 13047, 12583, 13748, 15100, 14688, 17809, 15311, 14527, 16029, 12431, 17908)
COUNTRIES = {12583: "France", 12431: "Australia"}
FIRST = datetime(2010, 12, 1, 8, 26)


def _time(at: datetime) -> str:
    """Month first, without zeros in front."""
    return f"{at.month}/{at.day}/{at.year} {at.hour}:{at.minute:02d}"


def write(folder: Path) -> list[Path]:
    rows: list[tuple[object, ...]] = []
    for order in range(60):
        at = FIRST + timedelta(days=order + order // 5, minutes=23 * (order % 17))
        customer = CUSTOMERS[(order * 5 + order // 12) % 12]
        country = COUNTRIES.get(customer, "United Kingdom")
        guest = order % 6 == 5
        invoice = 536365 + order
        for line in range(1 + order % 3):
            code, name, price = GOODS[(order + 3 * line) % 8]
            # Some clerks typed the code in small letters. Those of guests often lack a description.
            shown = code.lower() if order == 16 else code
            rows.append(
                (invoice, shown, None if guest and line else name, (1, 2, 3, 6, 12)[(order + line) % 5], _time(at),
                 "0" if guest and line else price, None if guest else customer, country)
            )  # fmt: skip
        if order % 15 == 7:
            rows.append((invoice, "POST", "POSTAGE", 1, _time(at), "18", customer, country))
        if order in (12, 26, 38):
            # Invoice 12, 26 or 38 is cancelled in part four days later: one unit of its first line.
            code, name, price = GOODS[order % 8]
            back = _time(at + timedelta(days=4))
            rows.append((f"C{invoice + 500}", code, name, -1, back, price, customer, country))
    rows.append(("A563185", "B", "Adjust bad debt", 1, "2/9/2011 14:50", "11062.06", None, "United Kingdom"))
    header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    return [write_csv(folder / "OnlineRetail.csv", header, rows, encoding="cp1252", newline="\r\n")]


RECIPE = '''[source]
time_zone = "UTC"
currency = "GBP"
identifiers = "lower"

[inputs.lines]
file = "OnlineRetail.csv"
encoding = "cp1252"

[tables.events]
file = "OnlineRetail.csv"
encoding = "cp1252"
where = "CustomerID <> ''"
constants = { kind = "purchase" }
per_unit = ["amount"]
[tables.events.columns]
user_id = "CustomerID"
item_id = "StockCode"
event_time = "InvoiceDate"
basket_id = "InvoiceNo"
quantity = "Quantity"
amount = "UnitPrice"

[tables.items]
query = """
SELECT lower(StockCode) AS item_id, mode(Description) FILTER (Description <> '') AS name FROM lines GROUP BY ALL
"""

[tables.users]
query = "SELECT CustomerID AS user_id, mode(Country) AS region FROM lines WHERE CustomerID <> '' GROUP BY ALL"
'''

JUDGED: dict[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "kind", "event_time", "basket_id", "quantity", "amount"),
}

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    (
        "SELECT user_id, item_id, event_time = TIMESTAMPTZ '2010-12-01 08:26:00+00', quantity, amount FROM events "
        "WHERE basket_id = '536365'",
        [("17850", "85123a", True, 1.0, 2.55)],
    ),
    # Order 1 is invoice 536366 of the second of December: two lines, 2 lanterns at 3.39 and 3 birds at 1.69.
    ("SELECT item_id, amount FROM events WHERE basket_id = '536366' ORDER BY 1", [("71053", 6.78), ("84879", 5.07)]),
    # Each of the three returns takes back one unit of its own customer's purchase.
    ("SELECT count(*), sum(quantity) FROM events WHERE kind = 'return'", [(3, 3.0)]),
    ("SELECT count(*) FROM events WHERE returned_share IS NOT NULL", [(3,)]),
    # 60 orders of 1, 2 or 3 lines are 120 lines. The ten of guests (5, 11, … 59) have three each. Four lines of postage
    # (7, 22, 37, 52) and three returns come in addition.
    ("SELECT count(*), count(DISTINCT user_id) FROM events", [(97, 12)]),
    ("SELECT name FROM items WHERE item_id = '21669'", [("BLUE STRIPE CERAMIC DRAWER KNOB £1",)]),
)
