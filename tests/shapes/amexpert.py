"""AmExpert 2019 (Analytics Vidhya): coupons of a retailer, with a label that says which were redeemed.

Traps: most customers have no demographics; days of campaigns are day/month/two-digit year; discounts are negative;
campaigns and items meet only through the coupons; `test.csv` has pairs without a label.
"""

from datetime import date, timedelta
from pathlib import Path

from shapes.export_files import write_csv

CUSTOMERS = (1501, 464, 1052, 666, 857, 23, 1343, 95, 711, 1180, 302, 6)
ITEMS = (26830, 54253, 31962, 33647, 48199, 57397, 12424, 14930, 16205, 56489)
PRICES = (35.26, 53.43, 106.5, 67.32, 71.24, 35.62, 89.05, 178.1, 17.81, 249.34)
CATEGORIES = ("Grocery", "Pharmaceutical", "Natural Products", "Dairy, Juices & Snacks", "Grocery")
COUPONS = {27: (0, 1), 116: (2, 3, 4), 635: (5,), 644: (6, 7), 1017: (8, 9), 795: (0, 9)}
FIRST_DAY = date(2012, 11, 12)
CAMPAIGNS = (
    (13, "X", "10/12/12", "04/01/13"),
    (9, "Y", "11/02/13", "16/03/13"),
    (8, "X", "16/02/13", "05/04/13"),
    (22, "X", "16/09/13", "18/10/13"),  # of the test pairs: nobody knows yet who redeems
)
TRAIN = (
    # id, campaign_id, coupon_id, customer_id, redemption_status
    (1, 13, 27, 1501, 0),
    (6, 13, 116, 464, 0),
    (7, 9, 635, 1052, 0),
    (9, 8, 644, 666, 0),
    (11, 8, 1017, 857, 0),
    (14, 9, 795, 23, 0),
    (15, 13, 116, 1501, 1),  # a second coupon of campaign 13 for customer 1501
    (17, 13, 27, 1343, 0),
    (19, 9, 635, 95, 1),
    (21, 8, 644, 711, 0),
    (24, 8, 1017, 1180, 0),
    (27, 9, 795, 302, 0),
    (30, 13, 116, 6, 0),
    (33, 13, 27, 666, 0),
    (34, 9, 635, 464, 0),
    (38, 8, 644, 1052, 1),
    (41, 8, 1017, 1501, 0),
    (43, 9, 795, 1343, 0),
    (46, 13, 116, 95, 0),
    (50, 8, 1017, 711, 0),
)


def write(folder: Path) -> list[Path]:
    campaigns = "campaign_id,campaign_type,start_date,end_date"
    demographics = "customer_id,age_range,marital_status,rented,family_size,no_of_children,income_bracket"
    transactions = "date,customer_id,item_id,quantity,selling_price,other_discount,coupon_discount"
    ages, families = ("70+", "46-55", "26-35", "36-45"), (("2", ""), ("1", ""), ("5+", "3+"), ("3", "1"))
    known = [
        (customer, ages[n % 4], ("Married", "", "Single")[n % 3], n % 2, *families[n % 4], 4 + n % 3)
        for n, customer in enumerate(sorted(CUSTOMERS[:7]))
    ]
    items = [(item, 1 + n * 7 % 5, ("Established", "Local")[n % 2], CATEGORIES[n % 5]) for n, item in enumerate(ITEMS)]
    covered = [(coupon, ITEMS[n]) for coupon, places in COUPONS.items() for n in places]
    test = [(3, 22, 644, 464), (4, 22, 1017, 95), (5, 22, 27, 1501), (8, 22, 795, 6)]
    return [
        write_csv(folder / "train.csv", "id,campaign_id,coupon_id,customer_id,redemption_status", TRAIN),
        write_csv(folder / "campaign_data.csv", campaigns, CAMPAIGNS),
        write_csv(folder / "coupon_item_mapping.csv", "coupon_id,item_id", covered),
        write_csv(folder / "customer_demographics.csv", demographics, known),
        write_csv(folder / "customer_transaction_data.csv", transactions, sorted(_transactions())),
        write_csv(folder / "item_data.csv", "item_id,brand,brand_type,category", items),
        write_csv(folder / "test.csv", "id,campaign_id,coupon_id,customer_id", test),
    ]


