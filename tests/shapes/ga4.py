"""GA4's export to BigQuery, extracted as JSON lines: a file a day, nested records, null fields left out.

Traps: products stand in the list `items` of each event, parameters in a list of keys and values; whole numbers are
texts, times are microseconds; most events (page_view, session_start, …) concern no product; a day's records lack the
fields that no event of the day has.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from shapes.export_files import Record, write_json_lines

USERS = tuple(f"{1026454 + 7919 * n}.{4271112504 + 104729 * n}" for n in range(12))
ITEMS = (
    ("GGOEGAER090513", "Google Heather Green Speckled Tee", "Apparel", 21.5),
    ("GGOEGAAB118916", "Google F/C Longsleeve Charcoal", "Apparel", 30.0),
    ("GGOEGBJC122399", "Google Campus Bike Tote", "Bags", 11.0),
    ("GGOEGCBA151899", "Google Glass Bottle", "Drinkware", 19.99),
    ("GGOEGXXX1234", "Super G Socks", "Apparel", 7.25),
    ("GGOEYAEJ165513", "YouTube Icon Pullover Black", "Apparel", 48.0),
    ("GGOEGDHB163199", "Google Chrome Dino Mug", "Drinkware", 16.75),
    ("GGOEGOCR154299", "Google Recycled Notebook Set", "Office", 9.6),
)
FIRST_DAY = datetime(2024, 2, 20, tzinfo=UTC)
DAYS = 28


def write(folder: Path) -> list[Path]:
    files = []
    for number in range(DAYS):
        day = FIRST_DAY + timedelta(days=number)
        records = [record for n in range(len(USERS)) for record in _visit(n, number, day)]
        files.append(write_json_lines(folder / f"events_{day:%Y%m%d}.json", records))
    return files


def _visit(n: int, number: int, day: datetime) -> list[Record]:
    """User n comes every fourth day: views two items, and puts one, two or three units of the first into the cart.

    Visits with an odd number end with a purchase of that. User 3 gives back on day 13 what day 9 brought.
    """
    if (number + n) % 4:
        return []
    visit = (number + n) // 4
    at = day + timedelta(hours=9 + n % 8, minutes=n)
    first, other, units = (n + visit) % len(ITEMS), (2 * n + visit + 3) % len(ITEMS), 1 + visit % 3
    events = [
        _event("session_start", n, at, visit),
        _event("page_view", n, at + timedelta(seconds=1), visit),
        _event("view_item", n, at + timedelta(seconds=40), visit, [_item(first)]),
        _event("view_item", n, at + timedelta(seconds=90), visit, [_item(other)]),
        _event("add_to_cart", n, at + timedelta(seconds=95), visit, [_item(first, units)]),
    ]
    if (n, number) == (3, 13):
        events.append(_event("refund", n, at + timedelta(seconds=200), visit, [_item(6, 1, "item_refund")], "T9-3"))
    if visit % 2:
        items = [_item(first, units, "item_revenue")]
        events.append(_event("begin_checkout", n, at + timedelta(seconds=300), visit, [_item(first, units)]))
        events.append(_event("purchase", n, at + timedelta(seconds=400), visit, items, f"T{number}-{n}"))
    return events


def _item(place: int, units: int | None = None, money: str | None = None) -> Record:
    item_id, name, category, price = ITEMS[place]
    item: Record = {"item_id": item_id, "item_name": name, "item_brand": "Google", "item_variant": "(not set)",
                    "item_category": category, "price_in_usd": price, "price": price}  # fmt: skip
    if units is not None:
        item["quantity"] = str(units)
    if units is not None and money is not None:
        item |= {f"{money}_in_usd": round(price * units, 2), money: round(price * units, 2)}
    return item


def _event(
    name: str, n: int, at: datetime, visit: int, items: list[Record] | None = None, order: str | None = None
) -> Record:
    micros = int(at.timestamp() * 1_000_000)
    parameters = [
        {"key": "ga_session_id", "value": {"int_value": str(int(at.timestamp()) // 3600)}},
        {"key": "ga_session_number", "value": {"int_value": str(visit + 1)}},
        {"key": "page_location", "value": {"string_value": "https://shop.example/"}},
    ]
    record: Record = {
        "event_date": f"{at:%Y%m%d}",
        "event_timestamp": str(micros),
        "event_name": name,
        "event_params": parameters,
        "event_bundle_sequence_id": str(n * 1000 + visit),
        "event_server_timestamp_offset": "3217",
        "user_pseudo_id": USERS[n],
        "privacy_info": {"uses_transient_token": "No"},
        "user_properties": [],
        "user_first_touch_timestamp": str(int(FIRST_DAY.timestamp() * 1_000_000)),
        "device": {"category": ("mobile", "desktop")[n % 2], "operating_system": "Web", "language": "en-us"},
        "geo": {"continent": "Americas", "country": "United States", "city": "(not set)"},
        "traffic_source": {"name": "(organic)", "medium": "organic", "source": "google"},
        "stream_id": "2100450278",
        "platform": "WEB",
        "items": items or [],
    }
    if order is not None:
        record["ecommerce"] = {"total_item_quantity": "1", "unique_items": "1", "transaction_id": order}
    return record


RECIPE = """\
[source]
time_zone = "America/New_York"
currency = "USD"

[inputs.ga4]
file = "events_*.json"

[tables.events]
query = '''
SELECT user_pseudo_id AS user_id, event_name AS kind, event_timestamp AS event_time, item.item_id,
    ecommerce.transaction_id AS basket_id, item.quantity,
    coalesce(item.item_revenue, item.item_refund) AS amount, device.category AS device
FROM (SELECT * EXCLUDE (items), unnest(items) AS item FROM ga4)
'''
[tables.events.values.kind]
view_item = "view"
select_item = "click"
add_to_cart = "cart"
purchase = "purchase"
refund = "return"
begin_checkout = "ignore"

[tables.items]
query = '''
SELECT item.item_id, max(item.item_name) AS name, max(item.item_category) AS category, max(item.item_brand) AS brand,
    max(item.price) AS price
FROM (SELECT unnest(items) AS item FROM ga4) GROUP BY ALL
'''
"""

JUDGED = {"events": ("user_id", "item_id", "kind", "event_time", "quantity", "amount", "basket_id")}

CHECKS = [
    # 12 users, each in 7 of 28 days: 84 visits. Those with odd numbers: 3 of user 0; 4 each of users 1-4 and 9-11;
    # 3 each of users 5-8. One of the purchases was given back, and its refund is a return.
    (
        "SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1",
        [("cart", 84), ("purchase", 43), ("return", 1), ("view", 168)],
    ),
    # The visits 1, 3, 5, 7, 9 have 2, 1, 3, 2, 1 units: 6 of user 0, 8 each of 1-4, 6 each of 5-8, 7 each of 9-11.
    ("SELECT sum(quantity) FROM events WHERE kind = 'purchase'", [(83.0,)]),
    # User 0 on the fifth day, visit 1: two Longsleeves at 30 dollars, 9:06:40 in UTC.
    (
        "SELECT item_id, quantity, amount, event_time = TIMESTAMPTZ '2024-02-24 09:06:40+00' FROM events "
        "WHERE basket_id = 'T4-0'",
        [("GGOEGAAB118916", 2.0, 60.0, True)],
    ),
    (
        "SELECT basket_id, amount, returned_share FROM events WHERE returned_at IS NOT NULL",
        [("T9-3", 16.75, 1.0)],
    ),
    ("SELECT category, price FROM items WHERE item_id = 'GGOEGCBA151899'", [("Drinkware", 19.99)]),
]
