"""Compares what a source has now with the daily partitions, and holds back what came too late.

What the partitions become is only proposed (`recommender.days.proposal`): an export that validation refuses must not
make the rows of the next one late.

A day is open until the log has gone on for `features.late_days` after it. Of an open day the newest rows count. Of a
closed day new rows and changed ones are set aside with a reason, until `recommender backfill` accepts the day. Rows
that the source no longer has are gone at once, whatever their day: a user who was erased must not come back. A closed
day that has exactly the rows again that it once had counts, so that a broken export needs no backfill.
"""

import re
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from recommender import logs
from recommender.datasets.engine import open_engine
from recommender.datasets.mapping import read_mapping
from recommender.datasets.moments import first_open_day
from recommender.datasets.sources import source_module
from recommender.datasets.tables import CONTRACT, CONTRACT_VERSION, Tables
from recommender.datasets.write import Frame
from recommender.days.index import UNREAD, Backfill, DayIndex, Partition
from recommender.days.late import DAY, Late, split
from recommender.days.proposal import Proposal, rows_of_day
from recommender.days.store import DayStore, encoded
from recommender.event_tables.append import ingest_with_events
from recommender.event_tables.rewriting import rewrite
from recommender.settings import DEFAULT_RESOURCES, ResourceSettings, Settings
from recommender.storage.code_identity import code_identity
from recommender.storage.home import Home
from recommender.storage.in_use import in_use
from recommender.storage.manifest import digest, sha256

log = logs.get(__name__)
_MONTH = "events/????-??/*.parquet"
MOST_LOST = 4
"""Earlier states of a closed day that are remembered. By hand: a broken export is mended within days, and each user who
is erased adds a state."""


def ingest_in_days(settings: Settings, output: Path, *, ingested_at: datetime) -> Tables:
    """Read the configured source and the home's log of events into the folder `output`, without what came too late.

    The folder also gets a proposal, which `promote` puts into force once the tables are found valid.

    Raises:
        SettingsError, SourceError, ContractError: as `recommender.datasets.ingest`.
        CorruptFileError: the index of the days is damaged; names it.
    """
    # A forget in between would find no row of a user, and the days would then get them.
    with in_use(Home.of(settings)):
        return _ingest_in_days(settings, output, ingested_at)


def _ingest_in_days(settings: Settings, output: Path, ingested_at: datetime) -> Tables:
    made, store = ingest_with_events(settings, output, ingested_at=ingested_at), DayStore.of(settings)
    if not settings.features.late_days:
        # Everything counts now. What counted before must not make it late if the setting changes again.
        if store.folder.is_dir():
            before = store.read()
            Proposal(before.state, DayIndex(backfills=before.backfills)).save(made.folder)
        return made
    return fold_in(
        made,
        store,
        lineage=_lineage(settings, made),
        late_days=settings.features.late_days,
        resources=settings.resources,
    )


def days_identity(settings: Settings, identity: str) -> str:
    """The identity of a source together with the days that were backfilled. Without any it is the source's own."""
    asked = [(one.first, one.last) for one in DayStore.of(settings).read().backfills]
    return digest(identity, asked) if asked else identity


def fold_in(
    tables: Tables,
    store: DayStore,
    *,
    lineage: str,
    late_days: int,
    resources: ResourceSettings = DEFAULT_RESOURCES,
) -> Tables:
    """Propose partitions that are up to the tables. Where rows came too late, write the tables again without them.

    Args:
        tables: what the source has now.
        store: the partitions.
        lineage: names the source and how it is read. With another one all days are taken as the source has them.
        late_days: days that a day stays open.
        resources: of DuckDB.

    Raises:
        CorruptFileError: the index is damaged; names it.
    """
    with store.turn() as before:
        known = before if before.lineage == lineage else DayIndex(backfills=before.backfills)
        if known is not before:
            log.info("all days are taken as the source has them", reason=_reason(before))
        with open_engine(resources, "days") as (connection, _):
            days = _Days(tables, store, known, late_days, connection)
            days.read_open()
            made = days.without_late()
    after = DayIndex(
        lineage=lineage,
        watermark=_iso(tables.log_end),
        months=days.months,
        days=dict(sorted(days.found.items())),
        held=days.held,
        lost=dict(sorted(days.lost.items())),
        backfills=tuple(Backfill(one.first, one.last, done=True) for one in known.backfills),
    )
    Proposal(before.state, after).save(made.folder)
    read = sum(one == UNREAD for one in after.days.values())
    log.info("daily partitions proposed", days=len(after.days), to_read=read, held_back=sum(after.held.values()))
    return made


