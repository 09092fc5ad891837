"""Klaviyo: the CSV of sent campaigns and of a list's profiles, and what the API gives as events and metrics.

The events are the items of `data` of `GET /api/events`, one on each line; their kind is the name of a metric, which
`GET /api/metrics` has. Traps: `Placed Order` is a whole order and `Ordered Product` its lines, so one of them counts;
emails of flows are no campaigns; a campaign has a time of sending and no end.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from shapes.export_files import Record, write_csv, write_json_lines

PROFILES = tuple(f"01HQ{n:02}V7K3M9XQ2T5B8WJ4RZ6PNC" for n in range(1, 13))
PRODUCTS = (
    ("7001", "Green Tea 100 g", "Leaf & Co", 9.5), ("7002", "Black Tea 100 g", "Leaf & Co", 8.25),
    ("7003", "Glass Teapot", "Clarity", 34.0), ("7004", "Stoneware Cup", "Clarity", 12.4),
    ("7005", "Acacia Honey", "Hive", 7.8), ("7006", "Red Tin", "Leaf & Co", 5.0),
)  # fmt: skip
METRICS = {
    "Received Email": "UMTLbD", "Opened Email": "VxKp2n", "Clicked Email": "Tq3WrS", "Viewed Product": "RsBk7L",
    "Placed Order": "WdPq5M", "Ordered Product": "Yc8JtE", "Subscribed to List": "SbLs4T",
}  # fmt: skip
CAMPAIGNS = (
    ("01HR0A6SPRINGTEA8K2M4X7Q9T", "Spring Tea", datetime(2024, 3, 5, 10, tzinfo=UTC)),
    ("01HRJ3B2POTSANDCUPS5V8N1WZ", "Pots, Cups & More", datetime(2024, 3, 14, 10, tzinfo=UTC)),
    ("01HS4C9EASTERHONEY7D3F6G2H", "Easter Honey", datetime(2024, 3, 26, 10, tzinfo=UTC)),
)
FLOW_MESSAGE = "01HB2WELCOMESERIES1J5K8L3P"
FIRST_DAY = datetime(2024, 2, 1, 12, tzinfo=UTC)


def write(folder: Path) -> list[Path]:
    report = (
        "Campaign Name,Tags,Subject,List,Send Time,Send Weekday,Total Recipients,Unique Placed Order,Placed Order Rate,"
        "Revenue,Unique Opens,Open Rate,Total Opens,Unique Clicks,Click Rate,Total Clicks,Unsubscribes,Spam Complaints,"
        "Spam Complaints Rate,Successful Deliveries,Bounces,Bounce Rate,Campaign ID,Campaign Channel"
    )
    sent = [
        (name, "Email, promo", f"{name} is here 🌱", "Newsletter", f"{at:%Y-%m-%d %H:%M:%S}", f"{at:%A}", "8.0", "2.0",
         "25.00%", "61.30", "6.0", "75.00%", "9.0", "4.0", "50.00%", "5.0", "0.0", "0.0", "0.00%", "8.0", "0.0",
         "0.00%", campaign, "Email")
        for campaign, name, at in CAMPAIGNS
    ]  # fmt: skip
    people = [
        (f"user{n}@example.com", profile, "", "", ("Berlin", "Leipzig", "")[n % 3], "", "Germany", "", "Footer form",
         "SUBSCRIBED" if n % 4 else "NEVER_SUBSCRIBED", "2023-11-05 08:12:44", "2023-11-05 08:12:45")
        for n, profile in enumerate(PROFILES[:-1])  # the last one left the list
    ]  # fmt: skip
    profiles = (
        "Email,Klaviyo ID,First Name,Last Name,City,State / Region,Country,Zip Code,Source,Email Marketing Consent,"
        "Profile Created On,Date Added"
    )
    metrics = [
        {"type": "metric", "id": id_, "attributes": {"name": name, "created": "2023-01-02T00:00:00+00:00"}}
        for name, id_ in METRICS.items()
    ]
    return [
        write_csv(folder / "campaigns.csv", report, sent),
        write_csv(folder / "newsletter_list.csv", profiles, people),
        write_json_lines(folder / "metrics.jsonl", metrics),
        write_json_lines(folder / "events.jsonl", _events()),
    ]


def _events() -> list[Record]:
    events: list[tuple[datetime, str, int, Record]] = []
    for n in range(len(PROFILES)):
        signup = FIRST_DAY + timedelta(hours=n)
        events.append((signup, "Subscribed to List", n, {"List": "Newsletter"}))
        events.append((signup + timedelta(minutes=5), "Received Email", n, _email(FLOW_MESSAGE, "Welcome", "XwF7kQ")))
        for week in range(8):
            at = FIRST_DAY + timedelta(weeks=week, days=n % 5, hours=n)
            _visit(events, n, week, at, None)
    for number, (campaign, name, sent) in enumerate(CAMPAIGNS):
        for n in range(8):
            who, at = (n + 3 * number) % len(PROFILES), sent + timedelta(seconds=7 * n)
            events.append((at, "Received Email", who, _email(campaign, name)))
            if n % 4 != 3:
                events.append((at + timedelta(hours=2), "Opened Email", who, _email(campaign, name)))
            if n % 2 == 0:
                click = _email(campaign, name) | {"URL": "https://tea.example/sale"}
                events.append((at + timedelta(hours=2, minutes=1), "Clicked Email", who, click))
            if n % 4 == 0:
                _visit(events, who, number, at + timedelta(hours=3), campaign)
    return [_event(number, *event) for number, event in enumerate(sorted(events, key=lambda event: event[0]))]


def _visit(events: list[tuple[datetime, str, int, Record]], n: int, turn: int, at: datetime, via: str | None) -> None:
    """Two products are viewed; in each second visit, and in all after a click, both are bought, one several times."""
    bought = []
    for place in range(2):
        id_, name, brand, price = PRODUCTS[(n + turn + 2 * place) % len(PRODUCTS)]
        seen = {"ProductName": name, "ProductID": id_, "Brand": brand, "Price": price}
        events.append((at + timedelta(minutes=place), "Viewed Product", n, seen))
        bought.append((id_, name, brand, price, 1 + place * (turn % 3)))
    if turn % 2 and via is None:
        return
    order = f"{1000 + 20 * n + turn}" + ("" if via is None else "-E")
    source: Record = {} if via is None else {"$attribution": {"$message": via, "$attributed_event_id": "4vRpBT"}}
    total = round(sum(price * units for *_, price, units in bought), 2)
    whole = {"OrderId": order, "ItemNames": [one[2] for one in bought], "$value": total, "$currency_code": "EUR"}
    events.append((at + timedelta(minutes=9), "Placed Order", n, whole | source))
    for id_, name, brand, price, units in bought:
        line = {"OrderId": order, "ProductID": id_, "ProductName": name, "ProductBrand": brand,
                "Quantity": units, "$value": round(price * units, 2), "$currency_code": "EUR"}  # fmt: skip
        events.append((at + timedelta(minutes=9), "Ordered Product", n, line | source))


def _email(message: str, name: str, flow: str | None = None) -> Record:
    sent: Record = {"$message": message, "Campaign Name": name, "Subject": f"{name} is here 🌱",
                    "Email Domain": "example.com"}  # fmt: skip
    return sent if flow is None else sent | {"$flow": flow}


def _event(number: int, at: datetime, metric: str, n: int, properties: Record) -> Record:
    attributes: Record = {"timestamp": int(at.timestamp()), "event_properties": properties,
                  "datetime": f"{at:%Y-%m-%d %H:%M:%S}+00:00", "uuid": f"{number:08x}-374e-11ee-8001"}  # fmt: skip
    profile = {"data": {"type": "profile", "id": PROFILES[n]}}
    kind = {"data": {"type": "metric", "id": METRICS[metric]}}
    return {"type": "event", "id": f"5{number:05}xQ", "attributes": attributes,
            "relationships": {"profile": profile, "metric": kind}}  # fmt: skip


RECIPE = """\
[source]
time_zone = "UTC"
currency = "EUR"

