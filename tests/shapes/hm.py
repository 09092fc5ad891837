"""H&M: two years of purchases by day, articles and customers, as in the Kaggle competition."""

from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

from shapes.export_files import write_csv

ARTICLES = (
    ("0108775015", "Strap top", 253, "Vest top", "Garment Upper body",
     "09", "Black", 1676, "Jersey Basic", "Ladieswear"),
    ("0108775044", "Strap top", 253, "Vest top", "Garment Upper body",
     "10", "White", 1676, "Jersey Basic", "Ladieswear"),
    ("0110065001", "OP T-shirt (Idro)", 306, "Bra", "Underwear",
     "09", "Black", 1339, "Clean Lingerie", "Ladieswear"),
    ("0111586001", "Shape Up 30 den", 273, "Leggings/Tights", "Socks & Tights",
     "09", "Black", 3608, "Tights basic", "Ladieswear"),
    ("0541518023", "Rae Push (Melbourne) 2p", 306, "Bra", "Underwear",
     "51", "Light Pink", 4242, "Expressive Lingerie", "Ladieswear"),
    ("0663713001", "Atlanta Push Body Harlow", 283, "Underwear body", "Underwear",
     "09", "Black", 1338, "Expressive Lingerie", "Ladieswear"),
    ("0505221004", "Inkfish", 252, "Sweater", "Garment Upper body",
     "07", "Grey", 1643, "Basic 1", "Divided"),
    ("0685687003", "W YODA KNIT OL OFFER", 252, "Sweater", "Garment Upper body",
     "52", "Pink", 3090, "Promotion/Other", "Menswear"),
)  # fmt: skip
CUSTOMERS = tuple(sha256(f"customer {number}".encode()).hexdigest() for number in range(14))
FIRST = date(2018, 9, 20)


def write(folder: Path) -> list[Path]:
    transactions = []
    for visit in range(70):
        customer = CUSTOMERS[(visit * 9 + visit // 14) % 13]
        day = FIRST + timedelta(days=visit * 3 // 2)
        for line in range(1 + visit % 2):
            article = ARTICLES[(visit + 3 * line) % 8][0]
            price = 0.0508305084745762 - 0.0033898305084745 * ((visit + 3 * line) % 8)
            # Two units of an article are two equal rows.
            units = 2 if visit % 9 == 4 and line == 0 else 1
            transactions += [(day, customer, article, f"{price:.16f}".rstrip("0"), 1 + visit % 2)] * units
    articles = [
        (code, code[:7], name, type_no, type_name, group, 1010016, "Solid", colour_no, colour, 4, "Dark", 5, colour,
         department_no, department, "A", index, 1, index, 16, "Womens Everyday Basics", 1002, "Jersey Basic",
         "Jersey top with narrow, adjustable shoulder straps." if type_no != 252 else None)
        for code, name, type_no, type_name, group, colour_no, colour, department_no, department, index in ARTICLES
    ]  # fmt: skip
    postal = sha256(b"postal").hexdigest()
    customers = [
        (customer, "1" if n % 3 == 0 else None, "1" if n % 3 == 0 else None, "ACTIVE" if n % 5 else None,
         "Regularly" if n % 3 == 0 else "NONE", None if n == 4 else 21 + 4 * n, postal)
        for n, customer in enumerate(CUSTOMERS)
    ]  # fmt: skip
    prediction = " ".join(article[0] for article in ARTICLES)
    return [
        write_csv(folder / "articles.csv",
                  "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,"
                  "graphical_appearance_no,graphical_appearance_name,colour_group_code,colour_group_name,"
                  "perceived_colour_value_id,perceived_colour_value_name,perceived_colour_master_id,"
                  "perceived_colour_master_name,department_no,department_name,index_code,index_name,index_group_no,"
                  "index_group_name,section_no,section_name,garment_group_no,garment_group_name,detail_desc", articles),
        write_csv(folder / "customers.csv",
                  "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code", customers),
        write_csv(folder / "sample_submission.csv", "customer_id,prediction",
                  [(customer, prediction) for customer in CUSTOMERS]),
        write_csv(folder / "transactions_train.csv", "t_dat,customer_id,article_id,price,sales_channel_id",
                  transactions),
    ]  # fmt: skip


RECIPE = '''[source]
time_zone = "UTC"

[inputs.customers]
file = "customers.csv"

[tables.events]
file = "transactions_train.csv"
constants = { kind = "purchase" }
[tables.events.columns]
user_id = "customer_id"
item_id = "article_id"
event_time = "t_dat"
amount = "price"
store_id = "sales_channel_id"

[tables.items]
file = "articles.csv"
[tables.items.columns]
item_id = "article_id"
name = "prod_name"
description = "detail_desc"
product_type = "product_type_name"
category = "product_group_name"
department = "index_group_name"

[tables.users]
query = """
SELECT customer_id AS user_id, (floor(TRY_CAST(age AS DOUBLE) / 10) * 10)::INT || 's' AS age_band FROM customers
"""
'''

JUDGED: dict[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "kind", "event_time", "amount"),
    "items": ("item_id", "name"),
    "users": ("user_id",),
}

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    # 70 visits have 105 lines, and the eight visits 4, 13, … 67 have one more unit.
    ("SELECT count(*), count(DISTINCT user_id), count(DISTINCT item_id) FROM events", [(113, 13, 8)]),
    # A day without an hour is known when it ends.
    (
        "SELECT item_id, event_time = TIMESTAMPTZ '2018-09-20 23:59:59.999999+00', round(amount, 10) FROM events "
        "ORDER BY event_time, item_id LIMIT 1",
        [("0108775015", True, 0.0508305085)],
    ),
    (f"SELECT age_band FROM users WHERE user_id = '{CUSTOMERS[3]}'", [("30s",)]),
    ("SELECT count(*), count(age_band) FROM users", [(14, 13)]),
    ("SELECT name, department FROM items WHERE item_id = '0505221004'", [("Inkfish", "Divided")]),
)
