"""SQL of the figures by day. Every query reads a table once and returns a few numbers for each day."""

from collections.abc import Iterator
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
SAME_ROW = ("user_id", "kind", "event_time", "item_id", "quantity", "amount")
"""What two events share if one is a copy. Identifiers of event and basket are often made anew."""


def event_days(
    connection: "duckdb.DuckDBPyConnection", tables: Tables, until: datetime
) -> tuple[date | None, dict[str, Floats]]:
    """First day, and the figures of each day up to `until`, as `Statistics.days` names them."""
    local = f"timezone('{tables.time_zone}', e.event_time)"
    priced = all(tables.has("events", c) for c in ("item_id", "amount")) and tables.has("items", "price")
    figures = dict(_event_figures(tables, local, kinds_with(connection, tables), priced=priced))
    listed = ", ".join(f'{sql} AS "{name}"' for name, sql in figures.items())
    join = "LEFT JOIN items i ON i.item_id = e.item_id" if priced else ""
    found = connection.execute(
        f"SELECT {local}::DATE AS day, {listed} FROM events e {join} WHERE e.event_time <= $until "
        "GROUP BY 1 ORDER BY 1",
        {"until": until},
    ).to_arrow_table()
    if not found.num_rows:
        return None, {"rows": np.zeros(0)}
    first, days = _by_day(found, list(figures))
    days |= _distinct(connection, tables, until, first, len(days["rows"]))
    for table, column in (("participations", "participated_at"), ("targets", "targeted_at")):
        if not tables.has(table):
            continue
        counts = connection.execute(
            f"SELECT timezone('{tables.time_zone}', {column})::DATE AS day, count(*) AS rows FROM {table} "
            f"WHERE {column} <= $until GROUP BY 1 ORDER BY 1",
            {"until": until},
        ).to_arrow_table()
        days[f"{table}.rows"] = _placed(counts, "rows", first, len(days["rows"]), 0.0)
    return first, days


def _event_figures(
    tables: Tables, local: str, of_kinds: dict[str, list[str]], *, priced: bool
) -> Iterator[tuple[str, str]]:
    def has(column: str) -> bool:
        return tables.has("events", column)

    yield "rows", "count(*)"
    for kind in EVENT_KINDS:
        yield f"kind:{kind}", f"count(*) FILTER (e.kind = '{kind}')"
    for column, contract in CONTRACT["events"].columns.items():
        if contract.nullable and has(column):
            kinds = ", ".join(f"'{kind}'" for kind in of_kinds[column])
            yield f"null:{column}", f"avg((e.{column} IS NULL)::INT) FILTER (e.kind IN ({kinds}))"
    for column in MONEY:
        if has(column):
            # nullif: DuckDB takes the logarithm before it filters.
            yield f"log:{column}", f"avg(ln(abs(nullif(e.{column}, 0)))) FILTER (e.kind = 'purchase')"
            yield f"negative:{column}", f"avg((e.{column} < 0)::INT) FILTER (e.kind = 'purchase')"
    if priced:
        units = "greatest(abs(e.quantity), 1)" if has("quantity") else "1"
        price = f"(greatest(i.price, 0) * {units})"
        yield "log:paid", f"avg(ln(nullif(abs(e.amount) / nullif({price}, 0), 0))) FILTER (e.kind = 'purchase')"
    for hour in range(24):
        yield f"hour:{hour}", f"count(*) FILTER (hour({local}) = {hour})"
    yield "last_hour", f"max(hour({local}) + minute({local}) / 60)"


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
    found = connection.execute(
        f"SELECT day, count(DISTINCT user_id) * {part} AS users, "
        "coalesce(sum(times) FILTER (times % 2 = 0), 0) / sum(times) AS repeated FROM ("
        f"SELECT timezone('{tables.time_zone}', e.event_time)::DATE AS day, user_id, {_fingerprint(tables)} AS print, "
        f"count(*) AS times FROM events e WHERE e.event_time <= $until AND hash(user_id) % {part} = 0 GROUP BY 1, 2, 3"
        ") GROUP BY 1 ORDER BY 1",
        {"until": until},
    ).to_arrow_table()
    return {
        "users": _placed(found, "users", first, num_days, 0.0),
        "repeated": _placed(found, "repeated", first, num_days, np.nan),
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
