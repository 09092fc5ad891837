"""dunnhumby "The Complete Journey", the raw CSV files: a grocer's households, two years by day numbers, and coupons."""

from collections.abc import Iterator
from pathlib import Path

from shapes.export_files import write_csv

HOUSEHOLDS = (1, 7, 8, 13, 16, 22, 25, 40, 101, 204, 1017, 2500)
DEMOGRAPHICS = (
    ("65+", "A", "35-49K", "Homeowner", "2 Adults No Kids", "2", "None/Unknown", 1),
    ("45-54", "A", "50-74K", "Homeowner", "2 Adults No Kids", "2", "None/Unknown", 7),
    ("25-34", "U", "25-34K", "Unknown", "2 Adults Kids", "3", "1", 8),
    ("25-34", "U", "75-99K", "Homeowner", "2 Adults Kids", "4", "2", 13),
    ("45-54", "B", "50-74K", "Homeowner", "Single Female", "1", "None/Unknown", 16),
)
PRODUCTS = (
    (1004906, 69, "PRODUCE", "Private", "POTATOES", "POTATOES RUSSET (BULK&BAG)", "5 LB", 1.39),
    (1033142, 2, "PRODUCE", "National", "ONIONS", "ONIONS SWEET (BULK&BAG)", "40 LB", 0.82),
    (1036325, 69, "PRODUCE", "Private", "VEGETABLES - ALL OTHERS", "CELERY", " ", 0.99),
    (1082185, 2, "PRODUCE", "National", "TROPICAL FRUIT", "BANANAS", "40 LB", 1.21),
    (8160430, 764, "GROCERY", "National", "SOFT DRINKS", "SOFT DRINKS 12/18&15PK CAN CAR", "12 OZ", 3.49),
    (826249, 69, "GROCERY", "Private", "BAKED BREAD/BUNS/ROLLS", "HAMBURGER BUNS", "12 OZ", 1.98),
    (1043142, 1251, "DRUG GM", "National", "GREETING CARDS/WRAP/PARTY SPLY", "CARDS SEASONAL", " ", 1.57),
    (1085983, 103, "MEAT-PCKGD", "National", "LUNCHMEAT", "LUNCHMEAT - DELI", "16 OZ", 4.25),
)
CAMPAIGNS = (("TypeB", 24, 219, 250), ("TypeA", 26, 224, 264), ("TypeC", 13, 260, 285))
TARGETED = {24: range(6), 26: range(2, 10), 13: range(0, 12, 2)}
"""Campaign -> places of its households in HOUSEHOLDS."""
COUPONS = {24: ((10000089238, (0, 1, 2)), (10000085364, (3, 4))), 26: ((51700010076, (4, 5, 6)),)}
COUPONS |= {13: ((10000085475, (0, 1, 2, 3)), (54200000033, (6, 7)))}
"""Campaign -> coupons -> places of the covered products in PRODUCTS."""


def _redemption(place: int, day: int, product: int) -> tuple[int, int] | None:
    """Campaign and coupon that every third household's purchase of a covered product in the window uses."""
    for _, campaign, start, end in CAMPAIGNS:
        for coupon, covered in COUPONS[campaign]:
            if place in TARGETED[campaign] and place % 3 == 0 and start <= day <= end and product in covered:
                return campaign, coupon
    return None


def _visits() -> Iterator[tuple[int, int, int]]:
    """Place of the household, number of its visit, day."""
    for place in range(len(HOUSEHOLDS)):
        for number, day in enumerate(range(200 + place, 290, 9 + place % 4)):
            yield place, number, day


