"""Figures of a table (volume, freshness, shares), computed in DuckDB for the suites to judge.

Each is one number. The next run of the same source is compared with them.
"""

from collections.abc import Iterator
from datetime import datetime

import duckdb
import pyarrow as pa

from recommender.datasets.tables import CONTRACT, Tables

COVERED = "EXISTS (SELECT 1 FROM {other} o WHERE {condition})"
"""SQL: whether a row has a partner in the table `other`."""


def figures(
    connection: duckdb.DuckDBPyConnection, tables: Tables, name: str, bad: pa.Table, as_of: datetime
) -> dict[str, float | None]:
    """Figures of one cleaned table, by name. None if there is nothing to count.

    Every table has `rows` (those kept), `quarantined`, `quarantined_share` and `orphan_share_<column>` for each
    foreign key. Shares of quarantined and orphan rows refer to all rows before cleaning. All other shares refer to the
    rows kept.

    Args:
        connection: has a view of each cleaned table (`rows.set_aside`).
        tables: the tables as they were read.
        name: which table.
        bad: the rows of this table that were set aside, with `_reason`.
        as_of: the moment of decision, which the count of live campaigns needs.
    """
    rows = connection.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0]
    found: dict[str, float | None] = {"rows": rows, "quarantined": bad.num_rows}
    everything = max(1, rows + bad.num_rows)
    found["quarantined_share"] = bad.num_rows / everything
    reasons = bad["_reason"].to_pylist()
    for column, parent in CONTRACT[name].foreign_keys.items():
        if tables.has(name, column):
            found[f"orphan_share_{column}"] = sum(f"{column}: {parent} has no" in r for r in reasons) / everything
    for figure, query in _queries(tables, name):
        value = connection.execute(query, {"as_of": as_of} if "$as_of" in query else None).fetchone()
        found[figure] = None if value is None or value[0] is None else float(value[0])
    return found


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
    if name == "participations":
        outside = "p.participated_at < c.starts_at OR p.participated_at > c.ends_at + INTERVAL 1 DAY"
        yield (
            "share_outside_window",
            f"SELECT avg(({outside})::INT) FROM participations p JOIN campaigns c USING (campaign_id)",
        )
        aimed = COVERED.format(other="targets", condition="o.campaign_id = p.campaign_id AND o.user_id = p.user_id")
        yield "share_untargeted", f"SELECT avg(CASE WHEN {aimed} THEN 0 ELSE 1 END) FROM participations p"
    if name == "events":
        yield "purchase_share", "SELECT avg((kind = 'purchase')::INT) FROM events"
        span = "1 + date_diff('day', min(event_time)::DATE, max(event_time)::DATE)"
        yield "days_without_events", f"SELECT {span} - count(DISTINCT event_time::DATE) FROM events"
        if tables.has(name, "coupon_discount"):
            yield (
                "coupon_line_share",
                "SELECT avg((coalesce(coupon_discount, 0) > 0)::INT) FROM events WHERE kind = 'purchase'",
            )
        if tables.has(name, "basket_id") and tables.has(name, "amount"):
            baskets = "SELECT sum(amount) AS paid FROM events WHERE kind = 'purchase' GROUP BY basket_id"
            yield "mean_basket", f"SELECT avg(paid) FROM ({baskets})"
