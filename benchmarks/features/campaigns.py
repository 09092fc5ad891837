"""Complete Journey's log with 27, 500 and 2,000 made-up campaigns: does the cost grow faster than the campaigns?"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.decision.rows import Row
from benchmarks.features.built import build_measured
from benchmarks.features.journey import journey_tables
from recommender.storage.manifest import read_manifest, write_manifest

COUNTS = (27, 500, 2_000)
TARGETED, PROMOTED = 24, 100
"""Users and items of a campaign. Chosen by hand, so that 2,000 campaigns have fifty thousand decisions."""
LIMIT = 1.1
"""How much faster than the rows the CPU-seconds may grow: what a loaded machine adds. By hand."""


def rows(say: Callable[[str], None]) -> list[Row]:
    """CPU-seconds by the number of campaigns, and their growth over that of the campaigns' own rows."""
    cpu_s = {}
    with TemporaryDirectory(prefix="features-") as name:
        tables = Path(name) / "tables"
        as_of = journey_tables(tables)
        for count in COUNTS:
            replace_campaigns(tables, count)
            cpu_s[count] = build_measured(tables, Path(name) / "features", as_of).cpu_s
            say(f"{count} campaigns: {cpu_s[count]:.1f} CPU-s")
    few, some, many = COUNTS
    growth = (cpu_s[many] - cpu_s[some]) / (cpu_s[some] - cpu_s[few]) / ((many - some) / (some - few))
    name = f"{few} to {many:,} campaigns: further CPU-s over further rows, the last {many - some:,} over those before"
    facts = {"targeted": TARGETED, "promoted": PROMOTED, "cpu_s": cpu_s}
    times = cpu_s[many] / cpu_s[few]
    return [
        Row.at_most(f"{few} to {many:,} campaigns: times the CPU-s (rows: {many / few:.0f} times)", times, many / few),
        Row.at_most(name, growth, LIMIT, **facts),
    ]


def replace_campaigns(tables: Path, count: int) -> None:
    """Give the log `count` campaigns of two weeks, evenly over the year."""
    rng = np.random.default_rng(17)
    users = pq.read_table(tables / "users")["user_id"].to_numpy(zero_copy_only=False)
    items = pq.read_table(tables / "items", columns=["item_id"])["item_id"].to_numpy(zero_copy_only=False)
    ids = np.array([f"c{number:04}" for number in range(count)])
    starts = [datetime(2017, 2, 1, 5, tzinfo=UTC) + timedelta(days=300 * number // count) for number in range(count)]
    targeted = np.concatenate([rng.choice(users, TARGETED, replace=False) for _ in ids])
    promoted = np.concatenate([rng.choice(items, PROMOTED, replace=False) for _ in ids])
    taken = rng.random(len(targeted)) < 0.1
    time = pa.timestamp("us", tz="UTC")
    targeted_at = np.repeat(np.array(starts, dtype=object), TARGETED)
    tables_of: dict[str, dict[str, Any]] = {
        "campaigns": {
            "campaign_id": ids,
            "kind": ["coupon"] * count,
            "campaign_type": [f"Type {'ABC'[number % 3]}" for number in range(count)],
            "starts_at": pa.array(starts, time),
            "ends_at": pa.array([start + timedelta(days=14) for start in starts], time),
        },
        "campaign_items": {"campaign_id": np.repeat(ids, PROMOTED), "item_id": promoted},
        "targets": {
            "campaign_id": np.repeat(ids, TARGETED),
            "user_id": targeted,
            "targeted_at": pa.array(targeted_at.tolist(), time),
        },
        "participations": {
            "campaign_id": np.repeat(ids, TARGETED)[taken],
            "user_id": targeted[taken],
            "participated_at": pa.array([one + timedelta(days=5) for one in targeted_at[taken]], time),
        },
    }
    manifest = read_manifest(tables, verify=False)
    for table, columns in tables_of.items():
        for file in (tables / table).glob("**/*.parquet"):
            file.unlink()
        pq.write_table(pa.table(columns), tables / table / f"{table}.parquet")
        manifest["columns"][table] = list(columns)
    facts = {name: value for name, value in manifest.items() if name not in ("files", "content_hash")}
    write_manifest(tables, **facts)
