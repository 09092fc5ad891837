"""Makes the CSV files of this example: a small shop that never was, in the shapes that such exports have.

python docs/examples/own-data/make_files.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from recommender.datasets.synthetic import World, generate

SHOP = World(
    seed=7,
    num_users=120,
    num_items=60,
    num_campaigns=16,
    num_categories=6,
    days=220,
    days_between_baskets=13.0,
    lines_a_basket=2.0,
    first_campaign_day=45,
    participation_rate=0.2,
    time_zone="Europe/Berlin",
    views=False,
)
FILES = {
    "customers": "SELECT user_id AS customer, age_band AS age, region AS area FROM users ORDER BY 1",
    "products": """SELECT item_id AS sku, name AS title, product_type AS subgroup, category AS "group", department,
        brand, price FROM items ORDER BY 1""",
    "orders": """SELECT user_id AS customer,
        strftime(timezone('Europe/Berlin', event_time), '%d.%m.%Y %H:%M') AS ordered_at,
        split_part(basket_id, '-', 2)::INT AS receipt, item_id AS sku, quantity::INT AS pieces, amount AS paid,
        discount AS rebate, coupon_discount AS voucher_discount
        FROM events WHERE kind = 'purchase' ORDER BY event_time, event_id""",
    "promotions": """SELECT campaign_id AS promotion, name AS title, campaign_type AS type,
        strftime(timezone('Europe/Berlin', starts_at), '%d.%m.%Y') AS valid_from,
        strftime(timezone('Europe/Berlin', ends_at) - INTERVAL 1 DAY, '%d.%m.%Y') AS valid_to
        FROM campaigns ORDER BY 1""",
    "promotion_products": """SELECT campaign_id AS promotion, item_id AS sku FROM campaign_items ORDER BY 1, 2""",
    "mailings": "SELECT campaign_id AS promotion, user_id AS customer FROM targets ORDER BY 1, 2",
    "redemptions": """SELECT campaign_id AS promotion, user_id AS customer,
        strftime(timezone('Europe/Berlin', participated_at), '%d.%m.%Y') AS redeemed_at
        FROM participations ORDER BY 1, 2""",
}


def main() -> None:
    folder = Path(__file__).parent
    with TemporaryDirectory() as scratch, duckdb.connect() as connection:
        tables = generate(SHOP, Path(scratch) / "tables")
        connection.execute("SET TimeZone = 'UTC'")
        for name in ("users", "items", "campaigns", "campaign_items", "targets", "events", "participations"):
            connection.execute(f"CREATE VIEW {name} AS FROM read_parquet('{tables.glob(name)}')")
        for name, query in FILES.items():
            connection.execute(f"COPY ({query}) TO '{folder / name}.csv' (HEADER)")


if __name__ == "__main__":
    main()