class _Days:
    """One comparison of tables with partitions."""

    def __init__(
        self, tables: Tables, store: DayStore, known: DayIndex, late_days: int, connection: duckdb.DuckDBPyConnection
    ) -> None:
        self.tables, self.store, self.known, self.connection = tables, store, known, connection
        self.months: dict[str, str] = {}
        self.found: dict[str, Partition] = {}
        self.held: dict[str, int] = {}
        self.lost = dict(known.lost)
        self.late_days = late_days
        self.closed: dict[str, str] = {}
        """Closed day that differs -> SQL of a table with its rows in the source, empty where it has none."""

    def read_open(self) -> None:
        """Take open days of changed months as the source has them, and find the closed days that differ."""
        for path in sorted(self.tables.folder.glob(_MONTH)):
            month, content = path.parent.name, sha256(path)
            if self.known.months.get(month) == content:
                self.found |= {day: one for day, one in self.known.days.items() if day.startswith(month)}
                self.months[month] = content
                continue
            literal = str(path).replace("'", "''")
            rows = f"read_parquet('{literal}', hive_partitioning = false)"
            days = self.connection.sql(f"SELECT DISTINCT {DAY} AS day FROM {rows} ORDER BY 1").fetchall()
            differing = False
            for day in (found.isoformat() for (found,) in days):
                counting = UNREAD if self._open(day) else self._unchanged(day, rows)
                if counting is not None:
                    self.found[day] = counting
                else:
                    self.closed[day] = rows
                    differing = True
            if not differing:
                self.months[month] = content
        self.closed |= {
            day: "" for day in self.known.days if day not in {**self.found, **self.closed} and not self._open(day)
        }

    def without_late(self) -> Tables:
        """Set aside what came too late for closed days, and write the tables again where there is any."""
        if not self.closed:
            return self.tables
        known = {day: self.store.path(one) for day in self.closed if (one := self.known.days.get(day)) is not None}
        late = split(self.connection, self.closed, known)
        for day in self.closed:
            if late.rows.get(day):
                self.found[day] = UNREAD
            before = self.known.days.get(day)
            if before is not None and late.rows.get(day, 0) < before.rows:
                others = [one for one in self.lost.get(day, ()) if one != before.sha256]
                self.lost[day] = (*others, before.sha256)[-MOST_LOST:]
        if not late.held:
            return self.tables
        self.held = dict(sorted(late.held.items()))
        for month in {day[:7] for day in self.held}:
            self.months.pop(month, None)
        return self._rewritten(late)

    def _rewritten(self, late: Late) -> Tables:
        frames: dict[str, Frame] = {}
        for name in CONTRACT:
            if self.tables.has(name):
                glob = self.tables.glob(name).replace("'", "''")
                frames[name] = self.connection.sql(
                    f"SELECT * FROM read_parquet('{glob}', hive_partitioning = false, union_by_name = true)"
                )
        events = frames["events"]
        assert isinstance(events, duckdb.DuckDBPyRelation)
        days, columns = ", ".join(f"DATE '{day}'" for day in self.closed), ", ".join(events.columns)
        events.create_view("all_events")
        frames["events"] = self.connection.sql(
            f"SELECT * FROM all_events WHERE event_time IS NULL OR {DAY} NOT IN ({days}) "
            f"UNION ALL BY NAME SELECT {columns} FROM counting"
        )
        total = sum(late.held.values())
        log.warning("rows came too late and do not count", rows=total, days=len(late.held), first=min(late.held))
        return rewrite(
            self.tables,
            frames,
            decision=f"events: {total} rows of {len(late.held)} days came more than {self.late_days} days late; they "
            "are in quarantine and do not count until `recommender backfill` accepts their days",
            facts={"late_events": self.held},
            aside={"events": late.quarantine(self.late_days)},
        )

    def _open(self, day: str) -> bool:
        """Whether new rows of a day count at once."""
        if not self.known.watermark:
            return True
        known = self.known.days.get(day)
        if known is not None and not self.store.sound(known):
            log.warning("a partition is damaged; its day counts as the source has it", path=self.store.path(known))
            return True
        end = datetime.fromisoformat(self.known.watermark)
        return date.fromisoformat(day) >= first_open_day(end, self.late_days) or any(
            one.holds(day) for one in self.known.waiting
        )

    def _unchanged(self, day: str, rows: str) -> Partition | None:
        """What counts of a closed day that has the rows that it has or once had. None: it has others."""
        _, content = encoded(rows_of_day(self.connection, rows, day))
        known = self.known.days.get(day)
        if known is not None and known.sha256 == content:
            return known
        return UNREAD if content in self.lost.get(day, ()) else None


def _reason(before: DayIndex) -> str:
    return "the source is read in another way than in the last run" if before.lineage else "first run of this source"


def _lineage(settings: Settings, tables: Tables) -> str:
    return digest(
        settings.source.model_dump(mode="json"),
        _reading(Path(settings.source.mapping)) if settings.source.mapping else "",
        code_identity("recommender.event_tables.append", source_module(settings.source)),
        tables.time_zone,
        tables.currency,
        CONTRACT_VERSION,
    )


def _reading(mapping: Path) -> object:
    """What a mapping says, but for the digits in the names of files: each day's export may have its date there."""

    def without_dates(found: object) -> object:
        if isinstance(found, dict):
            return {
                name: re.sub(r"\d+", "#", value) if name == "file" and isinstance(value, str) else without_dates(value)
                for name, value in found.items()
            }
        return [without_dates(one) for one in found] if isinstance(found, list) else found

    return without_dates(read_mapping(mapping).model_dump(mode="json"))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