[inputs]
events = { file = "events.jsonl" }
metrics = { file = "metrics.jsonl" }
sent = { file = "campaigns.csv" }
profiles = { file = "newsletter_list.csv" }

[tables.events]
query = '''
SELECT e.id AS event_id, e.relationships.profile.data.id AS user_id, m.attributes.name AS kind,
    e.attributes.datetime AS event_time, e.attributes.event_properties.ProductID AS item_id,
    e.attributes.event_properties.OrderId AS basket_id, e.attributes.event_properties.Quantity AS quantity,
    e.attributes.event_properties."$value" AS amount, s."Campaign ID" AS campaign_id
FROM events e JOIN metrics m ON m.id = e.relationships.metric.data.id
LEFT JOIN sent s ON s."Campaign ID" = coalesce(
    e.attributes.event_properties."$message", e.attributes.event_properties."$attribution"."$message")
'''
[tables.events.values.kind]
"Ordered Product" = "purchase"
"Placed Order" = "ignore"
"Viewed Product" = "view"
"Opened Email" = "view"
"Clicked Email" = "click"
"Received Email" = "ignore"
"Subscribed to List" = "ignore"

[tables.users]
query = '''
SELECT user_id, p."Profile Created On" AS joined_at, p.City AS region
FROM (SELECT DISTINCT relationships.profile.data.id AS user_id FROM events)
LEFT JOIN profiles p ON p."Klaviyo ID" = user_id
'''

