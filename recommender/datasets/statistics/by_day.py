"""SQL of the figures by day. Every query reads a table once and returns a few numbers for each day."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from recommender.datasets.statistics.kinds import kinds_with
from recommender.datasets.statistics.measured import Floats
from recommender.datasets.tables import CONTRACT, EVENT_KINDS, Tables

if TYPE_CHECKING:
    import duckdb

MONEY = ("amount", "quantity", "discount", "coupon_discount")
"""Numbers of a purchase."""
EXACT_ROWS = 4_000_000
"""Rows of a log up to which users and repeated rows are counted exactly. Of a larger one, the users of every second,
fourth, … hash are counted, so that the distinct rows fit in memory."""
QUARTER_US = 15 * 60 * 1_000_000
"""Clocks of all zones differ by whole quarters of an hour, and change at whole ones but for a minute here and there."""
SAME_ROW = ("user_id", "kind", "event_time", "item_id", "quantity", "amount")
"""What two events share if one is a copy. Identifiers of event and basket are often made anew."""


def event_days(
    connection: "duckdb.DuckDBPyConnection", tables: Tables, until: datetime
) -> tuple[date | None, dict[str, Floats]]:
    """First day, and the figures of each day up to `until`, as `Statistics.days` names them."""
    join = "LEFT JOIN items i ON i.item_id = e.item_id" if _is_priced(tables) else ""
    # The zone's day and hour are found once for each quarter of an hour, because to find them for each row takes longer
    # than all else.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE quarters AS SELECT {_quarter('e.event_time')} AS quarter, e.kind, "
        f"{_listed(dict(_sums(tables)))} FROM events e {join} WHERE e.event_time <= $until GROUP BY ALL",
        {"until": until},
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE local_quarters AS SELECT quarter, started::DATE AS day, hour(started) AS hour, "
        f"timezone($zone, last) AS local_last FROM (SELECT quarter, max(last) AS last, "
        f"timezone($zone, make_timestamptz(quarter * {QUARTER_US})) AS started FROM quarters GROUP BY ALL)",
        {"zone": tables.time_zone},
    )
    figures = dict(_event_figures(tables, kinds_with(connection, _optional(tables))))
    found = connection.execute(
        f"SELECT day, {_listed(figures)} FROM quarters JOIN local_quarters USING (quarter) GROUP BY 1 ORDER BY 1"
    ).to_arrow_table()
    if not found.num_rows:
        return None, {"rows": np.zeros(0)}
    first, days = _by_day(found, list(figures))
    days |= _distinct(connection, tables, until, first, len(days["rows"]))
    for table, column in (("participations", "participated_at"), ("targets", "targeted_at")):
        if not tables.has(table):
            continue
        counts = connection.execute(
            f"SELECT timezone($zone, {column})::DATE AS day, sum(rows) AS rows FROM "
            f"(SELECT {column}, count(*) AS rows FROM {table} WHERE {column} <= $until GROUP BY 1) "
            "GROUP BY 1 ORDER BY 1",
            {"until": until, "zone": tables.time_zone},
        ).to_arrow_table()
        days[f"{table}.rows"] = _placed(counts, "rows", first, len(days["rows"]), 0.0)
    return first, days


def _quarter(time: str) -> str:
    """SQL of the quarter of an hour of a time, counted from 1970. Before 1970 it is rounded the other way."""
    return f"epoch_us({time}) // {QUARTER_US}"


def _listed(columns: Mapping[str, str]) -> str:
    return ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())


def _is_priced(tables: Tables) -> bool:
    return all(tables.has("events", column) for column in ("item_id", "amount")) and tables.has("items", "price")


def _optional(tables: Tables) -> list[str]:
    """Columns of the events that may lack values."""
    columns = CONTRACT["events"].columns.items()
    return [column for column, contract in columns if contract.nullable and tables.has("events", column)]


def _sums(tables: Tables) -> Iterator[tuple[str, str]]:
    """Name -> SQL of what is summed up for each quarter of an hour and kind of event. A name with / counts values."""
    yield "rows", "count(*)"
    yield "last", "max(e.event_time)"
    for column in _optional(tables):
        yield f"{column}/", f"count(e.{column})"
    for name, value in _means(tables).items():
        yield name, f"sum({value})"
        yield f"{name}/", f"count({value})"


def _means(tables: Tables) -> dict[str, str]:
    """Figure of purchases -> SQL of the value whose mean it is."""
    found: dict[str, str] = {}
    for column in MONEY:
        if tables.has("events", column):
            found[f"log:{column}"] = f"ln(abs(nullif(e.{column}, 0)))"
            found[f"negative:{column}"] = f"(e.{column} < 0)::INT"
    if _is_priced(tables):
        units = "greatest(abs(e.quantity), 1)" if tables.has("events", "quantity") else "1"
        found["log:paid"] = f"ln(nullif(abs(e.amount) / nullif(greatest(i.price, 0) * {units}, 0), 0))"
    return found


def _event_figures(tables: Tables, of_kinds: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Name of a day's figure -> its SQL from the sums of the day's quarters."""
    yield "rows", "sum(rows)"
    for kind in EVENT_KINDS:
        yield f"kind:{kind}", f"coalesce(sum(rows) FILTER (kind = '{kind}'), 0)"
    for column in _optional(tables):
        kinds = ", ".join(f"'{kind}'" for kind in of_kinds[column])
        all_rows = f"sum(rows) FILTER (kind IN ({kinds}))"
        yield f"of:{column}", f"coalesce({all_rows}, 0)"
        yield f"null:{column}", f'({all_rows} - sum("{column}/") FILTER (kind IN ({kinds}))) / nullif({all_rows}, 0)'
    for name in _means(tables):
        of_purchases = "FILTER (kind = 'purchase')"
        yield name, f'sum("{name}") {of_purchases} / nullif(sum("{name}/") {of_purchases}, 0)'
    for hour in range(24):
        yield f"hour:{hour}", f"coalesce(sum(rows) FILTER (hour = {hour}), 0)"
    yield "last_hour", "max(hour(local_last) + minute(local_last) / 60)"


