"""Shows what a mapping makes of a shop's files in seconds, without writing anything."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from recommender.datasets.checks import Check
from recommender.datasets.contract import MAY_BE_EMPTY
from recommender.datasets.facts import Known, facts
from recommender.datasets.files import ReadTables, read_tables
from recommender.datasets.moments import moment
from recommender.datasets.support import supported_days
from recommender.datasets.tables import CONTRACT
from recommender.errors import ContractError
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings

FIRST_ROWS = 3
"""Rows of each table that are shown. Chosen by hand: with seven tables they fill a terminal."""
QUARANTINE_SHOWN = 5
"""Rows of each table that cannot be read, with their reasons."""
NEXT_ITEM_COLUMNS = ("user_id", "item_id", "event_time", "kind")
"""What `next-items fit` needs of a mapping's events."""


@dataclass(frozen=True)
class KeyMatch:
    """How many rows of `table` have a value of `column` that the table `other` knows."""

    table: str
    column: str
    other: str
    rows: int
    matched: int
    example: str | None
    """A value without a partner."""

    @property
    def share(self) -> float:
        """Matched rows of all rows with a value."""
        return self.matched / self.rows if self.rows else 1.0


@dataclass(frozen=True)
class TablePreview:
    """One table as it would be written."""

    name: str
    rows: int
    columns: tuple[str, ...]
    first: tuple[dict[str, Any], ...]
    kinds: dict[str, int] = field(default_factory=dict)
    """Word of `kind` -> rows, the commonest first."""
    times: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Column -> earliest and latest time, UTC."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rule of the mapping -> rows that it leaves out."""
    quarantined: int = 0
    reasons: tuple[tuple[str, int, str], ...] = ()
    """File, row and reason of the first rows that cannot be read."""


@dataclass(frozen=True)
class Preview:
    """All tables that can be read, how they fit together, and the decisions made on the way.

    Attributes:
        tables: the tables, in the contract's order.
        keys: the matches of every foreign key.
        facts: the facts across tables that validation judges, see `facts`.
        missing: sentences about what a run needs and the files lack. They are those of the run's errors.
        decisions: sentences about what was derived or decided.
        next_items: whether the events suffice for a next-item ranker, which needs no campaigns.
    """

    tables: tuple[TablePreview, ...]
    keys: tuple[KeyMatch, ...]
    facts: tuple[Check, ...]
    missing: tuple[str, ...]
    decisions: tuple[str, ...]
    next_items: bool

    @property
    def failed(self) -> tuple[Check, ...]:
        """The facts that do not hold, the critical ones first."""
        failed = (fact for fact in self.facts if not fact.holds)
        return tuple(sorted(failed, key=lambda fact: fact.severity != "critical"))

    @property
    def stops(self) -> bool:
        """Whether a run would stop."""
        return bool(self.missing) or any(fact.severity == "critical" for fact in self.failed)


def preview(
    mapping_file: Path, *, as_of: datetime | date | None = None, resources: ResourceSettings = DEFAULT_RESOURCES
) -> Preview:
    """Read the files of a mapping, and describe the tables that they would become.

    Args:
        mapping_file: the mapping TOML.
        as_of: the moment of decision, as in the settings of a run. None: the last supported event.
        resources: threads, the limit of memory, and where temporary files lie.

    Raises:
        SourceError, ContractError: a file or a column cannot be read, as in a run.
    """
    with read_tables(mapping_file, complete=False, resources=resources) as read:
        tables = tuple(_table(read, name) for name in CONTRACT if name in read.present)
        empty = [
            str(ContractError(table.name, "the table is empty"))
            for table in tables
            if table.rows == 0 and table.name not in MAY_BE_EMPTY
        ]
        known = Known(read.present, {table.name: table.rows for table in tables}, read.left_out)
        now = moment(as_of, read.mapping.source.time_zone) if as_of is not None else _log_end(read)
        return Preview(
            tables=tables,
            keys=tuple(_keys(read)),
            # An empty table, or a log without times, has no shares. What it lacks is said in `missing`.
            facts=tuple(facts(read.connection, known, now)) if now is not None and not empty else (),
            missing=(*read.missing, *empty),
            decisions=tuple(read.decisions),
            next_items=set(NEXT_ITEM_COLUMNS) <= set(read.present.get("events", ())),
        )


def _log_end(read: ReadTables) -> datetime | None:
    """Time of the last event that the log supports (`support`), UTC. None without one."""
    if "event_time" not in read.present.get("events", ()):
        return None
    days = "SELECT event_time::DATE, count(*) FROM events WHERE event_time IS NOT NULL GROUP BY 1"
    supported = supported_days(dict(read.connection.execute(days).fetchall()))
    if supported is None:
        return None
    after = datetime.combine(supported[1] + timedelta(days=1), time(), tzinfo=UTC)
    last = read.connection.execute("SELECT max(event_time) FROM events WHERE event_time < ?", [after]).fetchone()
    found: datetime | None = last[0] if last else None
    return found


def _table(read: ReadTables, name: str) -> TablePreview:
    columns = read.present[name]
    rows = read.table(name)
    (count,) = rows.aggregate("count(*)").fetchone() or (0,)
    first = rows.limit(FIRST_ROWS)
    kinds = {}
    if "kind" in columns:
        counted = f"SELECT kind, count(*) FROM {name} WHERE kind IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
        kinds = dict(read.connection.execute(counted).fetchall())
    times = {}
    for column in columns:
        if pa.types.is_timestamp(CONTRACT[name].columns[column].dtype):
            query = f"SELECT min({column}), max({column}) FROM {name}"
            times[column] = read.connection.execute(query).fetchone() or (None, None)
    quarantined, reasons = 0, []
    if name in read.rejected:
        rejected = read.rejected[name]
        (quarantined,) = read.connection.execute(f"SELECT count(*) FROM ({rejected})").fetchone() or (0,)
        reasons = read.connection.execute(
            f"SELECT _file, _row, _reason FROM ({rejected}) ORDER BY _file, _row LIMIT {QUARANTINE_SHOWN}"
        ).fetchall()
    return TablePreview(
        name=name,
        rows=count,
        columns=tuple(columns),
        first=tuple(dict(zip(first.columns, row, strict=True)) for row in first.fetchall()),
        kinds=kinds,
        times=times,
        left_out=read.left_out.get(name, {}),
        quarantined=quarantined,
        reasons=tuple(reasons),
    )


def _keys(read: ReadTables) -> list[KeyMatch]:
    """Matches of every foreign key."""
    return [
        _match(read, name, column, other, CONTRACT[other].key[0])
        for name, table in CONTRACT.items()
        for column, other in table.foreign_keys.items()
        if column in read.present.get(name, ()) and CONTRACT[other].key[0] in read.present.get(other, ())
    ]


def _match(read: ReadTables, name: str, column: str, other: str, key: str) -> KeyMatch:
    known = f"{column} IN (SELECT {key} FROM {other} WHERE {key} IS NOT NULL)"
    rows, matched, example = read.connection.execute(
        f"SELECT count(*), count(*) FILTER ({known}), min({column}) FILTER (NOT {known}) "
        f"FROM {name} WHERE {column} IS NOT NULL"
    ).fetchone() or (0, 0, None)
    return KeyMatch(name, column, other, rows, matched, example)
