"""WooCommerce by the plugin "Advanced Order Export": one row for each line, the order's columns in all of them."""

from datetime import datetime, timedelta
from pathlib import Path

from shapes.export_files import write_csv

HEADER = (
    "Order Number,Order Status,Order Date,Customer Note,First Name (Billing),Last Name (Billing),Company (Billing),"
    "Address 1&2 (Billing),City (Billing),State Code (Billing),Postcode (Billing),Country Code (Billing),"
    "Email (Billing),Phone (Billing),First Name (Shipping),Last Name (Shipping),Address 1&2 (Shipping),"
    "City (Shipping),State Code (Shipping),Postcode (Shipping),Country Code (Shipping),Payment Method Title,"
    "Cart Discount Amount,Order Subtotal Amount,Shipping Method Title,Order Shipping Amount,Order Refund Amount,"
    "Order Total Amount,Order Total Tax Amount,SKU,Item #,Item Name,Quantity (- Refund),Item Cost,Coupon Code,"
    "Discount Amount,Discount Amount Tax"
)
PEOPLE = ("Aoife Byrne", "Bram Smit", "Chiara Rossi", "Dmitri Orlov", "Élodie Petit", "Finn Maher", "Greta Holm")
PEOPLE += ("Hugo Silva", "Iris Vogel")
GOODS = (
    ("HONEY-340", "Heather Honey 340g", 9.5),
    ("SOAP-OAT", "Oat Soap", 5.25),
    ("CNDL-01", "Beeswax Candle", 14.0),
    ("TEA-EARL", "Earl Grey, 50 bags", 7.95),
    ("JAM-RASP", "Raspberry Jam", 4.4),
    ("MUG-BLUE", "Mug – Blue", 18.0),
)
STATUS = {5: "Cancelled", 16: "Refunded", 22: "Failed", 31: "Cancelled", 44: "On hold", 48: "Processing"}
STATUS |= {49: "Processing", 38: "Pending payment"}
FIRST = datetime(2023, 9, 3, 8, 17)
PARTLY_REFUNDED = 13
"""An order with two lines, of which the second was wholly refunded: no unit is left of it."""


def write(folder: Path) -> list[Path]:
    rows = []
    for order in range(50):
        at = FIRST + timedelta(days=2 * order, minutes=(order * 71) % 700)
        name = PEOPLE[(order * 2 + order // 9) % 9]
        first, last = name.split()
        email = f"{first.lower().replace('é', 'e')}@example.org"
        picks = [(GOODS[(order + 2 * line) % 6], 1 + (order + line) % 3) for line in range(1 + order % 2)]
        subtotal = sum(price * quantity for (_, _, price), quantity in picks)
        # People type their address anew in each order.
        typed = email.capitalize() if order in (20, 29) else email
        address = ("2 Quay St", "Galway", "G", "H91 X0Y1", "IE")
        for line, ((sku, item, price), quantity) in enumerate(picks, 1):
            gone = (order == PARTLY_REFUNDED and line == 2) or STATUS.get(order) == "Refunded"
            rows.append((
                4100 + 3 * order, STATUS.get(order, "Completed"), f"{at:%Y-%m-%d %H:%M}",
                "Please leave it with the neighbour,\nnumber 4" if order == 8 else "", first, last, "", *address, typed,
                "091 555 010", first, last, *address, "Credit Card (Stripe)", "0.00", f"{subtotal:.2f}", "Flat rate",
                "4.50", "" if not gone else f"{price * quantity:.2f}", f"{subtotal + 4.5:.2f}", "0.00", sku, line, item,
                0 if gone else quantity, f"{price:.2f}", "", "", "",
            ))  # fmt: skip
    return [write_csv(folder / "orders-2024-01-05-10-22-31.csv", HEADER, rows, encoding="utf-8-sig", newline="\r\n")]


RECIPE = '''[source]
time_zone = "UTC"
currency = "EUR"
identifiers = "lower"

[inputs.orders]
file = "orders-2024-01-05-10-22-31.csv"

[tables.events]
file = "orders-2024-01-05-10-22-31.csv"
where = """
"Order Status" IN ('Completed', 'Processing') AND "Email (Billing)" <> '' AND "Quantity (- Refund)"::DOUBLE > 0
"""
constants = { kind = "purchase" }
per_unit = ["amount"]
[tables.events.columns]
user_id = "Email (Billing)"
item_id = "SKU"
event_time = "Order Date"
basket_id = "Order Number"
quantity = "Quantity (- Refund)"
amount = "Item Cost"

[tables.items]
query = 'SELECT lower(SKU) AS item_id, mode("Item Name") AS name FROM orders GROUP BY ALL'
'''

JUDGED: dict[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "kind", "event_time", "basket_id", "quantity", "amount"),
}

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    # Order 1 is number 4103 on the fifth of September: two soaps and three bags of tea.
    (
        "SELECT user_id, item_id, event_time = TIMESTAMPTZ '2023-09-05 09:28:00+00', quantity, amount FROM events "
        "WHERE basket_id = '4103' ORDER BY item_id",
        [
            ("chiara@example.org", "soap-oat", True, 2.0, 10.5),
            ("chiara@example.org", "tea-earl", True, 3.0, 23.85),
        ],
    ),
    # 50 orders of one or two lines are 75. Orders 16, 22, 38 and 44 (one line each), 5 and 31 (two each) are left out,
    # and the refunded line of order 13.
    ("SELECT count(*), count(DISTINCT basket_id), count(DISTINCT user_id) FROM events", [(66, 44, 9)]),
    ("SELECT name FROM items WHERE item_id = 'mug-blue'", [("Mug – Blue",)]),
    ("SELECT count(*) FROM events WHERE quantity = 0 OR amount = 0", [(0,)]),
)
