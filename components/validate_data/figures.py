"""Figures of a table (volume, freshness, shares, broken rules), computed in DuckDB for the suites to judge.

Each is one number. The next run of the same source is compared with them.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from components.validate_data.rows import Aside
from recommender.datasets.contract import may_repeat
from recommender.datasets.tables import CONTRACT, Tables
from recommender.datasets.time_units import utc_day_sql

COVERED = "EXISTS (SELECT 1 FROM {other} o WHERE {condition})"
"""SQL: whether a row has a partner in the table `other`."""
NOT_NEGATIVE = ("amount", "quantity", "discount", "coupon_discount", "price")
SHOWN_ROWS = 5
"""Rows of a broken rule that are shown: enough to see what is wrong. Chosen by hand."""


def figures(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, aside: Aside, as_of: datetime
) -> dict[str, float | None]:
    """Figures of one cleaned table, by name. None if there is nothing to count.

    Every table has `rows` (those kept), `quarantined`, `quarantined_share`, `duplicate_keys`, `orphan_share_<column>`
    for each foreign key, and the counts of broken rules (`missing_<column>` and so on). Shares of quarantined and
    orphan rows refer to all rows before cleaning. All other shares refer to the rows kept.

    Args:
        connection: has a view of each cleaned table (`rows.set_aside`).
        tables: the tables as they were read.
        name: which table.
        aside: the rows of this table that were set aside.
        as_of: the moment of decision: rows after it count as not yet known, and campaigns live at it are counted.
    """
    counts = dict(_counts(tables, name))
    listed = ", ".join(f'{sql} AS "{figure}"' for figure, sql in counts.items())
    values = connection.sql(f"SELECT count(*), {listed} FROM {name}").fetchall()[0]
    rows = values[0]
    found: dict[str, float | None] = {"rows": rows, "quarantined": aside.rows}
    everything = max(1, rows + aside.rows)
    found["quarantined_share"] = aside.rows / everything
    for column in CONTRACT[name].foreign_keys:
        if tables.has(name, column):
            found[f"orphan_share_{column}"] = aside.orphans.get(column, 0) / everything
    found |= {figure: float(value or 0) for figure, value in zip(counts, values[1:], strict=True)}
    found["duplicate_keys"] = connection.sql(f"SELECT count(*) FROM ({duplicates(tables, name)})").fetchall()[0][0]
    for figure, query in _queries(tables, name):
        answer = connection.execute(query, {"as_of": as_of} if "$as_of" in query else None).fetchone()
        found[figure] = None if answer is None or answer[0] is None else float(answer[0])
    return found


def failing_rows(connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, figure: str) -> list[dict[str, Any]]:
    """The first rows that a count of broken rules counts, key and value. Empty for any other figure."""
    rules = {rule: condition for rule, _, condition in _rules(tables, name)}
    if figure == "duplicate_keys":
        query = duplicates(tables, name)
    elif figure in rules or figure.replace("share_", "") in rules:
        condition = rules.get(figure) or rules[figure.replace("share_", "")]
        shown = [*CONTRACT[name].key, figure.split("_")[-1]]
        columns = dict.fromkeys(c for c in shown if tables.has(name, c))
        query = f"SELECT {', '.join(columns)} FROM {name} WHERE {condition} ORDER BY _row"
    else:
        return []
    found = connection.sql(f"{query} LIMIT {SHOWN_ROWS}")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def duplicates(tables: Tables, name: str) -> str:
    """SQL: the keys of a table that occur several times."""
    key = ", ".join(column for column in CONTRACT[name].key if tables.has(name, column))
    first = CONTRACT[name].key[0]
    return (
        f"SELECT {key} FROM {name} WHERE {first} IS NOT NULL AND {may_repeat(name, key)} "
        f"GROUP BY {key} HAVING count(*) > 1 ORDER BY {key}"
    )


def _rules(tables: Tables, name: str) -> Iterator[tuple[str, str, str]]:
    """Figure, column and SQL condition of every rule whose broken rows are counted."""
    for column, contract in CONTRACT[name].columns.items():
        if not tables.has(name, column):
            continue
        if not contract.nullable:
            yield f"missing_{column}", column, f"{column} IS NULL"
        if contract.values:
            literals = ", ".join(f"'{value}'" for value in contract.values)
            yield f"unknown_{column}", column, f"{column} NOT IN ({literals})"
        if column in NOT_NEGATIVE and pa.types.is_floating(contract.dtype):
            yield f"below_zero_{column}", column, f"{column} < 0"
    if name == "campaigns":
        yield "ends_before_start", "ends_at", "ends_at <= starts_at"
    if tables.has(name, "propensity"):
        yield "outside_propensity", "propensity", "propensity <= 0 OR propensity > 1"


def _counts(tables: Tables, name: str) -> Iterator[tuple[str, str]]:
    for figure, column, condition in _rules(tables, name):
        yield figure, f"count(*) FILTER ({condition})"
        if figure.startswith("below_zero") and column in ("amount", "quantity"):
            yield f"below_zero_share_{column}", f"avg(({column} < 0)::INT)"


def _queries(tables: Tables, name: str) -> Iterator[tuple[str, str]]:
    if name == "campaigns":
        yield "live_campaigns", "SELECT count(*) FROM campaigns WHERE starts_at <= $as_of AND ends_at > $as_of"
        yield "longest_window_days", "SELECT max(epoch(ends_at) - epoch(starts_at)) / 86400 FROM campaigns"
        if tables.has("campaign_items"):
            covered = COVERED.format(other="campaign_items", condition="o.campaign_id = c.campaign_id")
            yield "share_without_items", f"SELECT avg(CASE WHEN {covered} THEN 0 ELSE 1 END) FROM campaigns c"
    if name == "targets":
        late = "SELECT avg((t.targeted_at >= c.ends_at)::INT) FROM targets t JOIN campaigns c USING (campaign_id)"
        yield "share_after_campaign", late
        yield "not_yet_known", "SELECT count(*) FROM targets WHERE targeted_at > $as_of"
    if name == "participations":
        outside = "p.participated_at < c.starts_at OR p.participated_at > c.ends_at + INTERVAL 1 DAY"
        yield (
            "share_outside_window",
            f"SELECT avg(({outside})::INT) FROM participations p JOIN campaigns c USING (campaign_id)",
        )
        aimed = COVERED.format(other="targets", condition="o.campaign_id = p.campaign_id AND o.user_id = p.user_id")
        yield "share_untargeted", f"SELECT avg(CASE WHEN {aimed} THEN 0 ELSE 1 END) FROM participations p"
        yield "not_yet_known", "SELECT count(*) FROM participations WHERE participated_at > $as_of"
    if name == "events":
        yield "not_yet_known", "SELECT count(*) FROM events WHERE event_time > $as_of"
        yield (
            "days_since_last_event",
            "SELECT greatest(0, epoch($as_of::TIMESTAMPTZ) - epoch(max(event_time))) / 86400 FROM events "
            "WHERE event_time <= $as_of",
        )
        yield "purchase_share", "SELECT avg((kind = 'purchase')::INT) FROM events"
        days = f"SELECT DISTINCT {utc_day_sql('event_time')} AS day FROM events WHERE event_time IS NOT NULL"
        yield "days_without_events", f"SELECT 1 + date_diff('day', min(day), max(day)) - count(*) FROM ({days})"
        if tables.has(name, "coupon_discount"):
            yield (
                "coupon_line_share",
                "SELECT avg((coalesce(coupon_discount, 0) > 0)::INT) FROM events WHERE kind = 'purchase'",
            )
        if tables.has(name, "basket_id") and tables.has(name, "amount"):
            baskets = "SELECT sum(amount) AS paid FROM events WHERE kind = 'purchase' GROUP BY basket_id"
            yield "mean_basket", f"SELECT avg(paid) FROM ({baskets})"
