"""Splits the data of a run into three periods: training, gate (decides on promotion) and final test (only reported).

    … training ─► gate_from ─ campaigns that decide ─► test_from ─ final test ─► as_of

A pair belongs to the gate (or the final test) when its campaign starts in the period and its decision falls in it, so
that no evaluated campaign was seen in training.

Shapes: N pairs of user and campaign.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recommender.datasets.moments import as_of as now_of
from recommender.datasets.moments import moment
from recommender.datasets.tables import Tables
from recommender.errors import PeriodError
from recommender.settings import Settings, TimeSettings

MIN_PAIRS, MIN_OF_EACH_CLASS = 100, 10
"""The smallest period that is chosen. Both chosen by hand: with fewer than ten of a class AUC and its interval mean
little."""
GATE_SHARE, TEST_SHARE = 0.2, 0.35
"""Wanted shares of all pairs, chosen by hand for a year of one shop. The final test is larger: people read its
figures."""
GATE_CAMPAIGNS = 6
"""Campaigns that a chosen gate period holds where the data allow it and `time.gate_campaigns` says nothing else: the
gate's default `min_campaigns`, a rule of `recommender.evaluation`, which is above this package."""
MAX_START_TIMES = 60
"""Start times of campaigns that are tried as bounds: 60 give 1,770 combinations of two. Chosen by hand."""

Times = NDArray[np.int64]
"""Microseconds since 1970, UTC."""
NEVER = np.iinfo(np.int64).max
"""Stands for the time of a redemption that never happened."""


@dataclass(frozen=True)
class Periods:
    """UTC moments, in order: gate_from < test_from <= as_of."""

    gate_from: datetime
    test_from: datetime
    as_of: datetime

    def gate_mask(self, starts_N: Times, decided_N: Times) -> NDArray[np.bool_]:
        """Mark the pairs that decide on promotion, bool [N]. Times are microseconds since 1970, UTC."""
        return _inside(starts_N, decided_N, microseconds(self.gate_from), microseconds(self.test_from))

    def test_mask(self, starts_N: Times, decided_N: Times) -> NDArray[np.bool_]:
        """Mark the pairs of the final test, bool [N]. Times are microseconds since 1970, UTC."""
        return _inside(starts_N, decided_N, microseconds(self.test_from), microseconds(self.as_of))


