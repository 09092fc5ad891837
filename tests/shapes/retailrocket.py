"""RetailRocket: clicks, carts and transactions of a shop, with properties of items that change, as on Kaggle."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from shapes.export_files import write_csv

FIRST = datetime(2015, 5, 3, 3, 0, 4, 384000, tzinfo=UTC)
VISITORS = (257597, 992329, 111016, 483717, 951259, 972639, 810725, 794181, 824915, 339335, 7, 1407579)
ITEMS = (355908, 248676, 318965, 253185, 367447, 22556, 443030, 439202, 428805, 82389)
CATEGORIES = ((1016, 213), (809, 169), (570, 9), (213, 1600), (169, 1600), (9, 1600), (1600, None), (1490, None))
"""Category and the one above it. A root has none."""


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def write(folder: Path) -> list[Path]:
    events = []
    for visit in range(72):
        visitor = VISITORS[(visit * 5 + visit // 12) % 12]
        at = FIRST + timedelta(days=visit // 2, hours=(visit * 7) % 20, milliseconds=311 * visit)
        item = ITEMS[(visit * 3 + visit // 10) % 10]
        events.append((_ms(at), visitor, "view", item, None))
        if visit % 3 == 0:
            events.append((_ms(at + timedelta(minutes=4)), visitor, "addtocart", item, None))
        if visit % 6 == 0:
            # A transaction of one or two items.
            for more in range(1 + visit % 4 // 2):
                later = at + timedelta(minutes=9)
                events.append(
                    (_ms(later), visitor, "transaction", ITEMS[(ITEMS.index(item) + more) % 10], 4000 + visit)
                )
    properties = []
    # The last item has events and no properties.
    for place, item in enumerate(ITEMS[:-1]):
        for week in range(2):
            at = _ms(datetime(2015, 5, 10, 3, tzinfo=UTC) + timedelta(weeks=week))
            category = CATEGORIES[(place + (week if place == 0 else 0)) % 3][0]
            properties += [
                (at, item, "categoryid", category),
                (at, item, "available", (place + week) % 2),
                (at, item, "790", f"n{12000 + 480 * place + 240 * week}.000"),
                (at, item, "888", f"1116713 960601 n277.200 {800000 + place}"),
            ]
    # Sorted by what nobody needs: the published log is in no order of time.
    events.sort(key=lambda event: (event[1] * 7 % 31, event[0]))
    header = "timestamp,itemid,property,value"
    return [
        write_csv(folder / "events.csv", "timestamp,visitorid,event,itemid,transactionid", events),
        write_csv(folder / "item_properties_part1.csv", header, properties[:40]),
        write_csv(folder / "item_properties_part2.csv", header, properties[40:]),
        write_csv(folder / "category_tree.csv", "categoryid,parentid", CATEGORIES),
    ]


RECIPE = '''[source]
time_zone = "UTC"

[inputs.log]
file = "events.csv"
[inputs.properties]
file = "item_properties_part*.csv"
[inputs.tree]
file = "category_tree.csv"

[tables.events]
file = "events.csv"
values = { kind = { addtocart = "cart", transaction = "purchase" } }
[tables.events.columns]
user_id = "visitorid"
item_id = "itemid"
kind = "event"
event_time = "timestamp"
basket_id = "transactionid"

[tables.items]
query = """
WITH last_category AS (
    SELECT itemid, max_by(value, "timestamp"::BIGINT) AS categoryid FROM properties WHERE property = 'categoryid'
    GROUP BY ALL
)
SELECT itemid AS item_id, categoryid AS category, parentid AS department
FROM (SELECT itemid FROM log UNION SELECT itemid FROM properties)
LEFT JOIN last_category USING (itemid) LEFT JOIN tree USING (categoryid)
"""
'''

JUDGED: dict[str, tuple[str, ...]] = {"events": ("user_id", "item_id", "kind", "event_time", "basket_id")}

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    # 72 views, every third put into the cart. Of the twelve transactions every second has two items.
    ("SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1", [("cart", 24), ("purchase", 18), ("view", 72)]),
    (
        "SELECT user_id, item_id, event_time = TIMESTAMPTZ '2015-05-03 03:00:04.384+00' FROM events "
        "WHERE kind = 'view' ORDER BY event_time LIMIT 1",
        [("257597", "355908", True)],
    ),
    ("SELECT count(DISTINCT basket_id), count(basket_id) FROM events", [(12, 18)]),
    # The first item moved from category 1016 to 809 in the second week. The last has no category.
    (
        "SELECT item_id, category, department FROM items WHERE item_id IN ('355908', '82389') ORDER BY 1",
        [("355908", "809", "169"), ("82389", None, None)],
    ),
)
