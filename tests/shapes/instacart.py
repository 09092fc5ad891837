"""Instacart 2017: orders without a date, only with the days since the user's order before, and their products."""

from pathlib import Path

from shapes.export_files import write_csv

AISLES = ((24, "fresh fruits"), (84, "milk"), (83, "fresh vegetables"), (77, "soft drinks"), (23, "popcorn jerky"))
DEPARTMENTS = ((4, "produce"), (16, "dairy eggs"), (7, "beverages"), (19, "snacks"))
PRODUCTS = (
    (196, "Soda", 77, 7),
    (24852, "Banana", 24, 4),
    (13176, "Bag of Organic Bananas", 24, 4),
    (12427, "Original Beef Jerky", 23, 19),
    # The published file has a backslash before each quote, and doubles the quote as well.
    (6816, 'Jerky 5\\" Sticks, Peppered', 23, 19),
    (25133, "Organic String Cheese", 84, 16),
    (49235, "Organic Half & Half", 84, 16),
    (21903, "Organic Baby Spinach", 83, 4),
)
USERS = 12
ORDERS = 6
"""Orders of each user. The last is one to predict: its products are known for half of the users (train)."""


def write(folder: Path) -> list[Path]:
    orders: list[tuple[object, ...]] = []
    products: dict[str, list[tuple[int, int, int, int]]] = {"prior": [], "train": []}
    for user in range(1, USERS + 1):
        weekday, bought = user % 7, set()
        for number in range(1, ORDERS + 1):
            days = 5 + (user * number) % 26
            weekday = (weekday + days) % 7 if number > 1 else weekday
            kind = "prior" if number < ORDERS else "train" if user % 2 else "test"
            order = 2539329 - 1171 * user + 37 * number
            hour = f"{(6 + 5 * user + 3 * number) % 24:02d}"
            orders.append((order, user, kind, number, weekday, hour, f"{days}.0" if number > 1 else None))
            for place in range(1, 2 + (user + number) % 3):
                product = PRODUCTS[(user + number + 3 * place) % 8][0]
                if kind != "test":
                    products[kind].append((order, product, place, int(product in bought)))
                bought.add(product)
    header = "order_id,product_id,add_to_cart_order,reordered"
    return [
        write_csv(folder / "aisles.csv", "aisle_id,aisle", AISLES),
        write_csv(folder / "departments.csv", "department_id,department", DEPARTMENTS),
        write_csv(folder / "order_products__prior.csv", header, products["prior"]),
        write_csv(folder / "order_products__train.csv", header, products["train"]),
        write_csv(
            folder / "orders.csv",
            "order_id,user_id,eval_set,order_number,order_dow,order_hour_of_day,days_since_prior_order",
            orders,
        ),
        write_csv(folder / "products.csv", "product_id,product_name,aisle_id,department_id", PRODUCTS),
    ]


RECIPE = '''[source]
time_zone = "UTC"

[inputs.orders]
file = "orders.csv"
[inputs.lines]
file = "order_products__*.csv"
[inputs.products]
file = "products.csv"
[inputs.aisles]
file = "aisles.csv"
[inputs.departments]
file = "departments.csv"

[tables.events]
query = """
WITH placed AS (
    SELECT order_id, user_id,
        TIMESTAMP '2017-01-01' + to_days(first_value(order_dow::INT) OVER past)
            + to_days((sum(coalesce(TRY_CAST(days_since_prior_order AS DOUBLE), 0)) OVER past)::INT)
            + to_hours(order_hour_of_day::INT) AS ordered_at
    FROM orders
    WINDOW past AS (PARTITION BY user_id ORDER BY order_number::INT)
)
SELECT order_id || '-' || add_to_cart_order AS event_id, user_id, product_id AS item_id, order_id AS basket_id,
    ordered_at + to_seconds(add_to_cart_order::INT) AS event_time
FROM placed JOIN lines USING (order_id)
"""
constants = { kind = "purchase" }

[tables.items]
query = """
SELECT product_id AS item_id, product_name AS name, aisle AS category, department
FROM products LEFT JOIN aisles USING (aisle_id) LEFT JOIN departments USING (department_id)
"""
'''

JUDGED: dict[str, tuple[str, ...]] = {
    # Without event_time: the files have no dates, so two right mappings may begin on different days.
    "events": ("user_id", "item_id", "kind", "basket_id"),
    "items": ("item_id", "name"),
}

CHECKS: tuple[tuple[str, list[tuple[object, ...]]], ...] = (
    # User 1: order 1 on weekday 1 at 14 o'clock; order 2 seven days later at 17 o'clock (days are 5 + 1 x 2).
    (
        "SELECT DISTINCT basket_id, date_trunc('hour', event_time) = CASE basket_id "
        "WHEN '2538195' THEN TIMESTAMPTZ '2017-01-02 14:00:00+00' ELSE TIMESTAMPTZ '2017-01-09 17:00:00+00' END "
        "FROM events WHERE basket_id IN ('2538195', '2538232') ORDER BY 1",
        [("2538195", True), ("2538232", True)],
    ),
    # 2539329 - 1171 + 37 is 2538195: its products are number (1 + 1 + 3), 8 = 0 and 3 of the list, in this order.
    ("SELECT item_id FROM events WHERE basket_id = '2538195' ORDER BY event_time", [("25133",), ("196",), ("12427",)]),
    # 60 prior orders have 1, 2 or 3 products, equally often: 120. The six of train have 2, 1, 3, 2, 1 and 3.
    ("SELECT count(DISTINCT basket_id), count(DISTINCT user_id) FROM events", [(66, 12)]),
    ("SELECT count(*), count(DISTINCT event_id) FROM events", [(132, 132)]),
    ("SELECT name, category, department FROM items WHERE item_id = '24852'", [("Banana", "fresh fruits", "produce")]),
)