class TimedPairs(Protocol):
    """Pairs with their times, int64 [N], in microseconds since 1970, UTC."""

    @property
    def starts_us_N(self) -> Times:
        """Starts of the pairs' campaigns."""

    @property
    def decided_us_N(self) -> Times:
        """Times of the decisions."""

    @property
    def redeemed_us_N(self) -> Times:
        """Times of the first redemptions, NEVER where there was none."""

    @property
    def campaigns_N(self) -> NDArray[np.int64]:
        """Number of the pair's campaign."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """`TimedPairs` as plain arrays."""

    starts_us_N: Times
    decided_us_N: Times
    redeemed_us_N: Times
    campaigns_N: NDArray[np.int64]


def resolve(settings: Settings, tables: Tables) -> Periods:
    """Find the periods of a run.

    Dates in the settings are midnights in the tables' time zone. What the settings leave out is chosen from the data.

    Raises:
        PeriodError: the moments are out of order, or no choice gives every period enough pairs of both classes.
    """
    return resolve_at(settings.time, now_of(settings.time, tables), tables.time_zone, lambda: read_pairs(tables))


def resolve_at(time: TimeSettings, now: datetime, zone: str, pairs: Callable[[], TimedPairs]) -> Periods:
    """Find the periods of a run from its pairs, wherever they come from.

    Args:
        time: the settings. Dates are midnights in `zone`.
        now: the end of the final test.
        zone: IANA name of the shop's time zone.
        pairs: reads the pairs. Called only if the settings leave a period out.

    Raises:
        PeriodError: as `resolve`.
    """
    gate_from = None if time.gate_from is None else moment(time.gate_from, zone)
    test_from = None if time.test_from is None else moment(time.test_from, zone)
    if gate_from is None or test_from is None:
        campaigns = GATE_CAMPAIGNS if time.gate_campaigns is None else time.gate_campaigns
        gate_from, test_from = choose(pairs(), now, gate_from=gate_from, test_from=test_from, gate_campaigns=campaigns)
    if not gate_from < test_from <= now:
        raise PeriodError(
            "the periods must satisfy gate_from < test_from <= as_of (got "
            f"gate_from {gate_from.isoformat()}, test_from {test_from.isoformat()}, as_of {now.isoformat()}). "
            "Change `time` in the settings or leave gate_from and test_from out."
        )
    return Periods(gate_from, test_from, now)


def choose(
    pairs: TimedPairs,
    as_of: datetime,
    *,
    gate_from: datetime | None = None,
    test_from: datetime | None = None,
    gate_campaigns: int = GATE_CAMPAIGNS,
) -> tuple[datetime, datetime]:
    """Choose the starts of the gate period and of the final test from the data. One that is given is kept.

    Only pairs decided before `as_of` count, as in a training set. Both bounds are times at which campaigns start. Every
    period gets at least `MIN_PAIRS` pairs and `MIN_OF_EACH_CLASS` of each class whose labels are known in time. Choices
    whose gate period holds `gate_campaigns` campaigns come first. Among them the one nearest to `GATE_SHARE` and
    `TEST_SHARE` wins.

    Raises:
        PeriodError: there is no such choice. States what was found.
    """
    now = microseconds(as_of)
    pairs = _decided_before(pairs, now)
    starts_N = pairs.starts_us_N
    start_times = _thinned(np.unique(starts_N[starts_N < now]))
    gates = start_times if gate_from is None else np.array([microseconds(gate_from)])
    tests = start_times if test_from is None else np.array([microseconds(test_from)])
    both_free = gate_from is None and test_from is None
    candidates = combinations(start_times, 2) if both_free else ((g, t) for g in gates for t in tests)
    found: list[tuple[bool, float, int, int]] = []
    for gate, test in candidates:
        if gate < test <= now and (distance := _distance(pairs, int(gate), int(test), now)) is not None:
            too_few = _num_campaigns(pairs, int(gate), int(test)) < gate_campaigns
            found.append((too_few, distance, int(gate), int(test)))
    best = min(found, default=None)
    if best is None:
        redeemed = int((pairs.redeemed_us_N != NEVER).sum())
        raise PeriodError(
            f"training, gate and final test need at least {MIN_PAIRS} pairs and {MIN_OF_EACH_CLASS} of each class, and "
            f"no choice of periods gives them that: {len(starts_N)} pairs are decided before {as_of.isoformat()}, "
            f"{redeemed} of them with a participation, "
            f"and their campaigns have {len(np.unique(starts_N))} different starts. "
            "Add campaigns over a longer time, or set `time.gate_from` and `time.test_from`."
        )
    return from_microseconds(best[2]), from_microseconds(best[3])


def read_pairs(tables: Tables) -> Pairs:
    """Read the times of all targeted pairs. Participations before a pair's decision do not count."""
    # Imported here: what serves imports this module for `microseconds` and must start without DuckDB.
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in ("targets", "campaigns", "participations"):
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{tables.glob(name)}')")
        found: pa.Table = connection.execute("""
            SELECT epoch_us(c.starts_at) AS starts, epoch_us(t.targeted_at) AS decided,
                   coalesce(min(epoch_us(p.participated_at)), 9223372036854775807) AS redeemed,
                   dense_rank() OVER (ORDER BY t.campaign_id) AS campaign
            FROM targets t JOIN campaigns c USING (campaign_id)
            LEFT JOIN participations p
              ON p.campaign_id = t.campaign_id AND p.user_id = t.user_id AND p.participated_at >= t.targeted_at
            GROUP BY t.campaign_id, t.user_id, c.starts_at, t.targeted_at
        """).to_arrow_table()
    return Pairs(
        *(found.column(name).to_numpy().astype(np.int64) for name in ("starts", "decided", "redeemed", "campaign"))
    )


def microseconds(value: datetime) -> int:
    """Convert a time to microseconds since 1970, UTC, exactly."""
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    """Convert microseconds since 1970 to a time, UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(value))


def _inside(starts_N: Times, decided_N: Times, low: int, high: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (starts_N >= low) & (starts_N < high) & (decided_N >= low) & (decided_N < high)
    return inside


def _distance(pairs: TimedPairs, gate: int, test: int, now: int) -> float | None:
    """Measure how far two bounds are from the wanted shares. None if a period is too small."""
    starts_N, decided_N = pairs.starts_us_N, pairs.decided_us_N
    parts = (
        (decided_N < gate, gate),
        (_inside(starts_N, decided_N, gate, test), test),
        (_inside(starts_N, decided_N, test, now), NEVER),
    )
    for mask, known_at in parts:
        positives = int((mask & (pairs.redeemed_us_N < known_at)).sum())
        total = int(mask.sum())
        if total < MIN_PAIRS or min(positives, total - positives) < MIN_OF_EACH_CLASS:
            return None
    shares = [float(mask.mean()) for mask, _ in parts]
    return abs(shares[1] - GATE_SHARE) + abs(shares[2] - TEST_SHARE)


def _num_campaigns(pairs: TimedPairs, gate: int, test: int) -> int:
    """Count the campaigns of the gate period between two bounds."""
    inside_N = _inside(pairs.starts_us_N, pairs.decided_us_N, gate, test)
    return len(np.unique(pairs.campaigns_N[inside_N]))


def _decided_before(pairs: TimedPairs, now: int) -> Pairs:
    known_N = pairs.decided_us_N < now
    columns = (pairs.starts_us_N, pairs.decided_us_N, pairs.redeemed_us_N, pairs.campaigns_N)
    return Pairs(*(column_N[known_N] for column_N in columns))


def _thinned(start_times: Times) -> Times:
    """Keep at most `MAX_START_TIMES`, evenly spread."""
    if len(start_times) <= MAX_START_TIMES:
        return start_times
    thinned: Times = start_times[np.linspace(0, len(start_times) - 1, MAX_START_TIMES).round().astype(int)]
    return thinned
