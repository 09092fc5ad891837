"""Measures the tables that a DuckDB connection shows: by day, by column, samples of keys, and users who come back."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recommender.datasets.statistics.by_day import event_days
from recommender.datasets.statistics.measured import Floats, Statistics
from recommender.datasets.tables import CONTRACT, LOGGED_BY_DAY, TEXT, Tables

if TYPE_CHECKING:
    import duckdb

MOST_VALUES, KEPT_VALUES = 500, 40
"""A text column with more distinct values is no category. Of fewer, the commonest are kept. Both chosen by hand."""
SKETCH = 4096
"""Hashes kept of a key: a share that two runs have in common is known to ±1.6 points (binomial, two deviations)."""
WEEKS = 20
"""Weeks for which returning users are counted: the history that the last one is compared with. Chosen by hand."""
KEYS = {
    "users": ("users", "user_id"),
    "items": ("items", "item_id"),
    "campaigns": ("campaigns", "campaign_id"),
    "users with events": ("events", "user_id"),
    "items with events": ("events", "item_id"),
    "targeted users": ("targets", "user_id"),
}
KEY_HASH = "md5_number_lower"
"""DuckDB's function of a key's hash. Not its own `hash`, which another version may change."""
NOT_CATEGORIES = ("name", "description", "query")
LOGGED_SHARE = 0.05
"""Share of a day's events that may have come over HTTP without an effect on its shares of missing values. By hand:
below what any check of these shares looks at."""


def measure(connection: "duckdb.DuckDBPyConnection", tables: Tables, until: datetime) -> Statistics:
    """Measure tables up to a moment.

    Args:
        connection: has a view of each table.
        tables: what they are.
        until: rows of events, targets and participations after it do not count.
    """
    first, days = event_days(connection, tables, until)
    if first is not None:
        _leave_out_the_log(days, first, tables.manifest.get(LOGGED_BY_DAY, {}))
    columns: dict[str, dict[str, float]] = {}
    values: dict[str, dict[str, float]] = {}
    for table in CONTRACT:
        if tables.has(table):
            _columns(connection, tables, table, columns, values)
    counts = {name: _number(connection, f"SELECT count(*) FROM {name}") for name in CONTRACT if tables.has(name)}
    last = days["last_hour"][-1] if len(days["rows"]) else float("nan")
    return Statistics(
        first_day=first or date(1970, 1, 1),
        days=days,
        columns=columns,
        values=values,
        keys={
            name: _sketch(connection, table, column)
            for name, (table, column) in KEYS.items()
            if tables.has(table, column)
        },
        returning=_returning(connection, until),
        rows={name: int(count) for name, count in counts.items()},
        last_hour=float(last),
    )


def _leave_out_the_log(days: dict[str, Floats], first: date, logged: Mapping[str, int]) -> None:
    """Make shares unknown on days with events over HTTP.

    What those leave out is no lost column, and a reload that is sent again under another identifier is no file that
    was read twice.
    """
    for text, count in logged.items():
        place = (date.fromisoformat(text) - first).days
        if 0 <= place < len(days["rows"]) and count > LOGGED_SHARE * days["rows"][place]:
            for name in days:
                if name.startswith("null:") or name == "repeated":
                    days[name][place] = np.nan


def _columns(
    connection: "duckdb.DuckDBPyConnection",
    tables: Tables,
    table: str,
    columns: dict[str, dict[str, float]],
    values: dict[str, dict[str, float]],
) -> None:
    present = [name for name in CONTRACT[table].columns if tables.has(table, name)]
    parts = []
    for name in present:
        parts += [f"avg(({name} IS NULL)::INT)", f"approx_count_distinct({name})"]
        if pa.types.is_floating(CONTRACT[table].columns[name].dtype):
            # One sketch for all quantiles.
            parts += [f"approx_quantile({name}, [0.1, 0.5, 0.9])", f"avg(({name} < 0)::INT)"]
    row = iter(connection.execute(f"SELECT {', '.join(parts)} FROM {table}").fetchone() or ())
    key = {*CONTRACT[table].key, *CONTRACT[table].foreign_keys, *NOT_CATEGORIES}
    for name in present:
        found = {"null_share": next(row), "distinct": next(row)}
        dtype = CONTRACT[table].columns[name].dtype
        if pa.types.is_floating(dtype):
            found |= dict(zip(("p10", "p50", "p90"), next(row) or (None,) * 3, strict=True))
            found["negative"] = next(row)
        columns[f"{table}.{name}"] = {k: float(v) for k, v in found.items() if v is not None}
        if dtype == TEXT and name not in key and 0 < (found["distinct"] or 0) <= MOST_VALUES:
            values[f"{table}.{name}"] = dict(
                connection.execute(
                    f"SELECT {name}, count(*) / sum(count(*)) OVER () AS share FROM {table} "
                    f"WHERE {name} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {KEPT_VALUES}"
                ).fetchall()
            )


def _sketch(connection: "duckdb.DuckDBPyConnection", table: str, column: str) -> tuple[int, ...]:
    query = (
        f"SELECT {KEY_HASH}({column}) AS hash FROM (SELECT DISTINCT {column} FROM {table} "
        f"WHERE {column} IS NOT NULL) ORDER BY 1 LIMIT {SKETCH}"
    )
    return tuple(int(hash_) for (hash_,) in connection.execute(query).fetchall())


def hashes_of(connection: "duckdb.DuckDBPyConnection", keys: Sequence[str]) -> dict[str, int]:
    """Key -> its hash in `Statistics.keys`."""
    rows = connection.execute(f"SELECT key, {KEY_HASH}(key) FROM (SELECT unnest($keys) AS key)", {"keys": list(keys)})
    return {str(key): int(found) for key, found in rows.fetchall()}


def _returning(connection: "duckdb.DuckDBPyConnection", until: datetime) -> tuple[float, ...]:
    """Share of the users of four weeks who come back in the week after, for each of the last weeks."""
    # One number for each user, whose bits are the weeks with an event, the newest first.
    query = f"""
        WITH last AS (SELECT epoch(max(event_time)) AS newest FROM events WHERE event_time <= $until),
        active AS (SELECT bit_or(1::BIGINT << floor((newest - epoch(event_time)) / 604800)::INT) AS weeks
                   FROM events, last
                   WHERE epoch(event_time) <= newest AND epoch(event_time) > newest - {7 * (WEEKS + 4) * 86400}
                   GROUP BY user_id)
        SELECT week, avg((weeks >> week) & 1) FROM active, (SELECT unnest(range({WEEKS})) AS week)
        WHERE (weeks >> (week + 1)) & 15 <> 0 GROUP BY 1"""
    found = dict(connection.execute(query, {"until": until}).fetchall())
    return tuple(float(found.get(week, np.nan)) for week in range(WEEKS - 1, -1, -1))


def _number(connection: "duckdb.DuckDBPyConnection", query: str) -> float:
    return float((connection.execute(query).fetchone() or (0,))[0])
