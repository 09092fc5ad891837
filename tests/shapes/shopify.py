"""Shopify's orders export: one row for each line, whose order is told in the first row of each order only."""

from datetime import datetime, timedelta
from pathlib import Path

from shapes.export_files import write_csv

HEADER = (
    "Name,Email,Financial Status,Paid at,Fulfillment Status,Fulfilled at,Accepts Marketing,Currency,Subtotal,Shipping,"
    "Taxes,Total,Discount Code,Discount Amount,Shipping Method,Created at,Lineitem quantity,Lineitem name,"
    "Lineitem price,Lineitem compare at price,Lineitem sku,Lineitem requires shipping,Lineitem taxable,"
    "Lineitem fulfillment status,Billing Name,Billing Street,Billing Address1,Billing Address2,Billing Company,"
    "Billing City,Billing Zip,Billing Province,Billing Country,Billing Phone,Shipping Name,Shipping Street,"
    "Shipping Address1,Shipping Address2,Shipping Company,Shipping City,Shipping Zip,Shipping Province,"
    "Shipping Country,Shipping Phone,Notes,Note Attributes,Cancelled at,Payment Method,Payment Reference,"
    "Refunded Amount,Vendor,Outstanding Balance,Employee,Location,Device ID,Id,Tags,Risk Level,Source,"
    "Lineitem discount,Tax 1 Name,Tax 1 Value,Tax 2 Name,Tax 2 Value,Tax 3 Name,Tax 3 Value,Tax 4 Name,Tax 4 Value,"
    "Tax 5 Name,Tax 5 Value,Phone,Receipt Number,Duties,Billing Province Name,Shipping Province Name,Payment ID,"
    "Payment Terms Name,Next Payment Due At,Payment References"
)
PEOPLE = ("Ana Ruiz", "Ben Odum", "Cleo Hart", "Dara Lind", "Eli Stone", "Fay Wong", "Gus Berg", "Hana Abe", "Ida Koch")
GOODS = (
    ("Linen Shirt - Navy / M", 49.0, 59.0, "LS-NVY-M", "Harbor"),
    ("Linen Shirt - White / S", 49.0, None, "LS-WHT-S", "Harbor"),
    ("Canvas Tote Bag", 20.0, None, "TOTE-1", "Harbor"),
    ("Speckled Mug", 25.0, None, "MUG-1", "Kiln & Co"),
    ("Gift Card - $25", 25.0, None, None, "Harbor"),
    ("Wool Socks, 3 Pack", 18.5, 22.0, "SOCK-3", "Harbor"),
    ("Beeswax Candle", 14.0, None, "CNDL-BW", "Kiln & Co"),
)
FIRST = datetime(2023, 8, 14, 10, 3, 21)
CANCELLED, REFUNDED, VOIDED, IN_STORE = (9, 30), (21,), (33,), (12, 27)


def _time(at: datetime) -> str:
    """Local time in New York, with the offset, which changes on the fifth of November 2023."""
    return f"{at:%Y-%m-%d %H:%M:%S} {'-0400' if at < datetime(2023, 11, 5, 2) else '-0500'}"


def _address(name: str, prefix: str) -> dict[str, object]:
    street = {"Street": "1 Elm Lane", "Address1": "1 Elm Lane", "City": "Boston", "Zip": "'02108", "Province": "MA"}
    return {f"{prefix} {key}": value for key, value in {"Name": name, **street, "Country": "US"}.items()}


