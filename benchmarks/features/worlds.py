"""Writes canonical tables of a made-up shop with any number of events, without reading a source.

Every value is a hash of its row's number, so the same number of events gives the same tables. A user has a hundred
events in the year: half of them views, a fifth purchases with money, four events in a session.
"""

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from recommender.storage.manifest import write_manifest

EVENTS_OF_A_USER, ITEMS, CAMPAIGNS = 100, 20_000, 26
FIRST, DAYS = datetime(2023, 1, 1, tzinfo=UTC), 360
AS_OF = datetime(2023, 12, 27, tzinfo=UTC)
_DAY_US = 86_400_000_000
COLUMNS = {
    "events": f"""'e' || i AS event_id, 'u' || (hash(i) % $users) AS user_id,
        CASE WHEN hash(i + 7) % 10 < 5 THEN 'view' WHEN hash(i + 7) % 10 < 7 THEN 'click'
            WHEN hash(i + 7) % 10 < 8 THEN 'cart' ELSE 'purchase' END AS kind,
        TIMESTAMPTZ '2023-01-01 00:00:00+00' + to_microseconds((i::HUGEINT * {DAYS * _DAY_US} // $events)::BIGINT)
            AS event_time,
        'i' || (hash(i * 3 + 1) % {ITEMS}) AS item_id, 'b' || (i // 4) AS basket_id,
        CASE WHEN hash(i + 7) % 10 >= 8 THEN round((99 + 7 * (hash(i * 3 + 1) % {ITEMS})) / 100.0, 2) END AS amount,
        CASE WHEN hash(i + 7) % 10 >= 8 THEN (hash(i + 5) % 3) / 4.0 END AS discount,
        's' || (hash(i // 4) % 50) AS store_id FROM range($first, $last) t(i) ORDER BY event_time""",
    "users": """'u' || i AS user_id, ['18-24', '25-44', '45-64', '65+'][1 + (hash(i) % 4)::BIGINT] AS age_band
        FROM range($users) t(i)""",
    "items": f"""'i' || i AS item_id, 'type ' || (i % 400) AS product_type, 'category ' || (i % 120) AS category,
        'department ' || (i % 12) AS department, 'brand ' || (i % 900) AS brand FROM range({ITEMS}) t(i)""",
    "campaigns": f"""'c' || i AS campaign_id, 'coupon' AS kind,
        TIMESTAMPTZ '2023-01-30 00:00:00+00' + to_days((12 * i)::INT) AS starts_at,
        TIMESTAMPTZ '2023-02-13 00:00:00+00' + to_days((12 * i)::INT) AS ends_at FROM range({CAMPAIGNS}) t(i)""",
    "campaign_items": f"""'c' || c AS campaign_id, 'i' || i AS item_id
        FROM range({CAMPAIGNS}) t(c), range({ITEMS}) s(i) WHERE hash(i * 31 + c) % 200 = 0""",
    "targets": f"""'c' || c AS campaign_id, 'u' || u AS user_id,
        TIMESTAMPTZ '2023-01-30 00:00:00+00' + to_days((12 * c)::INT) AS targeted_at
        FROM range({CAMPAIGNS}) t(c), range($users) s(u) WHERE hash(u * 31 + c) % 40 = 0""",
    "participations": f"""'c' || c AS campaign_id, 'u' || u AS user_id,
        TIMESTAMPTZ '2023-02-03 00:00:00+00' + to_days((12 * c)::INT) AS participated_at
        FROM range({CAMPAIGNS}) t(c), range($users) s(u) WHERE hash(u * 31 + c) % 400 = 0""",
}


def write_world(num_events: int, folder: Path) -> None:
    """Write the tables, the events in twelve files in the order of time."""
    columns = {}
    with duckdb.connect(config={"threads": 2, "memory_limit": "2GB", "temp_directory": str(folder / ".spill")}) as con:
        con.execute("SET TimeZone = 'UTC'")
        for table, query in COLUMNS.items():
            (folder / table).mkdir(parents=True)
            for part in range(12) if table == "events" else (0,):
                first, last = num_events * part // 12, num_events * (part + 1) // 12
                filled = query.replace("$events", str(num_events)).replace(
                    "$users", str(num_events // EVENTS_OF_A_USER)
                )
                filled = filled.replace("$first", str(first)).replace("$last", str(last))
                path = folder / table / f"{part:02}.parquet"
                con.execute(f"COPY (SELECT {filled}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
            columns[table] = con.sql(f"FROM '{folder / table / '00.parquet'}'").columns
    facts = {"source": "world", "time_zone": "Europe/Berlin", "currency": "EUR", "contract_version": 2}
    write_manifest(folder, **facts, columns=columns, log_end=AS_OF.isoformat(), event_time_has_hours=True)
