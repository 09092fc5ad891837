"""Compares users' rows with folded events, as serving reads them, with rows that a build of the features makes.

What the fold leaves for the next materialisation (docs/events.md) is not compared.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recommender.datasets.contract import open_views
from recommender.datasets.tables import Tables
from recommender.decisions.names import SegmentName
from recommender.event_tables.segments import campaign_marks, lines_of_segments, parsed
from recommender.events.counters import known_at_once
from recommender.events.ledger import Ledger
from recommender.events.tail import WITHOUT_ROW, Recent
from recommender.features.build import build
from recommender.features.shoppers import shoppers_of
from recommender.matching.affinity import AXES, MEASURES, UserAffinity, unpack_user
from recommender.matching.catalogue import Catalogue
from recommender.matching.examples import Shopper
from recommender.matching.look_rules import LookRules
from recommender.matching.open_campaigns import TAKEN_UP, campaign_code
from recommender.matching.packed_history import PackedBaskets, unpack_history, unpack_rings
from recommender.monitoring.look_consistency import looks_apart
from recommender.settings import ResourceSettings, Settings
from recommender.storage.home import Home
from recommender.storage.ids import IdsFile
from recommender.storage.scratch import scratch_folder

FLOAT32_RTOL = 5e-7
"""A few units of the last place: the fold and the build take the same means in another order."""
WINDOW_DAYS = {"lines_90": 90, "lines_30": 30, "coupon_90": 90}
"""Measures of a window -> its length."""


class Difference(NamedTuple):
    """A field in which the two disagree."""

    user_id: str
    field: str
    online: str
    offline: str


class Logged(NamedTuple):
    """The users of the shipped log."""

    users: list[str]
    quarantined: set[str]
    """Users of whom an event did not count when it came."""
    marks: dict[str, list[Recent]]
    """Of each user the events that hide campaigns, show them again or take them up, in the order of arrival."""
    with_rows: set[str]
    """Users of whom an event counted that needs a row. Campaigns that were hidden or taken up need none."""


class Rebuilt(NamedTuple):
    """Rows of a rebuild, and its catalogue, with which rows of earlier builds of the home can be read too."""

    rows: dict[str, Shopper]
    catalogue: Catalogue


def logged_users(segments: Sequence[Path]) -> Logged:
    """The users whom shipped segments name, in the order of their ids."""
    users, quarantined, with_rows = set[str](), set[str](), set[str]()
    for _, line in lines_of_segments(segments):
        event = parsed(line)
        if event is not None:
            users.add(event["user_id"])
            if "quarantined" in event:
                quarantined.add(event["user_id"])
            elif event["kind"] not in WITHOUT_ROW:
                with_rows.add(event["user_id"])
    return Logged(sorted(users), quarantined, campaign_marks(segments), with_rows)


def ahead_of_rows(
    tables: Tables, segments: Sequence[Path], moments_us: Mapping[str, int], at: datetime, resources: ResourceSettings
) -> set[str]:
    """Users of whom the source itself has events since their row's moment: no row and no tail knows them yet.

    Args:
        tables: of the source, with the shipped log.
        segments: of the log.
        moments_us: user -> moment of the row, microseconds since 1970, UTC. What happens at it, the row lacks.
        at: the moment of the rebuild, which knows nothing from there on.
        resources: threads and memory for the search.
    """
    lines = (parsed(line) for _, line in lines_of_segments(segments))
    logged = {
        f"{tables.logged_id}{event['event_id']}"
        for event in lines
        if event is not None and event["user_id"] in moments_us
    }
    with open_views(tables, resources) as connection:
        rows = connection.execute(
            "SELECT user_id, event_id, epoch_us(event_time) FROM events "
            "WHERE event_time >= make_timestamptz($1) AND event_time < $2 AND user_id IN (SELECT unnest($3))",
            [min(moments_us.values(), default=0), at, list(moments_us)],
        ).fetchall()
    return {user for user, event_id, time_us in rows if time_us >= moments_us[user] and event_id not in logged}


def is_shipped(event: Recent, read: dict[str, int]) -> bool:
    """Whether the segment that holds an event is among those that the tables were made with (`events_read`)."""
    name = SegmentName.of(Path(f"{event.stem}.jsonl"))
    return name is not None and name.number <= read.get(name.writer, -1)


def rebuilt(
    tables: Tables, settings: Settings, users: Collection[str], at: datetime, look_rules: LookRules | None
) -> Rebuilt:
    """The rows of some users as a build of the features at a moment makes them. What looks count is as published.

    Raises:
        As `recommender.features.build.build`.
    """
    with scratch_folder("events-check", settings.resources.scratch) as folder:
        features = build(
            tables,
            Path(folder) / "features",
            as_of=at,
            threads=settings.training.threads,
            kept_ids=IdsFile.of(settings),
            looks=settings.looks,
            look_rules=look_rules,
            text_cache=Home.of(settings).text_vectors,
            facts=False,
            memory_limit=settings.resources.memory_limit,
            scratch=settings.resources.scratch,
        )
        ours = (pc.field("event_timestamp") == at) & pc.field("user_id").isin(list(users))
        rows = shoppers_of(pq.read_table(features / "users.parquet", filters=ours))
        return Rebuilt({one.user_id: one for one in rows}, Catalogue.load(features / "catalogue"))


def differences(
    row: Shopper,
    online: Shopper,
    offline: Shopper,
    catalogue: Catalogue,
    at_us: int,
    *,
    new: Sequence[Recent],
    minor_units: int,
    has_looks: bool = True,
) -> list[Difference]:
    """The fields in which the two rows of a user disagree.

    Args:
        row: as the store holds it, which says what can be known.
        online: as serving reads it, with its events folded in.
        offline: as it was built, at the same moment.
        catalogue: of the rebuild.
        at_us: the moment, microseconds since 1970, UTC.
        new: the events that were folded in.
        minor_units: whole minor units in one unit of the shop's currency.
        has_looks: whether serving counts looks. It counts none while the last run knew none (`Catalogue.look_rules`).
    """
    held = unpack_history(row.history, catalogue.numbering)
    rings = unpack_rings(row.history, held)
    ledger = Ledger.of(held, rings, row.feature_time_us, minor_units)
    ours, theirs = (unpack_history(one.history, catalogue.numbering) for one in (online, offline))
    found = [*_of_histories(ours, theirs)]
    users = [unpack_user(one.affinity, catalogue.numbering) for one in (online, offline)]
    found += _of_affinities(users[0], users[1], ledger, at_us)
    found += _of_campaigns(users[0], users[1], catalogue, at_us)
    if has_looks:
        found += looks_apart(row, online, offline, new, catalogue)
    names = known_at_once(online.portrait_names, ledger, rings, at_us)
    for name in sorted(names.intersection(offline.portrait_names)):
        first = online.portrait_P[online.portrait_names.index(name)]
        second = offline.portrait_P[offline.portrait_names.index(name)]
        if not np.isclose(first, second, rtol=FLOAT32_RTOL, atol=0.0, equal_nan=True):
            found.append((name, first, second))
    return [Difference(online.user_id, field, _shown(one), _shown(other)) for field, one, other in found]


_Found = Iterator[tuple[str, Any, Any]]


def _of_histories(ours: PackedBaskets, theirs: PackedBaskets) -> _Found:
    for name in ours._fields:
        first, second = getattr(ours, name), getattr(theirs, name)
        if not np.array_equal(first, second):
            yield f"history {name}", first, second


def _of_affinities(ours: UserAffinity, theirs: UserAffinity, ledger: Ledger, at_us: int) -> _Found:
    def is_compared(measure: str) -> bool:
        if measure in WINDOW_DAYS:
            has_all = ledger.has_items(WINDOW_DAYS[measure], at_us)
            return has_all and (ledger.has_marks or not measure.startswith("coupon"))
        return True

    for axis, name in enumerate(AXES):
        if not np.array_equal(ours.values[axis], theirs.values[axis]):
            yield f"{name} values", ours.values[axis], theirs.values[axis]
            continue
        for row, measure in enumerate(MEASURES):
            first, second = ours.counts[axis][row], theirs.counts[axis][row]
            if is_compared(measure) and not np.array_equal(first, second):
                yield f"{name} {measure}", first, second
        if not np.array_equal(ours.cents[axis], theirs.cents[axis]):
            yield f"{name} cents", ours.cents[axis], theirs.cents[axis]


def _of_campaigns(ours: UserAffinity, theirs: UserAffinity, catalogue: Catalogue, at_us: int) -> _Found:
    """Campaigns that are not over, and that the user has taken up by one of the two."""
    names = {
        campaign_code(campaign): campaign
        for campaign, row in catalogue.campaign_rows.items()
        if catalogue.campaign_ends_C[row] > at_us
    }
    first, second = (
        sorted(names[code] for code in one.open.codes_O[(one.open.redeemed_O & TAKEN_UP) > 0].tolist() if code in names)
        for one in (ours, theirs)
    )
    if first != second:
        yield "campaigns taken up", first, second


def _shown(value: Any) -> str:
    """A value in a few words: of a long array its length and its last values."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"{value.size} values, the last {value[-4:].tolist()}"
    return str(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