def _fingerprint(tables: Tables) -> str:
    return f"hash({', '.join(f'e.{c}' for c in SAME_ROW if tables.has('events', c))})"


def _distinct(
    connection: "duckdb.DuckDBPyConnection", tables: Tables, until: datetime, first: date, num_days: int
) -> dict[str, Floats]:
    """Distinct users of each day, and the share of its rows that occur an even number of times.

    Rows that repeat by nature occur two, three or more times. A copied file gives even numbers only.
    """
    (rows,) = connection.execute("SELECT count(*) FROM events").fetchone() or (0,)
    part = 1
    while rows / part > EXACT_ROWS:
        part *= 2
    # Hashes of 64 bits stand for users and rows: a day has too few of them for two to share one.
    events = (
        f"SELECT day, hash(user_id) AS user, {_fingerprint(tables)} AS print FROM events e "
        f"JOIN local_quarters q ON q.quarter = {_quarter('e.event_time')} "
        f"WHERE e.event_time <= $until AND hash(user_id) % {part} = 0"
    )
    users = connection.execute(
        f"SELECT day, count(*) * {part} AS users FROM (SELECT DISTINCT day, user FROM ({events})) "
        "GROUP BY 1 ORDER BY 1",
        {"until": until},
    ).to_arrow_table()
    repeated = connection.execute(
        "SELECT day, coalesce(sum(times) FILTER (times % 2 = 0), 0) / sum(times) AS repeated FROM "
        f"(SELECT day, print, count(*) AS times FROM ({events}) GROUP BY 1, 2) GROUP BY 1 ORDER BY 1",
        {"until": until},
    ).to_arrow_table()
    return {
        "users": _placed(users, "users", first, num_days, 0.0),
        "repeated": _placed(repeated, "repeated", first, num_days, np.nan),
    }


def _by_day(found: pa.Table, figures: list[str]) -> tuple[date, dict[str, Floats]]:
    """Spread rows of days over all days from the first to the last."""
    first, last = found["day"][0].as_py(), found["day"][-1].as_py()
    num_days = (last - first).days + 1
    counts = {"rows"} | {name for name in figures if name.startswith(("kind:", "hour:"))}
    return first, {name: _placed(found, name, first, num_days, 0.0 if name in counts else np.nan) for name in figures}


def _placed(found: pa.Table, column: str, first: date, num_days: int, missing: float) -> Floats:
    values = np.full(num_days, missing)
    for day, value in zip(found["day"].to_pylist(), found[column].to_pylist(), strict=True):
        if day is not None and value is not None and 0 <= (day - first).days < num_days:
            values[(day - first).days] = float(value)
    return values
