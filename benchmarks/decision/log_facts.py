"""Counts by SQL, over the tables of a log, what reasons say. Shares no code with the product that states them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from recommender.datasets.contract import open_views
from recommender.datasets.tables import Tables


@dataclass(frozen=True)
class Said:
    """One reason of one answer."""

    user_id: str
    campaign_id: str
    text: str


LINES = """
CREATE TEMP TABLE lines AS SELECT e.user_id, e.item_id, i.product_type, i.manufacturer, e.coupon_discount,
    (epoch($as_of::TIMESTAMPTZ) - epoch(e.event_time)) / 86400 AS age
FROM events e JOIN items i USING (item_id) WHERE e.kind = 'purchase' AND e.event_time < $as_of
"""
COUNTED = "SELECT s.n, count({what}) FROM said s JOIN lines l USING (user_id) WHERE {where} GROUP BY s.n"
OF_ITEMS = "l.item_id IN (SELECT item_id FROM campaign_items c WHERE c.campaign_id = s.campaign_id)"
IN_AXIS = "EXISTS (SELECT 1 FROM axis a WHERE a.campaign_id = s.campaign_id AND a.{axis} = l.{axis})"
OF_TYPE = """
SELECT s.n, count(DISTINCT t.campaign_id) FILTER (p.campaign_id IS NOT NULL), count(DISTINCT t.campaign_id)
FROM said s JOIN campaigns own ON own.campaign_id = s.campaign_id
JOIN targets t ON t.user_id = s.user_id AND t.targeted_at < $as_of AND t.campaign_id <> s.campaign_id
JOIN campaigns c ON c.campaign_id = t.campaign_id AND c.campaign_type = own.campaign_type
LEFT JOIN participations p ON p.user_id = s.user_id AND p.campaign_id = t.campaign_id AND p.participated_at < $as_of
GROUP BY s.n
"""
DAYS = {"in the last 30 days": 30, "in the last 90 days": 90, "so far": 100_000}
KINDS = {
    "items": re.compile(r"You have bought (\d+) of its items before"),
    "product_type": re.compile(r"You bought (\d+) things? of these product types (.*)"),
    "manufacturer": re.compile(r"You bought (\d+) things? of these makers (.*)"),
    "coupons": re.compile(r"You used a coupon for (\d+) things? of these product types"),
    "campaigns": re.compile(r"You took up (\d+) of your last (\d+) campaigns of this type"),
    "last_campaign": re.compile(r"You took up your last campaign of this type"),
}
IMPLIED = {"last_campaign": (1, 1)}
"""Numbers of the reasons that say them in words: one campaign of this type, which was taken up."""


def contradicted(tables: Tables, as_of: datetime, said: Sequence[Said]) -> tuple[int, list[Said]]:
    """Count the reasons that state a number, and list those whose number is not the log's.

    Raises:
        ValueError: a reason has a form that is not known here.
    """
    with open_views(tables) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(LINES, {"as_of": as_of})
        connection.execute(
            "CREATE TEMP TABLE axis AS SELECT DISTINCT campaign_id, product_type, manufacturer "
            "FROM campaign_items JOIN items USING (item_id)"
        )
        checked, wrong = 0, []
        for kind, pattern in KINDS.items():
            found = [(one, match) for one in said if (match := pattern.fullmatch(one.text))]
            checked += len(found)
            counted = dict(_counted(connection, kind, as_of, found))
            wrong += [
                one
                for number, (one, match) in enumerate(found)
                if counted.get(number)
                != IMPLIED.get(kind, tuple(int(group) for group in match.groups() if group.isdigit()))
            ]
    unknown = [one for one in said if not any(pattern.fullmatch(one.text) for pattern in KINDS.values())]
    if unknown:
        raise ValueError(f"no way is known to check the reason {unknown[0].text!r}")
    return checked, wrong


def _counted(
    connection: duckdb.DuckDBPyConnection, kind: str, as_of: datetime, found: Sequence[tuple[Said, "re.Match[str]"]]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The log's numbers for reasons of one kind, by their place."""
    table = pa.table(
        {
            "n": pa.array(range(len(found)), pa.int64()),
            "user_id": pa.array([one.user_id for one, _ in found], pa.string()),
            "campaign_id": pa.array([one.campaign_id for one, _ in found], pa.string()),
            "days": pa.array([DAYS.get(match[match.re.groups], 0) for _, match in found], pa.int64()),
        }
    )
    connection.register("said", table)
    match kind:
        case "items":
            query = COUNTED.format(what="DISTINCT l.item_id", where=OF_ITEMS)
        case "coupons":
            query = COUNTED.format(what="*", where="l.coupon_discount > 0 AND " + IN_AXIS.format(axis="product_type"))
        case "campaigns" | "last_campaign":
            query = OF_TYPE
        case axis:
            query = COUNTED.format(what="*", where="l.age <= s.days AND " + IN_AXIS.format(axis=axis))
    parameters = {"as_of": as_of} if "$as_of" in query else None
    for number, *counts in connection.execute(query, parameters).fetchall():
        yield int(number), tuple(int(count) for count in counts)