def _order(order: int, at: datetime) -> list[dict[str, object]]:
    """The rows of an order: the first tells everything, the others only the line, the order's name and its time."""
    name = PEOPLE[(order * 4 + order // 9) % len(PEOPLE)]
    # Sales over the counter have no e-mail address.
    email = None if order in IN_STORE else f"{name.split()[0].lower()}@example.com"
    status = "refunded" if order in (*REFUNDED, 9) else "voided" if order in (*VOIDED, 30) else "paid"
    picks = [(GOODS[(order + 2 * line) % 7], 1 + (order + line) % 3) for line in range(1 + order % 3)]
    discounts = [2.5 * quantity if order % 8 == 5 else 0.0 for _, quantity in picks]
    goods = sum(product[1] * quantity for product, quantity in picks) - sum(discounts)
    code = 5.0 if order % 11 == 4 else 0.0
    rows: list[dict[str, object]] = [
        {
            "Name": f"#{1001 + order}",
            "Email": email,
            "Created at": _time(at),
            "Lineitem quantity": quantity,
            "Lineitem name": product[0],
            "Lineitem price": f"{product[1]:.2f}",
            "Lineitem compare at price": f"{product[2]:.2f}" if product[2] else None,
            "Lineitem sku": product[3],
            "Lineitem requires shipping": "true",
            "Lineitem taxable": "true",
            "Lineitem fulfillment status": "fulfilled" if status == "paid" else "pending",
            "Vendor": product[4],
            "Lineitem discount": f"{discount:.2f}",
        }
        for (product, quantity), discount in zip(picks, discounts, strict=True)
    ]
    rows[0] |= {
        "Financial Status": status,
        "Paid at": _time(at + timedelta(seconds=1)),
        "Fulfillment Status": "fulfilled" if status == "paid" else "unfulfilled",
        "Fulfilled at": _time(at + timedelta(days=1)) if status == "paid" else None,
        "Accepts Marketing": "yes" if order % 2 else "no",
        "Currency": "USD",
        "Subtotal": f"{goods - code:.2f}",
        "Shipping": "6.00",
        "Taxes": "0.00",
        "Total": f"{goods - code + 6:.2f}",
        "Discount Code": "FALL5" if code else None,
        "Discount Amount": f"{sum(discounts) + code:.2f}",
        "Shipping Method": "Standard",
        "Cancelled at": _time(at + timedelta(hours=5)) if order in CANCELLED else None,
        "Payment Method": "Shopify Payments",
        "Payment Reference": f"rIw4QXqrJbXeyKv4gKSg{order:02d}",
        "Refunded Amount": f"{goods + 6:.2f}" if status == "refunded" else "0.00",
        "Outstanding Balance": "0.00",
        "Id": 5550000001000 + order,
        "Risk Level": "Low",
        "Source": "pos" if order in IN_STORE else "web",
        **_address(name, "Billing"),
        **_address(name, "Shipping"),
    }
    return rows


def write(folder: Path) -> list[Path]:
    columns = HEADER.split(",")
    # The newest order comes first, as Shopify writes it.
    lines = [
        [row.get(column) for column in columns]
        for order in reversed(range(54))
        for row in _order(order, FIRST + timedelta(days=2 * order, minutes=(order * 47) % 600))
    ]
    return [write_csv(folder / "orders_export_1.csv", HEADER, lines)]


RECIPE = '''[source]
time_zone = "UTC"

[inputs.orders]
file = "orders_export_1.csv"

[tables.events]
query = """
SELECT Email AS user_id, coalesce(nullif("Lineitem sku", ''), "Lineitem name") AS item_id,
    "Created at" AS event_time, Name AS basket_id, "Lineitem quantity" AS quantity,
    "Lineitem quantity"::DECIMAL(18, 4) * "Lineitem price"::DECIMAL(18, 4)
        - "Lineitem discount"::DECIMAL(18, 4) AS amount,
    "Lineitem discount" AS discount,
    max(nullif(Currency, '')) OVER same_order AS currency
FROM orders
WHERE Email <> ''
WINDOW same_order AS (PARTITION BY Name)
QUALIFY coalesce(max("Cancelled at") OVER same_order, '') = ''
    AND max("Financial Status") OVER same_order NOT IN ('refunded', 'voided', 'expired')
"""
constants = { kind = "purchase" }

[tables.items]
query = """
SELECT coalesce(nullif("Lineitem sku", ''), "Lineitem name") AS item_id, mode("Lineitem name") AS name,
    mode(Vendor) AS brand
FROM orders GROUP BY ALL
"""
'''

JUDGED: dict[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "kind", "event_time", "basket_id", "quantity", "amount"),
}

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    # Order 0 is one Linen Shirt at 10:03:21 in New York, four hours behind UTC.
    (
        "SELECT user_id, item_id, event_time = TIMESTAMPTZ '2023-08-14 14:03:21+00', quantity, amount, currency "
        "FROM events WHERE basket_id = '#1001'",
        [("ana@example.com", "LS-NVY-M", True, 1.0, 49.0, "USD")],
    ),
    # Order 5 has 2.50 off each unit: three packs of socks, one shirt, two bags.
    (
        "SELECT item_id, quantity, amount, discount FROM events WHERE basket_id = '#1006' ORDER BY 1",
        [("LS-NVY-M", 1.0, 46.5, 2.5), ("SOCK-3", 3.0, 48.0, 7.5), ("TOTE-1", 2.0, 35.0, 5.0)],
    ),
    # 54 orders hold 18 x (1 + 2 + 3) = 108 lines. Orders 9, 12, 21, 27, 30 and 33 (one line each) are left out.
    ("SELECT count(*), count(DISTINCT basket_id), count(DISTINCT user_id) FROM events", [(102, 48, 9)]),
    ("SELECT item_id FROM items WHERE item_id LIKE 'Gift%'", [("Gift Card - $25",)]),
    ("SELECT event_time = TIMESTAMPTZ '2023-11-28 16:34:21+00' FROM events WHERE basket_id = '#1054'", [(True,)] * 3),
)
