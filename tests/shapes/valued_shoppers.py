"""Acquire Valued Shoppers (Kaggle, 2014): transactions of a year, offers, and who bought the offer's product again.

Traps: no product has an identifier, so category, company and brand together are one; returns are negative; the history
says who came back, not when; `repeattrips` is an outcome, too; `testHistory.csv` has no label.
"""

from datetime import date, timedelta
from pathlib import Path

from shapes.export_files import write_csv

CUSTOMERS = (86246, 86252, 12262064, 12277270, 12332190, 12682470, 12996040, 13089312, 13179265, 13251776, 13540129,
             13807224)  # fmt: skip
# dept, category, company, brand, productsize, productmeasure, price of one unit
PRODUCTS = (
    (7, 707, 1078778070, 12564, 12, "OZ", 7.59), (63, 6319, 107654575, 17876, 64, "OZ", 1.59),
    (97, 9753, 1022027929, 0, 1, "CT", 5.99), (25, 2509, 107996777, 31373, 16, "OZ", 1.99),
    (55, 5555, 107684070, 32094, 16, "OZ", 2.5), (91, 9115, 108500080, 93904, 40, "OZ", 4.25),
    (32, 3203, 106414464, 13474, 9.6, "OZ", 3.0), (37, 3703, 108079383, 26189, 5, "LB", 6.75),
)  # fmt: skip
# offer, place of its product, quantity, offervalue
OFFERS = ((1190530, 5, 1, 5), (1197502, 6, 1, 0.75), (1204576, 7, 1, 1), (1208251, 0, 1, 2))
FIRST_DAY = date(2012, 3, 2)
TRAIN = (
    # id, chain, offer, market, repeattrips, repeater, offerdate
    (86246, 205, 1190530, 34, 5, "t", "2013-04-24"),
    (86252, 205, 1197502, 34, 16, "t", "2013-03-27"),
    (12682470, 18, 1197502, 11, 0, "f", "2013-03-28"),
    (12996040, 15, 1197502, 9, 0, "f", "2013-03-25"),
    (13089312, 15, 1204576, 9, 0, "f", "2013-04-01"),
    (13179265, 14, 1204576, 8, 1, "t", "2013-04-05"),
    (13251776, 14, 1190530, 8, 0, "f", "2013-04-19"),
    (13540129, 14, 1190530, 8, 0, "f", "2013-04-22"),
    (13807224, 4, 1204576, 1, 0, "f", "2013-04-05"),
)


def write(folder: Path) -> list[Path]:
    sold = "id,chain,dept,category,company,brand,date,productsize,productmeasure,purchasequantity,purchaseamount"
    offers = [
        (offer, PRODUCTS[n][1], units, PRODUCTS[n][2], worth, PRODUCTS[n][3]) for offer, n, units, worth in OFFERS
    ]
    test = [(12262064, 95, 1208251, 39, "2013-06-27"), (12277270, 95, 1208251, 39, "2013-06-23"),
            (12332190, 95, 1208251, 39, "2013-06-15")]  # fmt: skip
    history = "id,chain,offer,market"
    return [
        write_csv(folder / "transactions.csv", sold, _transactions()),
        write_csv(folder / "offers.csv", "offer,category,quantity,company,offervalue,brand", offers),
        write_csv(folder / "trainHistory.csv", f"{history},repeattrips,repeater,offerdate", TRAIN),
        write_csv(folder / "testHistory.csv", f"{history},offerdate", test),
    ]


def _transactions() -> list[tuple[object, ...]]:
    """Everyone shops 22 times, every three weeks: two products, the second one in several units. Some come back."""
    chains = {row[0]: row[1] for row in TRAIN}
    rows: list[tuple[object, ...]] = []
    for n, customer in enumerate(CUSTOMERS):
        for visit in range(22):
            day = FIRST_DAY + timedelta(days=21 * visit + n)
            for place in range(2):
                *product, size, measure, price = PRODUCTS[(n + visit + 3 * place) % len(PRODUCTS)]
                units = 1 + place * (visit % 3)
                sold = (customer, chains.get(customer, 95), *product, day.isoformat(), size, measure)
                rows.append((*sold, units, round(price * units, 2)))
                if visit == 8 and place == 1 and n % 4 == 0:
                    later = (day + timedelta(days=3)).isoformat()
                    rows.append((*sold[:6], later, size, measure, -1, -price))
    return sorted(rows, key=lambda row: (row[0], row[6]))