def _transactions() -> list[tuple[object, ...]]:
    """For 20 weeks every customer shops in each second week, two lines a day."""
    rows: list[tuple[object, ...]] = []
    for week in range(20):
        for n, customer in enumerate(CUSTOMERS):
            if (week + n) % 2:
                continue
            day = (FIRST_DAY + timedelta(weeks=week, days=n % 5)).isoformat()
            for line in range(2):
                item, quantity = (week + n + 3 * line) % len(ITEMS), 1 + (week + line) % 3
                other = -5.34 if week % 4 == 0 else 0.0
                coupon = -8.9 if week == 5 and line == 0 else 0.0
                price = round(PRICES[item] * quantity + other + coupon, 2)
                rows.append((day, customer, ITEMS[item], quantity, price, other, coupon))
    return rows


RECIPE = """\
[source]
time_zone = "UTC"

[inputs.train]
file = "train.csv"

[inputs.coupon_items]
file = "coupon_item_mapping.csv"

[inputs.transactions]
file = "customer_transaction_data.csv"

[inputs.demographics]
file = "customer_demographics.csv"

[tables.events]
file = "customer_transaction_data.csv"
columns = { user_id = "customer_id", event_time = "date", amount = "selling_price", discount = "other_discount" }
constants = { kind = "purchase" }
scale = { discount = -1, coupon_discount = -1 }

[tables.users]
query = '''
SELECT customer_id AS user_id, age_range AS age_band, marital_status, family_size AS household_size,
    no_of_children AS num_children, income_bracket AS income_band
FROM (SELECT customer_id FROM transactions UNION SELECT customer_id FROM train)
LEFT JOIN demographics USING (customer_id)
'''

[tables.items]
file = "item_data.csv"

[tables.campaigns]
file = "campaign_data.csv"
columns = { starts_at = "start_date", ends_at = "end_date" }
formats = { starts_at = "%d/%m/%y", ends_at = "%d/%m/%y" }
constants = { kind = "coupon" }

[tables.campaign_items]
query = "SELECT DISTINCT campaign_id, coupon_id, item_id FROM train JOIN coupon_items USING (coupon_id)"

[tables.targets]
file = "train.csv"
columns = { user_id = "customer_id" }
label = "redemption_status"
"""

JUDGED = {
    "events": ("user_id", "item_id", "kind", "event_time", "quantity", "amount", "discount", "coupon_discount"),
    "users": ("user_id",),
    "items": ("item_id", "category"),
    "campaigns": ("campaign_id", "kind", "starts_at", "ends_at"),
    "campaign_items": ("campaign_id", "item_id", "coupon_id"),
    "targets": ("campaign_id", "user_id"),
    "participations": ("campaign_id", "user_id", "coupon_id"),
}

CHECKS = [
    # 20 weeks, six customers in each, two lines each.
    ("SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) FROM events", [(240, 12, 10)]),
    # Weeks 0, 4, 8, 12 and 16: twelve lines each at 5.34; week 5: six customers at 8.90.
    ("SELECT round(sum(discount), 2), round(sum(coupon_discount), 2) FROM events", [(320.4, 53.4)]),
    # Customer 1501 on the first Monday: 1 x 35.26 - 5.34 and 2 x 67.32 - 5.34.
    (
        "SELECT item_id, quantity, amount FROM events WHERE user_id = '1501' "
        "AND event_time < TIMESTAMPTZ '2012-11-13' ORDER BY quantity",
        [("26830", 1.0, 29.92), ("33647", 2.0, 129.3)],
    ),
    ("SELECT count(*), count(age_band) FROM users", [(12, 7)]),
    # A campaign's last day belongs to it, so its window ends with the next day's midnight.
    (
        "SELECT starts_at::DATE::VARCHAR, ends_at::DATE::VARCHAR FROM campaigns WHERE campaign_id = '13'",
        [("2012-12-10", "2013-01-05")],
    ),
    # 20 pairs with coupons; customers 1501 in campaign 13 and 711 in campaign 8 have two coupons each.
    ("SELECT count(*) FROM targets", [(18,)]),
    (
        "SELECT campaign_id, user_id, coupon_id FROM participations ORDER BY 1",
        [("13", "1501", "116"), ("8", "1052", "644"), ("9", "95", "635")],
    ),
    # Coupons 27 (2 items) and 116 (3) are of campaign 13; 635 (1) and 795 (2) of 9; 644 (2) and 1017 (2) of 8.
    ("SELECT campaign_id, count(*) FROM campaign_items GROUP BY 1 ORDER BY 1", [("13", 5), ("8", 4), ("9", 3)]),
]
