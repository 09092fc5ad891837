"""Mailchimp: the CSV of all campaign reports, and what the API gives as email activity and orders of the shop.

The activity is the items of `emails` of `GET /reports/{campaign}/email-activity`, one on each line; the orders those of
`GET /ecommerce/orders`. Traps: times of sending such as "Mar 05, 2024 10:00 am"; the list `activity` is empty for those
who did nothing, who are targets too; an email that bounced reached nobody; a line's price is for one unit and its
discount for the line; refunded orders stay in the list; n/a stands for a missing value.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from shapes.export_files import Record, write_csv, write_json_lines

USERS = tuple(
    f"{name}@example.com"
    for name in ("ada", "ben", "cleo", "dan", "eva", "finn", "gina", "hugo", "ida", "jon", "kim", "lea")
)
PRODUCTS = (
    ("P-101", "Linen Shirt", 39.0), ("P-102", "Wool Scarf", 25.5), ("P-103", "Canvas Bag", 18.0),
    ("P-104", "Leather Belt", 31.25), ("P-105", "Cotton Socks", 6.4), ("P-106", "Rain Jacket", 79.9),
)  # fmt: skip
CAMPAIGNS = (
    ("17671f6028", "Spring Styles", datetime(2024, 3, 5, 10, tzinfo=UTC)),
    ("42694e9e57", "Rainy Days", datetime(2024, 3, 14, 18, 30, tzinfo=UTC)),
    ("839488a60b", "Last Chance", datetime(2024, 3, 26, 9, 15, tzinfo=UTC)),
)
FIRST_DAY = datetime(2024, 1, 24, 8, tzinfo=UTC)
REPORT = (
    "Title,Subject,List,Send Date,Send Weekday,Total Recipients,Successful Deliveries,Soft Bounces,Hard Bounces,"
    "Total Bounces,Times Forwarded,Forwarded Opens,Unique Opens,Open Rate,Total Opens,Unique Clicks,Click Rate,"
    "Total Clicks,Unsubscribes,Abuse Complaints,Times Liked on Facebook,Folder Id,Unique Id,Total Orders,"
    "Total Gross Sales,Total Revenue,Analytics ROI,Campaign Cost,Revenue Created,Visits,New Visits,Pages/Visit,"
    "Bounce Rate,Time on Site,Goal Conversion Rate,Per Visit Goal Value,Transactions,Ecommerce Conversion Rate,"
    "Per Visit Value,Average Value"
)


def write(folder: Path) -> list[Path]:
    sent = [
        (title, f"{title} are here", "Newsletter", f"{at:%b %d, %Y %I:%M} {f'{at:%p}'.lower()}", f"{at:%A}", 8,
         7, 1, 0, 1, 0, 0, 5, "71.43%", 6, 3, "42.86%", 3, 0, 0, 0, 0, id_, 2, 90, 90, *["n/a"] * 14)
        for id_, title, at in reversed(CAMPAIGNS)
    ]  # fmt: skip
    return [
        write_csv(folder / "campaigns.csv", REPORT, sent),
        write_json_lines(folder / "email_activity.jsonl", _activity()),
        write_json_lines(folder / "orders.jsonl", _orders()),
    ]


def _activity() -> list[Record]:
    """Each campaign goes to eight users: one bounces, five open, three of these click."""
    records: list[Record] = []
    for number, (campaign, _, sent) in enumerate(CAMPAIGNS):
        for n in range(8):
            user, at = USERS[(n + 3 * number) % len(USERS)], sent + timedelta(hours=1 + n, minutes=7 * n)
            done: list[Record] = []
            if n == 7:
                done.append({"action": "bounce", "type": "soft", "timestamp": f"{sent:%Y-%m-%dT%H:%M:%S}+00:00"})
            elif n < 5:
                done.append({"action": "open", "timestamp": f"{at:%Y-%m-%dT%H:%M:%S}+00:00", "ip": "198.51.100.7"})
            if n < 3:
                at += timedelta(minutes=1)
                done.append({"action": "click", "url": "https://shop.example/new", "ip": "198.51.100.7",
                             "timestamp": f"{at:%Y-%m-%dT%H:%M:%S}+00:00"})  # fmt: skip
            records.append({"campaign_id": campaign, "list_id": "57afe96172", "list_is_active": True,
                            "email_id": f"{number}{n:031}", "email_address": user, "activity": done})  # fmt: skip
    return records


def _orders() -> list[Record]:
    """Each user orders once a week for nine weeks; the first two of each campaign's readers order through it, too."""
    orders = []
    for n in range(len(USERS)):
        for week in range(9):
            at = FIRST_DAY + timedelta(weeks=week, days=n % 6, hours=n)
            status = "refunded" if (n + week) % 10 == 9 else "paid"
            orders.append(_order(f"S{1000 + 20 * n + week}", n, week, at, status, None))
    for number, (campaign, _, sent) in enumerate(CAMPAIGNS):
        for n in range(2):
            who, at = (n + 3 * number) % len(USERS), sent + timedelta(days=1, hours=n)
            orders.append(_order(f"C{number}{n}", who, number, at, "paid", campaign))
    return orders


