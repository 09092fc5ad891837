"""Features of Complete Journey, beside hand-written SQL that makes the same tables with DuckDB alone."""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.decision.rows import Row
from benchmarks.features.built import build_measured
from benchmarks.ingest.child import measure
from recommender.datasets import complete_journey

CPU_S, PEAK_GIB, TIMES_SQL = 15.0, 1.2, 2.0
WINDOWS = (7, 30, 90, 180, 365)
AXES = ("product_type", "category", "department", "brand", "manufacturer")


def rows(say: Callable[[str], None]) -> list[Row]:
    """CPU-seconds, peak memory, and how many times the CPU-seconds of the SQL."""
    with TemporaryDirectory(prefix="features-") as name:
        folder = Path(name)
        as_of = journey_tables(folder / "tables")
        ours = build_measured(folder / "tables", folder / "features", as_of)
        say(f"ours: {ours.cpu_s:.1f} CPU-s, {ours.peak_gib:.2f} GiB")
        command = [sys.executable, "-m", "benchmarks.features.journey", str(folder / "tables"), as_of.isoformat()]
        root = str(Path(__file__).resolve().parents[2])
        sql = measure(command, folder, environment={"PYTHONPATH": root})
        say(f"SQL: {sql.cpu_s:.1f} CPU-s, {sql.peak_gib:.2f} GiB")
    return [
        Row.at_most("Complete Journey: CPU-s", ours.cpu_s, CPU_S),
        Row.at_most("Complete Journey: peak, GiB", ours.peak_gib, PEAK_GIB),
        Row(name="Complete Journey, hand-written DuckDB SQL: CPU-s", value=sql.cpu_s, goal="", facts=vars(sql)),
        Row.at_most("Complete Journey: times the CPU-s of the SQL", ours.cpu_s / sql.cpu_s, TIMES_SQL),
    ]


def journey_tables(folder: Path) -> datetime:
    """Write Complete Journey's tables and return the moment that counts as now: that of the last event."""
    return complete_journey.ingest(folder).log_end