[tables.items]
query = '''
SELECT p.ProductID AS item_id, max(p.ProductName) AS name, max(coalesce(p.ProductBrand, p.Brand)) AS brand,
    max(p.Price) AS price
FROM (SELECT attributes.event_properties AS p FROM events) WHERE p.ProductID IS NOT NULL GROUP BY ALL
'''

[tables.campaigns]
query = '''
SELECT "Campaign ID" AS campaign_id, "Campaign Name" AS name, "Send Time" AS starts_at,
    "Send Time"::TIMESTAMP + INTERVAL 5 DAY AS ends_at
FROM sent
'''
constants = { kind = "promotion" }

[tables.campaign_items]
query = '''
SELECT s."Campaign ID" AS campaign_id, item_id
FROM sent s, (SELECT DISTINCT attributes.event_properties.ProductID AS item_id FROM events) WHERE item_id IS NOT NULL
'''

[tables.targets]
query = '''
SELECT e.attributes.event_properties."$message" AS campaign_id, e.relationships.profile.data.id AS user_id,
    min(e.attributes.datetime) AS targeted_at
FROM events e JOIN metrics m ON m.id = e.relationships.metric.data.id
JOIN sent s ON s."Campaign ID" = e.attributes.event_properties."$message"
WHERE m.attributes.name = 'Received Email'
GROUP BY ALL
'''
"""

JUDGED = {
    "events": ("user_id", "item_id", "kind", "event_time", "quantity", "amount", "basket_id", "campaign_id"),
    "users": ("user_id",),
    "campaigns": ("campaign_id", "kind", "starts_at"),
    "targets": ("campaign_id", "user_id"),
}

CHECKS = [
    # 12 people, 8 weeks, two products viewed and in 4 weeks bought; 2 x 2 more of both after each of 3 campaigns.
    # Of 8 emails 6 are opened and 4 are clicked.
    ("SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1", [("click", 12), ("purchase", 108), ("view", 222)]),
    # The first person's first visit: one Green Tea, one Teapot.
    ("SELECT item_id, quantity, amount, campaign_id FROM events WHERE basket_id = '1000' ORDER BY 1",
     [("7001", 1.0, 9.5, None), ("7003", 1.0, 34.0, None)]),
    # The third campaign goes to persons 6 to 13 modulo 12. Persons 6 and 10 buy: the third product at turn 2.
    ("SELECT item_id, quantity, amount FROM events WHERE basket_id = '1122-E' ORDER BY 1",
     [("7003", 1.0, 34.0), ("7005", 3.0, 23.4)]),
    ("SELECT count(*), count(joined_at) FROM users", [(12, 11)]),
    ("SELECT campaign_id, count(*) FROM targets GROUP BY 1 ORDER BY 1", [(one[0], 8) for one in CAMPAIGNS]),
    ("SELECT campaign_id, user_id FROM participations ORDER BY 1, 2",
     [(one[0], PROFILES[(n + 3 * number) % 12]) for number, one in enumerate(CAMPAIGNS) for n in (0, 4)]),
    ("SELECT ends_at = TIMESTAMPTZ '2024-03-10 10:00:00+00' FROM campaigns WHERE name = 'Spring Tea'", [(True,)]),
]  # fmt: skip
