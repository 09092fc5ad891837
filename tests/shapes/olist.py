"""Olist, a Brazilian marketplace: orders, their lines and customers in files of their own, as published on Kaggle."""

from datetime import datetime, timedelta
from hashlib import md5
from pathlib import Path

PEOPLE = 12
CATEGORIES = (
    "perfumaria",
    "artes",
    "esporte_lazer",
    "bebes",
    "utilidades_domesticas",
    "",
    "perfumaria",
    "bebes",
    "artes",
)
ENGLISH = (("perfumaria", "perfumery"), ("artes", "art"), ("esporte_lazer", "sports_leisure"))
ENGLISH += (("bebes", "baby"), ("utilidades_domesticas", "housewares"))
PRICES = ("58.90", "239.90", "199.00", "12.99", "21.90", "19.90", "147.90", "49.90", "59.99")
FIRST = datetime(2017, 10, 2, 10, 56, 33)


def _id(kind: str, number: int) -> str:
    """A hash, which the published files quote if a digit comes first."""
    text = md5(f"{kind}-{number}".encode(), usedforsecurity=False).hexdigest()
    return f'"{text}"' if text[0].isdigit() else text


def _file(folder: Path, name: str, header: str, rows: list[tuple[object, ...]], *, encoding: str = "utf-8") -> Path:
    names = header if encoding != "utf-8" else ",".join(f'"{one}"' for one in header.split(","))
    lines = [names, *(",".join(map(str, row)) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return folder / name


def _zip(number: int) -> str:
    return f'"{1151 + 977 * number:05d}"'


def write(folder: Path) -> list[Path]:
    customers, orders, items, payments, reviews = [], [], [], [], []
    for order in range(48):
        person = (order * 5) % PEOPLE if order < 36 else order % 4
        at = FIRST + timedelta(days=2 * order, minutes=37 * order)
        status = {7: "canceled", 19: "canceled", 23: "unavailable", 45: "processing", 47: "shipped"}.get(
            order, "delivered"
        )
        delivered = at + timedelta(days=8, hours=order % 5) if status == "delivered" else ""
        carrier = at + timedelta(days=2) if status in ("delivered", "shipped") else ""
        ids = _id("order", order), _id("customer", order)
        customers.append((ids[1], _id("person", person), _zip(person), "sao paulo", "SP"))
        orders.append(
            (*ids, status, at, at + timedelta(minutes=12), carrier, delivered, f"{at.date() + timedelta(20)} 00:00:00")
        )
        # An order that is unavailable has no lines. Units of one product are lines of their own.
        units = [] if status == "unavailable" else [order % 9] * (1 + order % 3) + [(order + 4) % 9] * (order % 2)
        for line, product in enumerate(units, 1):
            items.append(
                (
                    ids[0],
                    line,
                    _id("product", product),
                    _id("seller", product % 3),
                    at + timedelta(days=5),
                    PRICES[product],
                    "13.29",
                )
            )
        total = sum(float(PRICES[product]) + 13.29 for product in units)
        payments.append((ids[0], 1, ("credit_card", "boleto", "voucher")[order % 3], 1 + order % 8, f"{total:.2f}"))
        comment = '"Recebi bem antes do prazo.\nRecomendo, ""ótimo"" vendedor"' if order % 4 == 0 else ""
        reviews.append(
            (
                _id("review", order),
                ids[0],
                1 + order % 5,
                "",
                comment,
                f"{at.date() + timedelta(9)} 00:00:00",
                at + timedelta(days=11),
            )
        )
    products = [
        (
            _id("product", number),
            category,
            40 + number if category else "",
            287 if category else "",
            1 if category else "",
            225 + number,
            16,
            10,
            14,
        )
        for number, category in enumerate(CATEGORIES)
    ]
    return [
        _file(folder, "olist_customers_dataset.csv",
              "customer_id,customer_unique_id,customer_zip_code_prefix,customer_city,customer_state", customers),
        _file(folder, "olist_geolocation_dataset.csv",
              "geolocation_zip_code_prefix,geolocation_lat,geolocation_lng,geolocation_city,geolocation_state",
              [(_zip(one // 2), -23.54562128115268 - one / 1000, -46.63929204800168, "sao paulo", "SP")
               for one in range(24)]),
        _file(folder, "olist_order_items_dataset.csv",
              "order_id,order_item_id,product_id,seller_id,shipping_limit_date,price,freight_value", items),
        _file(folder, "olist_order_payments_dataset.csv",
              "order_id,payment_sequential,payment_type,payment_installments,payment_value", payments),
        _file(folder, "olist_order_reviews_dataset.csv",
              "review_id,order_id,review_score,review_comment_title,review_comment_message,review_creation_date,"
              "review_answer_timestamp", reviews),
        _file(folder, "olist_orders_dataset.csv",
              "order_id,customer_id,order_status,order_purchase_timestamp,order_approved_at,"
              "order_delivered_carrier_date,order_delivered_customer_date,order_estimated_delivery_date", orders),
        _file(folder, "olist_products_dataset.csv",
              "product_id,product_category_name,product_name_lenght,product_description_lenght,product_photos_qty,"
              "product_weight_g,product_length_cm,product_height_cm,product_width_cm", products),
        _file(folder, "olist_sellers_dataset.csv", "seller_id,seller_zip_code_prefix,seller_city,seller_state",
              [(_id("seller", one), _zip(one), "campinas", "SP") for one in range(3)]),
        _file(folder, "product_category_name_translation.csv",
              "product_category_name,product_category_name_english", list(ENGLISH), encoding="utf-8-sig"),
    ]  # fmt: skip


RECIPE = '''[source]
time_zone = "UTC"
currency = "BRL"

[inputs.orders]
file = "olist_orders_dataset.csv"
[inputs.lines]
file = "olist_order_items_dataset.csv"
[inputs.customers]
file = "olist_customers_dataset.csv"
[inputs.products]
file = "olist_products_dataset.csv"
[inputs.english]
file = "product_category_name_translation.csv"

[tables.events]
query = """
SELECT order_id || '-' || order_item_id AS event_id, customer_unique_id AS user_id, product_id AS item_id,
    order_purchase_timestamp AS event_time, order_id AS basket_id, price AS amount
FROM orders JOIN lines USING (order_id) JOIN customers USING (customer_id)
WHERE order_status NOT IN ('canceled', 'unavailable')
"""
constants = { kind = "purchase" }

[tables.users]
query = """
SELECT customer_unique_id AS user_id, max_by(customer_state, order_purchase_timestamp) AS region
FROM customers JOIN orders USING (customer_id) GROUP BY ALL
"""

[tables.items]
query = """
SELECT product_id AS item_id, coalesce(product_category_name_english, product_category_name) AS category
FROM products LEFT JOIN english USING (product_category_name)
"""
'''

JUDGED: dict[str, tuple[str, ...]] = {
    "events": ("user_id", "item_id", "kind", "event_time", "basket_id", "amount"),
    "items": ("item_id",),
}

_FIRST_PERSON, _FIRST_ORDER = _id("person", 0).strip('"'), _id("order", 0).strip('"')

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    # Order 0: one unit of product 0, by person 0.
    (
        "SELECT user_id, event_time = TIMESTAMPTZ '2017-10-02 10:56:33+00', kind, amount FROM events "
        f"WHERE basket_id = '{_FIRST_ORDER}'",
        [(_FIRST_PERSON, True, "purchase", 58.9)],
    ),
    # 48 orders, of which two are cancelled and one is unavailable.
    ("SELECT count(DISTINCT basket_id), count(DISTINCT user_id) FROM events", [(45, 12)]),
    # 48 orders hold 1, 2 or 3 units, 16 of each: 96, and 24 have one more: 120. Orders 7 (2 + 1), 19 (2 + 1) and
    # 23 (3 + 1) are left out.
    ("SELECT count(*), count(DISTINCT event_id) FROM events", [(110, 110)]),
    ("SELECT category, count(*) FROM items GROUP BY 1 ORDER BY 1 NULLS LAST LIMIT 2", [("art", 2), ("baby", 2)]),
    ("SELECT count(*), count(category) FROM items", [(9, 8)]),
)