def by_sql(tables: Path, as_of: str) -> None:
    """Make the tables with joins as one writes them by hand: baskets, vectors, histories, demand and labels."""
    import duckdb

    with duckdb.connect(config={"threads": 2, "memory_limit": "8GB"}) as con:
        con.execute("SET TimeZone = 'UTC'")
        for table in ("users", "items", "campaigns", "campaign_items", "targets", "events", "participations"):
            con.execute(f"CREATE VIEW {table} AS FROM read_parquet('{tables}/{table}/**/*.parquet')")
        con.execute(
            f"""CREATE TABLE item AS SELECT row_number() OVER (ORDER BY item_id) AS item, item_id,
                {", ".join(f"dense_rank() OVER (ORDER BY {axis}) AS {axis}" for axis in AXES)} FROM items;
            CREATE TABLE person AS SELECT user_id, row_number() OVER (ORDER BY user_id) AS person FROM users;
            CREATE TABLE line AS SELECT person, basket_id AS basket, event_time AS time, epoch(event_time)::BIGINT AS s,
                item, round(amount * 100)::BIGINT AS cents, round(discount * 100)::BIGINT AS discount,
                round(coupon_discount * 100)::BIGINT AS coupon, store_id AS store,
                hour(timezone('America/New_York', event_time)) AS hour,
                isodow(timezone('America/New_York', event_time)) AS weekday
            FROM events JOIN person USING (user_id) LEFT JOIN item USING (item_id) WHERE kind = 'purchase';
            CREATE TABLE decision AS SELECT row_number() OVER (ORDER BY person, t) AS d, person, t,
                epoch(t)::BIGINT AS now
            FROM (SELECT DISTINCT person, targeted_at AS t FROM targets JOIN person USING (user_id)
                UNION SELECT person, TIMESTAMPTZ '{as_of}' FROM person)"""
        )
        con.execute(
            """CREATE TABLE basket AS SELECT d, basket, max(time) AS time, min(now - s) / 86400 AS age,
                max(hour) AS hour, max(weekday) AS weekday, count(*) AS lines, sum(cents) AS cents,
                sum(discount) AS discount,
                sum(coupon) AS coupon, count(*) FILTER (discount > 0) AS discounted,
                count(*) FILTER (coupon > 0) AS coupons, max(store) AS store
            FROM line JOIN decision USING (person) WHERE time < t GROUP BY ALL"""
        )
        recent = ", ".join(
            f"count(*) FILTER (age <= {n}), sum(lines) FILTER (age <= {n}), sum(cents) FILTER (age <= {n}), "
            f"sum(coupons) FILTER (age <= {n}), sum(coupon) FILTER (age <= {n}), sum(discounted) FILTER (age <= {n})"
            for n in WINDOWS
        )
        days = ", ".join(f"count(*) FILTER (weekday = {day})" for day in range(1, 8))
        hours = ", ".join(f"count(*) FILTER (hour BETWEEN {first} AND {first + 5})" for first in (0, 6, 12, 18))
        measures = """count(*) AS lines, count(*) FILTER (discount > 0) AS discounted, count(*) FILTER (coupon > 0) AS
            coupons, count(*) FILTER (now - s <= 90 * 86400) AS season,
            count(*) FILTER (now - s <= 30 * 86400) AS month,
            count(*) FILTER (coupon > 0 AND now - s <= 90 * 86400) AS coupon_season, sum(cents) AS cents"""
        names = ("lines", "discounted", "coupons", "season", "month", "coupon_season", "cents")
        con.execute(
            f"CREATE TABLE product AS SELECT d, item, {measures} FROM line JOIN decision USING (person) "
            "WHERE time < t AND item IS NOT NULL GROUP BY d, item"
        )
        vectors = {"product": "SELECT d, item AS value, * EXCLUDE (d, item) FROM product"}
        for axis in AXES:
            sums = ", ".join(f"sum({name}) AS {name}" for name in names)
            vectors[axis] = f"SELECT d, {axis} AS value, {sums} FROM product JOIN item USING (item) GROUP BY d, {axis}"
        listed = ", ".join(f"list({name} ORDER BY value)" for name in ("value", *names))
        for axis, query in vectors.items():
            shares = """count(*) AS breadth, max(lines) / sum(lines) AS top,
                sum(lines / total * ln(lines / total)) AS entropy"""
            total = f"SELECT *, sum(lines) OVER (PARTITION BY d) AS total FROM ({query})"
            con.execute(f"CREATE TABLE of_{axis} AS SELECT d, {listed}, {shares} FROM ({total}) GROUP BY d")
        con.execute(
            """CREATE TABLE history AS
            WITH last AS (SELECT d, basket, time, cents FROM basket
                QUALIFY row_number() OVER (PARTITION BY d ORDER BY time DESC, basket DESC) <= 64),
            bought AS (SELECT d, basket, list(item ORDER BY item) AS items FROM line JOIN decision USING (person)
                JOIN last USING (d, basket) WHERE line.time < t GROUP BY ALL)
            SELECT d, list(time ORDER BY time, basket), list(cents ORDER BY time, basket),
                list(items ORDER BY time, basket) FROM last JOIN bought USING (d, basket) GROUP BY d"""
        )
        join = " ".join(f"LEFT JOIN of_{axis} USING (d)" for axis in vectors)
        con.execute(
            f"""COPY (SELECT * FROM decision LEFT JOIN (
                SELECT d, count(*), min(age), max(age), sum(lines), sum(cents), sum(discount), sum(coupon),
                    sum(discounted), sum(coupons), max(cents), count(DISTINCT store), count(DISTINCT floor(age / 7)),
                    min(age) FILTER (coupons > 0), {recent}, {days}, {hours} FROM basket GROUP BY d
            ) USING (d) {join} LEFT JOIN history USING (d) ORDER BY d)
            TO 'users.parquet' (FORMAT parquet, COMPRESSION zstd)"""
        )
        con.execute(
            """COPY (SELECT campaign_id, count(*), sum(cents), count(DISTINCT person), count(DISTINCT item),
                count(*) FILTER (discount > 0), count(*) FILTER (coupon > 0)
            FROM (SELECT DISTINCT campaign_id, item FROM campaign_items JOIN item USING (item_id))
            JOIN campaigns USING (campaign_id) JOIN line USING (item)
            WHERE time < starts_at AND s >= epoch(starts_at) - 90 * 86400 GROUP BY ALL)
            TO 'campaigns.parquet' (FORMAT parquet)"""
        )
        con.execute(
            """COPY (SELECT campaign_id, person, sum(cents) FILTER (time >= targeted_at AND time < ends_at),
                sum(cents) FILTER (time < targeted_at)
            FROM targets JOIN person USING (user_id) JOIN campaigns USING (campaign_id) JOIN line USING (person)
            SEMI JOIN (SELECT campaign_id, item FROM campaign_items JOIN item USING (item_id)) USING (campaign_id, item)
            GROUP BY ALL) TO 'pairs.parquet' (FORMAT parquet)"""
        )


if __name__ == "__main__":
    by_sql(Path(sys.argv[1]), sys.argv[2])
