"""Facts across tables: whether users, items, campaigns and events of one shop belong together. SQL only.

A table can be sound by itself and still be about other people than the next one: one file writes customers as `17.0`,
another as `17`. Each fact is a share. Near zero is critical, because nothing can be learned then; low is a warning.
The limits are chosen by hand, below what Complete Journey, cold shops and simulated worlds have.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from recommender.datasets.checks.check import Check, Severity
from recommender.datasets.tables import Tables

if TYPE_CHECKING:
    import duckdb

LEFT_OUT_WARNING, LEFT_OUT_CRITICAL = 0.9, 0.995
"""Share of a table's rows that one rule of the mapping may leave out. Page views are often most of a click log."""
PURCHASE = "kind = 'purchase' AND event_time <= $as_of"


def facts(connection: "duckdb.DuckDBPyConnection", tables: Tables, as_of: datetime) -> list[Check]:
    """All facts that these tables allow.

    Args:
        connection: has a view of each table.
        tables: what they are.
        as_of: the moment of decision. Events after it do not count.
    """
    ask = _Asker(connection, as_of)
    return [*_purchases(ask), *_log_end(ask), *_targets(ask), *_campaigns(ask, tables), *_left_out(tables)]


class _Asker:
    """Asks for one number."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", as_of: datetime) -> None:
        self._connection, self._as_of = connection, as_of

    def __call__(self, query: str) -> float | None:
        values = {"as_of": self._as_of} if "$as_of" in query else None
        row = self._connection.execute(query, values).fetchone()
        return None if row is None or row[0] is None else float(row[0])


def _share(
    name: str, table: str, column: str, value: float | None, *, critical: float, warning: float, what: str, cause: str
) -> Iterator[Check]:
    """The fact that a share is not low. Nothing where there is nothing to count."""
    if value is None:
        return
    severity: Severity = "critical" if value < critical else "warning"
    yield Check(
        name=f"facts.{name}",
        table=table,
        column=column,
        severity=severity,
        value=value,
        least=warning,
        sentence=f"at least {warning:.0%} of {what}",
        cause=f"{value:.1%} of {what}: {cause}",
    )


def _purchases(ask: _Asker) -> Iterator[Check]:
    yield Check(
        name="facts.purchases",
        table="events",
        column="kind",
        severity="critical",
        value=ask(f"SELECT count(*) FROM events WHERE {PURCHASE}") or 0.0,
        least=1.0,
        sentence="there are purchases before the time of decision",
        cause="no purchase at all: is the shop's word for it mapped, under `values` of events.kind?",
    )


def _log_end(ask: _Asker) -> Iterator[Check]:
    late = ask(
        "SELECT avg((participated_at > last + INTERVAL 1 DAY)::INT) FROM participations, "
        "(SELECT max(event_time) AS last FROM events)"
    )
    yield Check(
        name="facts.participations_after_the_log",
        table="events",
        column="event_time",
        severity="warning",
        value=late or 0.0,
        most=0.05,
        sentence="at most 5 % of the participations are later than the last event",
        cause=f"{late or 0:.0%} of the participations are more than a day later than the last event: the file of "
        "events cut, or older than the others?",
    )


def _targets(ask: _Asker) -> Iterator[Check]:
    known = ask(
        "WITH first AS (SELECT user_id, min(event_time) AS since FROM events GROUP BY 1), "
        "targeted AS (SELECT user_id, max(targeted_at) AS at_last FROM targets WHERE targeted_at <= $as_of GROUP BY 1) "
        "SELECT avg((since IS NOT NULL AND since < at_last)::INT) FROM targeted LEFT JOIN first USING (user_id)"
    )
    yield from _share(
        "targeted_users_known",
        "targets",
        "user_id",
        known,
        critical=0.02,
        warning=0.2,
        what="the targeted users have an earlier event",
        cause="are user ids written alike in both files (17 and 17.0, letter case, blanks)?",
    )
    taken = ask(
        "WITH t AS (SELECT DISTINCT campaign_id, user_id, true AS targeted FROM targets) "
        "SELECT avg(coalesce(targeted, false)::INT) FROM participations LEFT JOIN t USING (campaign_id, user_id)"
    )
    yield from _share(
        "participations_targeted",
        "participations",
        "user_id",
        taken,
        critical=0.02,
        warning=0.2,
        what="the participations belong to a targeted user",
        cause="are user and campaign ids written alike in both files? Without a target they are not learned from",
    )


def _campaigns(ask: _Asker, tables: Tables) -> Iterator[Check]:
    if tables.has("campaign_items") and tables.has("events", "item_id"):
        bought = ask(
            "WITH bought AS (SELECT DISTINCT item_id, true AS seen FROM events WHERE item_id IS NOT NULL) "
            "SELECT avg(coalesce(seen, false)::INT) FROM (SELECT DISTINCT item_id FROM campaign_items) "
            "LEFT JOIN bought USING (item_id)"
        )
        yield from _share(
            "campaign_items_seen",
            "campaign_items",
            "item_id",
            bought,
            critical=0.01,
            warning=0.1,
            what="the campaigns' items occur in an event",
            cause="are item ids written alike in both files (a SKU here, a product number there)?",
        )
    overlap = ask(
        "WITH log AS (SELECT min(event_time) AS first, max(event_time) AS last FROM events WHERE event_time <= $as_of) "
        "SELECT avg((starts_at <= last + INTERVAL 1 DAY AND ends_at > first)::INT) FROM campaigns, log "
        "WHERE starts_at <= $as_of"
    )
    yield from _share(
        "campaigns_inside_the_log",
        "campaigns",
        "starts_at",
        overlap,
        critical=0.02,
        warning=0.2,
        what="the campaigns so far run while there are events",
        cause="are the times of events and campaigns of the same years, day and month not swapped?",
    )


def _left_out(tables: Tables) -> Iterator[Check]:
    """What the mapping's rules left out, as the manifest counts it: table -> rule -> rows."""
    for table, rules in tables.manifest.get("left_out", {}).items():
        kept = tables.manifest["rows"].get(table, 0)
        everything = max(1, kept + sum(rules.values()))
        for rule, rows in rules.items():
            share = rows / everything
            yield Check(
                name=f"facts.{table}.left_out.{rule}",
                table=table,
                severity="critical" if share > LEFT_OUT_CRITICAL else "warning",
                value=share,
                most=LEFT_OUT_WARNING,
                sentence=f"the rule {rule!r} leaves out at most {LEFT_OUT_WARNING:.0%} of the rows",
                cause=f"the rule {rule!r} left out {rows:,} of {everything:,} rows: is that what it is meant to do?",
            )
