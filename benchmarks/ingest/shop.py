"""Writes the export of a plausible shop: events, items, campaigns and targets, with the mapping that reads them.

Called as `python -m benchmarks.ingest.shop EVENTS csv|parquet FOLDER`.

Every value is a hash of its row's number, so the same call
writes the same rows. Half of the events are page views, a fifth are purchases with units and money. A user has some
fifty events in the year, and a session has four.
"""

import sys
from pathlib import Path

import duckdb

ITEMS, CAMPAIGNS, EVENTS_OF_A_USER = 5_000, 26, 50
"""A mid-size shop: a campaign every other week, and users who come back once a week. Chosen by hand."""
YEAR_US = 365 * 86_400 * 1_000_000
MAPPING = """[source]
name = "bench"
time_zone = "Europe/Berlin"
currency = "EUR"

[tables.events]
file = "events.{form}"
values = {{ kind = {{ page_view = "view" }} }}
[tables.events.columns]
user_id = "customer"
event_time = "created_at"
kind = "event_name"
item_id = "product"
basket_id = "session"
quantity = "units"
amount = "paid"
store_id = "channel"

[tables.items]
file = "items.{form}"
[tables.campaigns]
file = "campaigns.{form}"
[tables.targets]
file = "targets.{form}"
"""
EVENTS = f"""
    SELECT 'u' || (100000 + hash(i) % $users) AS customer,
        $time AS created_at,
        CASE WHEN hash(i + 7) % 10 < 5 THEN 'page_view' WHEN hash(i + 7) % 10 < 7 THEN 'click'
            WHEN hash(i + 7) % 10 < 8 THEN 'cart' ELSE 'purchase' END AS event_name,
        printf('sku-%05d', (hash(i * 3 + 1) % {ITEMS})::BIGINT) AS product,
        'b' || (i // 4) AS session,
        CASE WHEN hash(i + 7) % 10 >= 8 THEN 1 + hash(i + 9) % 3 END AS units,
        CASE WHEN hash(i + 7) % 10 >= 8
            THEN round((1 + hash(i + 9) % 3) * (99 + 7 * (1 + hash(i * 3 + 1) % {ITEMS})) / 100.0, 2) END AS paid,
        ['web', 'app', 'store'][1 + (hash(i // 4) % 3)::BIGINT] AS channel
    FROM range($events) t(i)"""
TIME = f"TIMESTAMP '2023-01-01' + to_microseconds((i::HUGEINT * {YEAR_US} // $events)::BIGINT)"
OTHERS = {
    "items": f"""SELECT printf('sku-%05d', i) AS item_id, 'Product ' || i AS name,
        'Department ' || (i % 12) AS department, 'Category ' || (i % 120) AS category,
        round((99 + 7 * (1 + i)) / 100.0, 2) AS price FROM range({ITEMS}) t(i)""",
    "campaigns": f"""SELECT 'c' || i AS campaign_id, 'coupon' AS kind,
        (DATE '2023-02-01' + (i * 12)::INT)::VARCHAR AS starts_at,
        (DATE '2023-02-14' + (i * 12)::INT)::VARCHAR AS ends_at FROM range({CAMPAIGNS}) t(i)""",
    "targets": f"""SELECT 'c' || i AS campaign_id, 'u' || (100000 + u) AS user_id
        FROM range({CAMPAIGNS}) t(i), range($users) s(u) WHERE hash(u * 31 + i) % 20 = 0""",
}


def write_shop(num_events: int, form: str, folder: Path) -> Path:
    """Write the files, "csv" or "parquet", and return the mapping. Times are texts in a CSV and native in Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    time = f"strftime({TIME}, '%Y-%m-%d %H:%M:%S')" if form == "csv" else TIME
    options = "FORMAT csv, HEADER" if form == "csv" else "FORMAT parquet, COMPRESSION zstd"
    users = max(1, num_events // EVENTS_OF_A_USER)
    with duckdb.connect(config={"threads": 2}) as connection:
        for name, query in {"events": EVENTS, **OTHERS}.items():
            query = query.replace("$time", time).replace("$events", str(num_events)).replace("$users", str(users))
            connection.execute(f"COPY ({query}) TO '{folder / name}.{form}' ({options})")
    mapping = folder / "mapping.toml"
    mapping.write_text(MAPPING.format(form=form), encoding="utf-8")
    return mapping


if __name__ == "__main__":
    print(write_shop(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
