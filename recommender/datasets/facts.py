"""Facts across tables: whether users, items, campaigns and events of one shop belong together. SQL only.

A table can be sound by itself and still be about other people than the next one: one file writes customers as `17.0`,
another as `17`. Each fact is a share. Near zero is critical, because nothing can be learned then; low is a warning.
The limits are chosen by hand, below what Complete Journey, cold shops and simulated worlds have.

The preview of a mapping, validation and the summary of a run all take the facts from here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from recommender.datasets.checks.check import Check, Severity
from recommender.datasets.tables import Tables

if TYPE_CHECKING:
    import duckdb

OTHER_SHAPE = 0.05
"""Share of identifiers of a shape that no event has. Test accounts are fewer. Chosen by hand."""
LEFT_OUT_WARNING, LEFT_OUT_CRITICAL = 0.9, 0.98
"""Share of a table's rows that one rule of the mapping may leave out. Page views are often most of a click log."""
PURCHASE = "kind = 'purchase' AND event_time <= $as_of"


@dataclass(frozen=True)
class Known:
    """What is known of tables beside their rows, whether they are written or only read.

    Attributes:
        columns: table -> its columns. A table that is absent has no facts.
        rows: table -> number of its rows.
        left_out: table -> rule of the mapping -> rows that it leaves out.
    """

    columns: Mapping[str, Sequence[str]]
    rows: Mapping[str, int]
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Tables) -> "Known":
        """What the manifest of a folder of tables says."""
        manifest = tables.manifest
        return cls(manifest["columns"], manifest["rows"], manifest.get("left_out", {}))

    def has(self, table: str, *columns: str) -> bool:
        """Whether the table is there, with all of these columns."""
        return table in self.columns and set(columns) <= set(self.columns[table])


def facts(connection: "duckdb.DuckDBPyConnection", known: Known, as_of: datetime) -> list[Check]:
    """All facts that these tables allow.

    Args:
        connection: has a view of each table.
        known: which tables and columns there are.
        as_of: the moment of decision. Events after it do not count.
    """
    ask = _Asker(connection, as_of)
    return [
        *_purchases(ask, known),
        *_log_end(ask, known),
        *_targets(ask, known),
        *_campaigns(ask, known),
        *_left_out(known),
    ]