def _order(order: str, n: int, turn: int, at: datetime, status: str, campaign: str | None) -> Record:
    lines: list[Record] = []
    for place in range(2):
        product, title, price = PRODUCTS[(n + turn + 2 * place) % len(PRODUCTS)]
        lines.append({"id": f"{order}-{place}", "product_id": product, "product_title": title,
                      "product_variant_id": f"{product}-M", "product_variant_title": title,
                      "quantity": 1 + place * (turn % 3), "price": price,
                      "discount": 2.5 if turn == 4 else 0})  # fmt: skip
    total = round(sum(float(str(one["price"])) * int(str(one["quantity"])) for one in lines), 2)
    record: Record = {
        "id": order,
        "customer": {"id": f"cus_{n}", "email_address": USERS[n], "opt_in_status": True},
        "store_id": "store_1", "financial_status": status, "currency_code": "EUR", "order_total": total,
        "tax_total": 0, "shipping_total": 0, "processed_at_foreign": f"{at:%Y-%m-%dT%H:%M:%S}+00:00",
        "updated_at_foreign": f"{at + timedelta(days=3):%Y-%m-%dT%H:%M:%S}+00:00", "lines": lines,
    }  # fmt: skip
    return record if campaign is None else record | {"campaign_id": campaign}


RECIPE = """\
[source]
time_zone = "UTC"
currency = "EUR"

[inputs.sent]
file = "campaigns.csv"

[inputs.activity]
file = "email_activity.jsonl"

[inputs.orders]
file = "orders.jsonl"

[[tables.events]]
query = '''
SELECT line.id AS event_id, customer.email_address AS user_id, processed_at_foreign AS event_time, id AS basket_id,
    line.product_id AS item_id, line.quantity, line.price * line.quantity - line.discount AS amount, line.discount,
    campaign_id
FROM (SELECT *, unnest(lines) AS line FROM orders) WHERE financial_status NOT IN ('refunded', 'cancelled')
'''
constants = { kind = "purchase" }

[[tables.events]]
query = '''
SELECT email_id || '-' || row_number() OVER (PARTITION BY email_id ORDER BY act.timestamp, act.action) AS event_id,
    email_address AS user_id, act.action AS kind, act.timestamp AS event_time, campaign_id
FROM (SELECT *, unnest(activity) AS act FROM activity)
'''
values = { kind = { open = "view", click = "click", bounce = "ignore" } }

[tables.items]
query = '''
SELECT line.product_id AS item_id, max(line.product_title) AS name, max(line.price) AS price
FROM (SELECT unnest(lines) AS line FROM orders) GROUP BY ALL
'''

[tables.campaigns]
query = '''
SELECT "Unique Id" AS campaign_id, Title AS name, "Send Date" AS starts_at,
    strptime("Send Date", '%b %d, %Y %I:%M %p') + INTERVAL 7 DAY AS ends_at
FROM sent
'''
constants = { kind = "promotion" }

[tables.campaign_items]
query = '''
SELECT DISTINCT "Unique Id" AS campaign_id, line.product_id AS item_id
FROM sent, (SELECT unnest(lines) AS line FROM orders)
'''

[tables.targets]
query = '''
SELECT campaign_id, email_address AS user_id FROM activity
WHERE len(list_filter(activity, act -> act.action = 'bounce')) = 0
'''
"""

JUDGED = {
    "events": ("user_id", "item_id", "kind", "event_time", "quantity", "amount", "basket_id", "campaign_id"),
    "campaigns": ("campaign_id", "kind", "starts_at"),
    "targets": ("campaign_id", "user_id"),
}

CHECKS = [
    # 12 users, 9 weeks, 2 lines; less 10 refunded orders (n + week is 9 in nine and 19 in one); 6 of campaigns.
    (
        "SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1",
        [("click", 9), ("purchase", 208), ("view", 15)],
    ),
    # The first user's third week: one unit of the third product, three units of the fifth.
    (
        "SELECT item_id, quantity, amount, discount FROM events WHERE basket_id = 'S1002' ORDER BY 1",
        [("P-103", 1.0, 18.0, 0.0), ("P-105", 3.0, 19.2, 0.0)],
    ),
    # The fifth week has a discount of 2.50 on each line, and two units of the second.
    (
        "SELECT item_id, quantity, amount, discount FROM events WHERE basket_id = 'S1004' ORDER BY 1",
        [("P-101", 2.0, 75.5, 2.5), ("P-105", 1.0, 3.9, 2.5)],
    ),
    ("SELECT campaign_id, count(*) FROM targets GROUP BY 1 ORDER BY 1", [(one[0], 7) for one in CAMPAIGNS]),
    (
        "SELECT user_id FROM participations WHERE campaign_id = '42694e9e57' ORDER BY 1",
        [("dan@example.com",), ("eva@example.com",)],
    ),
    (
        "SELECT starts_at = TIMESTAMPTZ '2024-03-14 18:30:00+00', ends_at = TIMESTAMPTZ '2024-03-21 18:30:00+00' "
        "FROM campaigns WHERE name = 'Rainy Days'",
        [(True, True)],
    ),
]