RECIPE = """\
[source]
time_zone = "UTC"
currency = "USD"

[inputs]
transactions = { file = "transactions.csv" }
offers = { file = "offers.csv" }
history = { file = "trainHistory.csv" }

[tables.events]
query = '''
SELECT id AS user_id, date AS event_time, category || '-' || company || '-' || brand AS item_id,
    purchasequantity AS quantity, purchaseamount AS amount, chain AS store_id,
    id || '-' || chain || '-' || date AS basket_id
FROM transactions
'''
constants = { kind = "purchase" }

[tables.items]
query = '''
SELECT category || '-' || company || '-' || brand AS item_id, max(dept) AS department, category, brand,
    company AS manufacturer
FROM (SELECT dept, category, company, brand FROM transactions
    UNION ALL SELECT NULL, category, company, brand FROM offers)
GROUP BY category, company, brand
'''

[tables.campaigns]
query = '''
SELECT offer AS campaign_id, min(offerdate) AS starts_at, max(offerdate)::DATE + 30 AS ends_at
FROM history GROUP BY offer
'''
constants = { kind = "coupon" }

[tables.campaign_items]
query = '''
SELECT offer AS campaign_id, category || '-' || company || '-' || brand AS item_id
FROM offers WHERE offer IN (SELECT offer FROM history)
'''

[tables.targets]
query = '''
SELECT id AS user_id, offer AS campaign_id, offerdate AS targeted_at, offerdate::DATE + 30 AS participated_at, repeater
FROM history
'''
columns = { participated_at = "participated_at" }
label = "repeater"
"""

JUDGED = {
    "events": ("user_id", "item_id", "kind", "event_time", "quantity", "amount", "store_id"),
    "campaigns": ("campaign_id",),
    "campaign_items": ("campaign_id", "item_id"),
    "targets": ("campaign_id", "user_id", "targeted_at"),
    "participations": ("campaign_id", "user_id"),
}

CHECKS = [
    # 12 customers, 22 visits, two lines; three customers bring one unit back.
    ("SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1", [("purchase", 528), ("return", 3)]),
    ("SELECT count(DISTINCT user_id), count(DISTINCT item_id) FROM events", [(12, 8)]),
    # The first customer's visit 8 is on day 168: three units of the fourth product, of which one comes back.
    ("SELECT item_id, event_time::DATE::VARCHAR, quantity, amount, round(returned_share, 4) FROM events "
     "WHERE user_id = '86246' AND returned_share > 0", [("2509-107996777-31373", "2012-08-17", 3.0, 5.97, 0.3333)]),
    ("SELECT campaign_id, count(*) FROM targets GROUP BY 1 ORDER BY 1",
     [("1190530", 3), ("1197502", 3), ("1204576", 3)]),
    ("SELECT campaign_id, user_id, participated_at::DATE::VARCHAR FROM participations ORDER BY 1",
     [("1190530", "86246", "2013-05-24"), ("1197502", "86252", "2013-04-26"), ("1204576", "13179265", "2013-05-05")]),
    ("SELECT campaign_id, item_id FROM campaign_items ORDER BY 1",
     [("1190530", "9115-108500080-93904"), ("1197502", "3203-106414464-13474"), ("1204576", "3703-108079383-26189")]),
    ("SELECT starts_at::DATE::VARCHAR, ends_at::DATE::VARCHAR FROM campaigns WHERE campaign_id = '1197502'",
     [("2013-03-25", "2013-04-28")]),
]  # fmt: skip