class _Asker:
    """Asks for one row."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", as_of: datetime) -> None:
        self._connection, self._as_of = connection, as_of

    def __call__(self, query: str) -> tuple[Any, ...]:
        values = {"as_of": self._as_of} if "$as_of" in query else None
        return self._connection.execute(query, values).fetchone() or (None, None)


def _share(
    name: str,
    table: str,
    column: str,
    found: tuple[Any, ...],
    *,
    critical: float,
    warning: float,
    what: str,
    cause: str,
) -> Iterator[Check]:
    """The fact that a share is not low. Nothing where there is nothing to count.

    Args:
        name: names the fact, with `facts.` before it.
        table: the table that it is about.
        column: its column.
        found: the share, and an example of what does not fit, or None.
        critical: below this share nothing can be learned.
        warning: below this share something is likely wrong.
        what: whose share it is, in words.
        cause: what a low share can come from.
    """
    value, example = found
    if value is None:
        return
    severity: Severity = "critical" if value < critical else "warning"
    but = "" if example is None else f" (not {str(example)!r}, for example)"
    yield Check(
        name=f"facts.{name}",
        table=table,
        column=column,
        severity=severity,
        value=float(value),
        least=warning,
        sentence=f"at least {warning:.0%} of {what}",
        cause=f"{value:.1%} of {what}{but}: {cause}",
    )


def _purchases(ask: _Asker, known: Known) -> Iterator[Check]:
    if not known.has("events", "kind", "event_time"):
        return
    (purchases,) = ask(f"SELECT count(*) FROM events WHERE {PURCHASE}")
    yield Check(
        name="facts.purchases",
        table="events",
        column="kind",
        severity="critical",
        value=float(purchases),
        least=1.0,
        sentence="there are purchases before the time of decision",
        cause="no purchase at all: is the shop's word for it mapped, under `values` of events.kind?",
    )


def _log_end(ask: _Asker, known: Known) -> Iterator[Check]:
    if not (known.has("participations", "participated_at") and known.has("events", "event_time")):
        return
    (late,) = ask(
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


def _targets(ask: _Asker, known: Known) -> Iterator[Check]:
    if known.has("targets", "user_id", "targeted_at") and known.has("events", "user_id", "event_time"):
        yield from _share(
            "targeted_users_known",
            "targets",
            "user_id",
            ask(
                "WITH first AS (SELECT user_id, min(event_time) AS since FROM events GROUP BY 1), "
                "targeted AS (SELECT user_id, max(targeted_at) AS at_last FROM targets WHERE targeted_at <= $as_of "
                "GROUP BY 1), "
                "t AS (SELECT user_id, since IS NOT NULL AND since < at_last AS known "
                "FROM targeted LEFT JOIN first USING (user_id)) "
                "SELECT avg(known::INT), min(user_id) FILTER (NOT known) FROM t"
            ),
            critical=0.02,
            warning=0.2,
            what="the targeted users have an earlier event",
            cause="are user ids written alike in both files (17 and 17.0, letter case, blanks)?",
        )
        yield _alike(ask, "targets", "user_id")
    if known.has("participations", "campaign_id", "user_id") and known.has("targets", "campaign_id", "user_id"):
        yield from _share(
            "participations_targeted",
            "participations",
            "user_id",
            ask(
                "WITH t AS (SELECT DISTINCT campaign_id, user_id, true AS targeted FROM targets), "
                "p AS (SELECT user_id, coalesce(targeted, false) AS targeted "
                "FROM participations LEFT JOIN t USING (campaign_id, user_id)) "
                "SELECT avg(targeted::INT), min(user_id) FILTER (NOT targeted) FROM p"
            ),
            critical=0.02,
            warning=0.2,
            what="the participations belong to a targeted user",
            cause="are user and campaign ids written alike in both files? Without a target they are not learned from",
        )


def _alike(ask: _Asker, table: str, column: str) -> Check:
    """The fact that identifiers without any event are not written in another way than those with one: U18 beside 17."""
    shape = "regexp_replace(regexp_replace(k, '[0-9]+', '9', 'g'), '[[:alpha:]]+', 'a', 'g')"
    share, example = ask(
        f"WITH ids AS (SELECT DISTINCT {column} AS k FROM {table} WHERE {column} IS NOT NULL), "
        f"seen AS (SELECT DISTINCT {column} AS k, true AS seen FROM events), "
        f"s AS (SELECT k, {shape} AS shape, coalesce(seen, false) AS seen FROM ids LEFT JOIN seen USING (k)), "
        "shapes AS (SELECT shape, count(*) AS n, min(k) AS example FROM s GROUP BY 1 "
        "HAVING NOT bool_or(seen)) "
        "SELECT coalesce(sum(n), 0) / (SELECT count(*) FROM s), min(example) FROM shapes "
        "WHERE EXISTS (SELECT 1 FROM s WHERE seen)"
    )
    value = 0.0 if share is None else share
    return Check(
        name=f"facts.{table}.{column}.written_alike",
        table=table,
        column=column,
        severity="warning",
        value=value,
        most=OTHER_SHAPE,
        sentence="identifiers without an event are written like those with one",
        cause=f"{value:.0%} of the identifiers are written like none that has an event, such as {example}: "
        "are these the same users by another name?",
    )


def _campaigns(ask: _Asker, known: Known) -> Iterator[Check]:
    if known.has("campaign_items", "item_id") and known.has("events", "item_id"):
        yield from _share(
            "campaign_items_seen",
            "campaign_items",
            "item_id",
            ask(
                "WITH bought AS (SELECT DISTINCT item_id, true AS seen FROM events WHERE item_id IS NOT NULL), "
                "c AS (SELECT item_id, coalesce(seen, false) AS seen "
                "FROM (SELECT DISTINCT item_id FROM campaign_items) LEFT JOIN bought USING (item_id)) "
                "SELECT avg(seen::INT), min(item_id) FILTER (NOT seen) FROM c"
            ),
            critical=0.01,
            warning=0.1,
            what="the campaigns' items occur in an event",
            cause="are item ids written alike in both files (a SKU here, a product number there)?",
        )
    if known.has("campaigns", "campaign_id", "starts_at", "ends_at") and known.has("events", "event_time"):
        yield from _share(
            "campaigns_inside_the_log",
            "campaigns",
            "starts_at",
            ask(
                "WITH log AS (SELECT min(event_time) AS first, max(event_time) AS last FROM events "
                "WHERE event_time <= $as_of), "
                "c AS (SELECT campaign_id, starts_at <= last + INTERVAL 1 DAY AND ends_at > first AS inside "
                "FROM campaigns, log WHERE starts_at <= $as_of) "
                "SELECT avg(inside::INT), min(campaign_id) FILTER (NOT inside) FROM c"
            ),
            critical=0.02,
            warning=0.2,
            what="the campaigns so far run while there are events",
            cause="are the times of events and campaigns of the same years, day and month not swapped?",
        )


def _left_out(known: Known) -> Iterator[Check]:
    """What the mapping's rules left out."""
    for table, rules in known.left_out.items():
        everything = max(1, known.rows.get(table, 0) + sum(rules.values()))
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
