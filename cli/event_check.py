"""`events check`: rows of the online store with their events folded in, beside rows of a rebuild at the same moment."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.table import Table

from recommender.datasets.periods import from_microseconds, microseconds
from recommender.datasets.tables import Tables
from recommender.days import ingest_in_days
from recommender.errors import FeatureStoreError
from recommender.event_tables.segments import segments_of
from recommender.events.fold import Fold
from recommender.events.tail import Readings, hidden, lines_of
from recommender.matching.affinity import unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.packed_user import PackedUser, ServingSchema, unpack
from recommender.monitoring.event_consistency import (
    Difference,
    Logged,
    Rebuilt,
    ahead_of_rows,
    differences,
    is_shipped,
    logged_users,
    rebuilt,
)
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.scratch import scratch_folder
from serving.clock import decision_time_us
from serving.online_store.client import OnlineStoreClient

AHEAD = timedelta(seconds=1.5)
"""The compared moment lies so much after the present one, because a build leaves out what happens at its moment."""
READ_S = 5.0
"""Patience for one read. By hand: nobody waits for an answer here."""
SHOWN = 200
"""Differences in the terminal. One lost event differs in some sixty fields."""


@dataclass
class Checked:
    """What a check found."""

    compared: int = 0
    waiting: int = 0
    """Users who were left out: some of their events are not shipped yet, were quarantined, or wait themselves."""
    found: list[Difference] = field(default_factory=list)


def check_and_show(settings: Settings, num_users: int) -> bool:
    """Ingest the source and the shipped log again, compare, print, and tell whether nothing differs.

    Raises:
        SourceError, ContractError: as `ingest`.
        FeatureStoreError: nothing was materialised yet, or the store is away.
    """
    _expect_rows(Home.of(settings))
    at = compared_moment(settings)
    with scratch_folder("events-check", settings.resources.scratch) as folder:
        tables = ingest_in_days(settings, Path(folder) / "tables", ingested_at=datetime.now(UTC))
        checked = check(settings, tables, num_users, at)
    console = wide()
    if checked.found:
        shown = Table("user", "field", "online", "rebuilt")
        for one in checked.found[:SHOWN]:
            shown.add_row(*one)
        console.print(shown, markup=False)
    users = len({one.user_id for one in checked.found})
    console.print(
        f"Shoppers with events compared at {at:%Y-%m-%d %H:%M:%S} UTC: {checked.compared:,}. Different: {users:,}, in "
        f"{len(checked.found):,} fields. Left out (events not shipped or quarantined, or the source has newer ones): "
        f"{checked.waiting:,}.",
        highlight=False,
    )
    return not checked.found


def _expect_rows(home: Home) -> None:
    """Refuse a home without rows before a source is read, which takes minutes."""
    try:
        ServingSchema.load(home.feature_store.root)
    except FeatureStoreError as error:
        raise FeatureStoreError(f"{error}; start with: recommender run") from None


def compared_moment(settings: Settings) -> datetime:
    """The moment that a check compares: the present one, or the setting `time.as_of`, with all that has happened."""
    return from_microseconds(decision_time_us(settings)) + AHEAD


def check(settings: Settings, tables: Tables, num_users: int, at: datetime, *, seed: int = 17) -> Checked:
    """Compare users of the shipped log.

    Args:
        settings: name the home and the online store.
        tables: the source's with the shipped log, as `ingest_in_days` makes them.
        num_users: how many at most, drawn with `seed`.
        at: the moment to compare.
        seed: of the draw.
    """
    home = Home.of(settings)
    logged = logged_users(segments_of(home.events))
    drawn = random.Random(seed).sample(logged.users, min(num_users, len(logged.users)))
    store, readings = OnlineStoreClient.open(settings), Readings.load(home.feature_store.events_read)
    try:
        # Read before the rebuild: a materialisation that ends meanwhile changes nothing then.
        online = _Online(store, Catalogue.load(home.catalogue), readings, at)
        rows = {user: store.read(user, READ_S) for user in drawn}
        if not drawn:
            return Checked()
        moments_us = {user: row.feature_time_us for user, row in rows.items() if row is not None}
        ahead = ahead_of_rows(tables, segments_of(home.events), moments_us, at, settings.resources)
        return _compared(
            online, rows, rebuilt(tables, settings, drawn, at, online.catalogue.look_rules), logged, tables, ahead
        )
    finally:
        store.close()


@dataclass(frozen=True)
class _Online:
    """What serving would know of users at the compared moment."""

    store: OnlineStoreClient
    catalogue: Catalogue
    readings: Readings
    at: datetime

    @property
    def at_us(self) -> int:
        return microseconds(self.at)

    def folded(self, user: str, row: PackedUser) -> bytes:
        fold = Fold(self.catalogue, self.readings)
        return fold.folded(user, row, self.store.names_of(row), self.at_us)

    def waits(self, user: str, row: PackedUser) -> bool:
        """Whether an event may wait for the next materialisation.

        That is a return of what the row has, or one from before the row's moment after a run that found no log.
        """
        shopper = unpack(user, row.content, {row.layout: self.store.names_of(row)})
        bought = unpack_user(shopper.affinity, self.catalogue.numbering).values[0]
        new = (event for _, event in lines_of(row.tail) if not self.readings.has_read(row.feature_time_us, event))
        rows = self.catalogue.item_rows
        if any(event.kind == "return" and rows.get(event.item_id or "", 0) in bought for event in new):
            return True
        # The run of such a moment found no log, so its source was taken for complete up to it.
        earlier = any(event.time_us < row.feature_time_us for _, event in lines_of(row.tail))
        return earlier and row.feature_time_us not in self.readings.by_moment

    def differing(self, user: str, row: PackedUser, offline: Rebuilt, logged: Logged) -> list[Difference]:
        events = [event for _, event in lines_of(row.tail) if event.time_us <= self.at_us]
        layouts = {row.layout: self.store.names_of(row)}
        held, folded = (unpack(user, content, layouts) for content in (row.content, self.folded(user, row)))
        new = [event for event in events if not self.readings.has_read(row.feature_time_us, event)]
        found = differences(
            held,
            folded,
            offline.rows[user],
            offline.catalogue,
            self.at_us,
            new=new,
            minor_units=self.catalogue.minor_units,
            has_looks=self.catalogue.look_rules is not None,
        )
        ours, theirs = sorted(hidden(events)), sorted(hidden(logged.marks.get(user, [])))
        return found if ours == theirs else [*found, Difference(user, "campaigns hidden", str(ours), str(theirs))]


def _compared(
    online: _Online,
    rows: dict[str, PackedUser | None],
    offline: Rebuilt,
    logged: Logged,
    tables: Tables,
    ahead: Collection[str],
) -> Checked:
    checked, read = Checked(), tables.manifest.get("events_read") or {}
    for user, row in rows.items():
        is_new = row is None and user not in logged.with_rows
        if is_new or user in logged.quarantined or user not in offline.rows:
            checked.waiting += 1
            continue
        try:
            if row is None:
                found: Sequence[Difference] = [Difference(user, "row", "none", "known")]
            elif (
                row.feature_time_us > online.at_us
                or user in ahead
                or not all(is_shipped(one, read) for _, one in lines_of(row.tail))
                or online.waits(user, row)
            ):
                checked.waiting += 1
                continue
            else:
                found = online.differing(user, row, offline, logged)
        except FeatureStoreError as error:
            found = [Difference(user, "row", str(error), "readable")]
        checked.compared += 1
        checked.found += found
    return checked