def write(folder: Path) -> list[Path]:
    lines, redemptions = [], []
    for basket, (place, number, day) in enumerate(_visits()):
        for extra in range(1 + (number % 2)):
            product = (place + number + 3 * extra) % len(PRODUCTS)
            used = None if extra else _redemption(place, day, product)
            quantity = 1 if extra else 1 + number % 3
            off = 0.4 * quantity if number % 4 == 0 else 0.0
            time = f"{7 + (3 * place + number) % 14:02d}{(7 * place + 13 * number) % 60:02d}"
            coupon_off, match = "-0.5" if used else "0", "-0.25" if used and number % 2 else "0"
            lines.append(
                (HOUSEHOLDS[place], 26984851472 + basket, day, PRODUCTS[product][0], quantity,
                 f"{quantity * PRODUCTS[product][-1] - off:.2f}", 364 + place % 3, f"{-off:g}" if off else "0",
                 time, (day + 8) // 7, coupon_off, match)
            )  # fmt: skip
            if used:
                redemptions.append((HOUSEHOLDS[place], day, used[1], used[0]))
    coupons = [
        (coupon, PRODUCTS[product][0], campaign)
        for campaign, some in COUPONS.items()
        for coupon, covered in some
        for product in covered
    ]
    targets = [
        (kind, HOUSEHOLDS[place], campaign) for kind, campaign, _, _ in CAMPAIGNS for place in TARGETED[campaign]
    ]
    causal = [(product[0], 364 + n % 3, 30 + n % 6, n % 7, "AADF0"[n % 5]) for n, product in enumerate(PRODUCTS * 2)]
    headers = {
        "transaction_data": "household_key,BASKET_ID,DAY,PRODUCT_ID,QUANTITY,SALES_VALUE,STORE_ID,RETAIL_DISC,"
        "TRANS_TIME,WEEK_NO,COUPON_DISC,COUPON_MATCH_DISC",
        "product": "PRODUCT_ID,MANUFACTURER,DEPARTMENT,BRAND,COMMODITY_DESC,SUB_COMMODITY_DESC,CURR_SIZE_OF_PRODUCT",
        "hh_demographic": "AGE_DESC,MARITAL_STATUS_CODE,INCOME_DESC,HOMEOWNER_DESC,HH_COMP_DESC,HOUSEHOLD_SIZE_DESC,"
        "KID_CATEGORY_DESC,household_key",
        "campaign_desc": "DESCRIPTION,CAMPAIGN,START_DAY,END_DAY",
        "campaign_table": "DESCRIPTION,household_key,CAMPAIGN",
        "coupon": "COUPON_UPC,PRODUCT_ID,CAMPAIGN",
        "coupon_redempt": "household_key,DAY,COUPON_UPC,CAMPAIGN",
        "causal_data": "PRODUCT_ID,STORE_ID,WEEK_NO,display,mailer",
    }
    rows = {
        "transaction_data": lines,
        "product": [product[:-1] for product in PRODUCTS],
        "hh_demographic": DEMOGRAPHICS,
        "campaign_desc": CAMPAIGNS,
        "campaign_table": targets,
        # The published file holds some rows twice.
        "coupon": [*coupons, coupons[0]],
        "coupon_redempt": redemptions,
        "causal_data": causal,
    }
    return [write_csv(folder / f"{name}.csv", headers[name], rows[name]) for name in headers]


RECIPE = '''[source]
time_zone = "UTC"
currency = "USD"

[inputs.transactions]
file = "transaction_data.csv"
[inputs.demographics]
file = "hh_demographic.csv"
[inputs.mailings]
file = "campaign_table.csv"
[inputs.coupons]
file = "coupon.csv"

[tables.events]
query = """
SELECT household_key AS user_id, BASKET_ID AS basket_id, PRODUCT_ID AS item_id, STORE_ID AS store_id,
    TIMESTAMP '2016-01-01' + to_days(DAY::INT - 1) + to_hours(lpad(TRANS_TIME, 4, '0')[:2]::INT)
        + to_minutes(lpad(TRANS_TIME, 4, '0')[3:]::INT) AS event_time,
    CASE WHEN QUANTITY::DOUBLE <= 1000 THEN QUANTITY END AS quantity,
    greatest(SALES_VALUE::DOUBLE + COUPON_DISC::DOUBLE, 0) AS amount,
    abs(RETAIL_DISC::DOUBLE) AS discount,
    abs(COUPON_DISC::DOUBLE + COUPON_MATCH_DISC::DOUBLE) AS coupon_discount
FROM transactions
"""
constants = { kind = "purchase" }

[tables.users]
query = """
SELECT household_key AS user_id, AGE_DESC AS age_band, MARITAL_STATUS_CODE AS marital_status,
    INCOME_DESC AS income_band, HOMEOWNER_DESC AS home_ownership, HH_COMP_DESC AS household_type,
    HOUSEHOLD_SIZE_DESC AS household_size, KID_CATEGORY_DESC AS num_children
FROM (SELECT household_key FROM transactions UNION SELECT household_key FROM mailings)
LEFT JOIN demographics USING (household_key)
"""

[tables.items]
file = "product.csv"
[tables.items.columns]
item_id = "PRODUCT_ID"
department = "DEPARTMENT"
category = "COMMODITY_DESC"
product_type = "SUB_COMMODITY_DESC"
brand = "BRAND"
manufacturer = "MANUFACTURER"
package_size = "CURR_SIZE_OF_PRODUCT"

[tables.campaigns]
file = "campaign_desc.csv"
columns = { campaign_id = "CAMPAIGN", campaign_type = "DESCRIPTION", starts_at = "START_DAY", ends_at = "END_DAY" }
constants = { kind = "coupon" }
formats = { starts_at = "day", ends_at = "day" }
first_day = 2016-01-01

[tables.campaign_items]
query = "SELECT DISTINCT CAMPAIGN AS campaign_id, PRODUCT_ID AS item_id, COUPON_UPC AS coupon_id FROM coupons"

[tables.targets]
file = "campaign_table.csv"
columns = { campaign_id = "CAMPAIGN", user_id = "household_key" }

[tables.participations]
file = "coupon_redempt.csv"
columns = { campaign_id = "CAMPAIGN", user_id = "household_key", coupon_id = "COUPON_UPC", participated_at = "DAY" }
formats = { participated_at = "day" }
first_day = 2016-01-01
'''

JUDGED: dict[str, tuple[str, ...]] = {
    "events": (
        *("user_id", "item_id", "kind", "event_time", "basket_id"),
        *("quantity", "amount", "discount", "coupon_discount"),
    ),
    "users": ("user_id", "age_band"),
    "items": ("item_id", "department", "category"),
    "campaigns": ("campaign_id", "starts_at", "ends_at"),
    "campaign_items": ("campaign_id", "item_id", "coupon_id"),
    "targets": ("campaign_id", "user_id"),
    "participations": ("campaign_id", "user_id", "coupon_id", "participated_at"),
}

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    # The first line: day 200 of 2016 is the 18th of July.
    (
        "SELECT user_id, item_id, event_time = TIMESTAMPTZ '2016-07-18 07:00:00+00', quantity, amount, discount "
        "FROM events ORDER BY event_time, user_id LIMIT 1",
        [("1", "1004906", True, 1.0, 0.99, 0.4)],
    ),
    (
        "SELECT starts_at = TIMESTAMPTZ '2016-08-06 00:00:00+00', ends_at = TIMESTAMPTZ '2016-09-07 00:00:00+00' "
        "FROM campaigns WHERE campaign_id = '24'",
        [(True, True)],
    ),
    ("SELECT count(*), count(age_band) FROM users", [(12, 5)]),
    ("SELECT campaign_id, count(*) FROM targets GROUP BY 1 ORDER BY 1", [("13", 6), ("24", 6), ("26", 8)]),
    ("SELECT count(*) FROM campaign_items", [(14,)]),
    ("SELECT min(discount) >= 0, max(coupon_discount) FROM events", [(True, 0.75)]),
    ("SELECT (SELECT count(*) FROM participations) = count(*) FROM events WHERE coupon_discount > 0", [(True,)]),
)
