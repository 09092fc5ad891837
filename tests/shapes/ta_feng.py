"""Ta-Feng: four months of a grocer in Taiwan, as one CSV with every cell in quotes.

Traps: month/day/year without leading zeros, customers and products with leading zeros, AMOUNT is a number of units,
ASSET is what the line cost the shop, SALES_PRICE is the price of the whole line.
"""

from datetime import date, timedelta
from pathlib import Path

from shapes.export_files import write_csv

CUSTOMERS = (
    "01104905", "00418683", "01057331", "01849332", "01981995", "01741797",
    "00308359", "01607000", "00236645", "00020459", "01862135", "02113328",
)  # fmt: skip
# Each with PRODUCT_SUBCLASS, and cost and price of one unit.
PRODUCTS = (
    ("4710199010372", "110411", 12, 15),
    ("4710857472535", "120107", 48, 46),
    ("4710043654103", "100407", 71, 83),
    ("4710126092129", "120108", 32, 38),
    ("4710176021445", "100205", 14, 18),
    ("0078895770025", "110122", 54, 75),
    ("4710192225520", "110507", 85, 105),
    ("4712936888817", "520503", 45, 68),
    ("4715398106864", "320203", 35, 39),
    ("4710126091870", "120110", 43, 53),
)
AGES = ("45-49", "35-39", "50-54", "60-64", "<25", ">65", "25-29")
PLACES = ("115", "221", "Others", "114", "Unknown")
FIRST_DAY = date(2000, 11, 1)
HEADER = "TRANSACTION_DT,CUSTOMER_ID,AGE_GROUP,PIN_CODE,PRODUCT_SUBCLASS,PRODUCT_ID,AMOUNT,ASSET,SALES_PRICE"


def write(folder: Path) -> list[Path]:
    rows = [(f"{day.month}/{day.day}/{day.year}", *rest) for day, *rest in lines()]
    return [write_csv(folder / "ta_feng_all_months_merged.csv", HEADER, rows, quote_all=True)]


def write_original(folder: Path) -> list[Path]:
    """The same lines as the first publisher has them: a file a month, semicolons, Big5, padded identifiers."""
    header = "日期,會員卡號,年齡,區域,商品分類,商品編碼,數量,成本,銷售"
    files: dict[int, list[tuple[object, ...]]] = {}
    for day, customer, age, place, subclass, product, *numbers in lines():
        band = f"{'ABCDEFGHIJK'[AGES.index(age)]} "
        area = f"{'ABCDEFGH'[PLACES.index(place)]} "
        row = (f"{day} 00:00:00", f"{customer}  ", band, area, subclass, f"{product:<14}", *numbers)
        files.setdefault(day.month, []).append(row)
    return [
        write_csv(folder / f"D{month:02}", header, rows, delimiter=";", encoding="big5")
        for month, rows in files.items()
    ]


def lines() -> list[tuple[date, str, str, str, str, str, int, int, int]]:
    """Each customer shops every sixth day for twelve visits: two products, the second one in several units."""
    rows = []
    for visit in range(12):
        for n, customer in enumerate(CUSTOMERS):
            day = FIRST_DAY + timedelta(days=6 * visit + n % 6)
            for place in range(2):
                product, subclass, cost, price = PRODUCTS[(n + visit + 4 * place) % len(PRODUCTS)]
                units = 1 + place * (visit % 3)
                rows.append((day, customer, AGES[n % 7], PLACES[n % 5], subclass, product, units, cost * units,
                             price * units))  # fmt: skip
    return sorted(rows, key=lambda row: row[0])


RECIPE = """\
[source]
time_zone = "UTC"
currency = "TWD"

[inputs.lines]
file = "ta_feng_all_months_merged.csv"

[tables.events]
file = "ta_feng_all_months_merged.csv"
formats = { event_time = "%m/%d/%Y" }
constants = { kind = "purchase" }
[tables.events.columns]
user_id = "CUSTOMER_ID"
event_time = "TRANSACTION_DT"
item_id = "PRODUCT_ID"
quantity = "AMOUNT"
amount = "SALES_PRICE"

[tables.users]
query = "SELECT CUSTOMER_ID AS user_id, max(AGE_GROUP) AS age_band, max(PIN_CODE) AS region FROM lines GROUP BY ALL"

[tables.items]
query = "SELECT PRODUCT_ID AS item_id, max(PRODUCT_SUBCLASS) AS category FROM lines GROUP BY ALL"
"""

RECIPE_ORIGINAL = """\
[source]
time_zone = "UTC"
currency = "TWD"

[tables.events]
file = "D[01][0-9]"
encoding = "big5"
formats = { event_time = "%Y-%m-%d 00:00:00" }
columns = { user_id = "會員卡號", event_time = "日期", item_id = "商品編碼", quantity = "數量", amount = "銷售" }
constants = { kind = "purchase" }
"""

JUDGED = {"events": ("user_id", "item_id", "kind", "event_time", "quantity", "amount")}

CHECKS = [
    ("SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) FROM events", [(288, 12, 10)]),
    # Of every customer's twelve visits four have one, two and three units of the second product: 12 x (12 + 24).
    ("SELECT sum(quantity) FROM events", [(432.0,)]),
    # The first customer's third visit, on 13 November: one unit of the third product, three of the seventh.
    (
        "SELECT item_id, quantity, amount, event_time::DATE::VARCHAR FROM events "
        "WHERE user_id = '01104905' ORDER BY event_time, quantity LIMIT 2 OFFSET 4",
        [("4710043654103", 1.0, 83.0, "2000-11-13"), ("4710192225520", 3.0, 315.0, "2000-11-13")],
    ),
    ("SELECT category FROM items WHERE item_id = '0078895770025'", [("110122",)]),
    ("SELECT age_band, region FROM users WHERE user_id = '00308359'", [("25-29", "221")]),
]
