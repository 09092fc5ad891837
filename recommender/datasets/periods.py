"""The three moments of a run: what trains, what decides, what is only reported.

    … training ─► gate_from ─ campaigns that decide ─► test_from ─ final test ─► as_of

A pair belongs to the gate (or the final test) when its campaign starts in the period *and* its decision falls in it, so no
campaign that is judged was seen in training.
"""

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
from recommender.settings import Settings

MIN_PAIRS, MIN_OF_EACH_CLASS = 100, 10
GATE_SHARE, TEST_SHARE = 0.2, 0.35
"""Of all pairs; about what a shop's year affords. The final test is larger: its figures are what people read."""
MOMENTS_TRIED = 60

Times = NDArray[np.int64]


@dataclass(frozen=True)
class Periods:
    """UTC moments, in order: gate_from < test_from <= as_of."""

    gate_from: datetime
    test_from: datetime
    as_of: datetime

    def gate_mask(self, starts_N: Times, decided_N: Times) -> NDArray[np.bool_]:
        """Which of N pairs decide. Times are microseconds since 1970, UTC."""
        return _inside(starts_N, decided_N, microseconds(self.gate_from), microseconds(self.test_from))

    def test_mask(self, starts_N: Times, decided_N: Times) -> NDArray[np.bool_]:
        """Which of N pairs are the final test."""
        return _inside(starts_N, decided_N, microseconds(self.test_from), microseconds(self.as_of))


class TimedPairs(Protocol):
    """N pairs with their times, microseconds since 1970, UTC; `redeemed_us_N` is NEVER where nothing was redeemed."""

    @property
    def starts_us_N(self) -> Times: ...
    @property
    def decided_us_N(self) -> Times: ...
    @property
    def redeemed_us_N(self) -> Times: ...


NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Pairs:
    """Plain arrays of `TimedPairs`."""

    starts_us_N: Times
    decided_us_N: Times
    redeemed_us_N: Times


def resolve(settings: Settings, tables: Tables) -> Periods:
    """The periods of a run: dates of the settings as midnights in the tables' time zone; what is unset is chosen from the data.

    Raises:
        PeriodError: the moments are out of order, or no choice gives every period enough pairs of both classes.
    """
    now, zone = now_of(settings.time, tables), tables.time_zone
    gate_from = None if settings.time.gate_from is None else moment(settings.time.gate_from, zone)
    test_from = None if settings.time.test_from is None else moment(settings.time.test_from, zone)
    if gate_from is None or test_from is None:
        gate_from, test_from = choose(read_pairs(tables), now, gate_from=gate_from, test_from=test_from)
    if not gate_from < test_from <= now:
        raise PeriodError(
            f"periods out of order: gate_from {gate_from.isoformat()}, test_from {test_from.isoformat()}, as_of "
            f"{now.isoformat()}. They must follow one another; change `time` in the settings or leave gate_from and test_from out."
        )
    return Periods(gate_from, test_from, now)


def choose(
    pairs: TimedPairs, as_of: datetime, *, gate_from: datetime | None = None, test_from: datetime | None = None
) -> tuple[datetime, datetime]:
    """The starts of the gate period and of the final test, from the data; a moment that is given stays.

    Both are moments at which campaigns start. Among the choices that leave training, gate and test at least 100 pairs and ten
    of each class, known in time, the one nearest to 45 %, 20 % and 35 % of the pairs.

    Raises:
        PeriodError: there is no such choice; says what was found.
    """
    now = microseconds(as_of)
    starts_N, decided_N = pairs.starts_us_N, pairs.decided_us_N
    moments = _thinned(np.unique(starts_N[(starts_N < now) & (decided_N < now)]))
    gates = moments if gate_from is None else np.array([microseconds(gate_from)])
    tests = moments if test_from is None else np.array([microseconds(test_from)])
    grid = (
        combinations(moments, 2) if gate_from is None and test_from is None else ((g, t) for g in gates for t in tests)
    )
    best: tuple[float, int, int] | None = None
    for gate, test in grid:
        if gate < test <= now and (distance := _distance(pairs, int(gate), int(test), now)) is not None:
            best = min(best or (np.inf, 0, 0), (distance, int(gate), int(test)))
    if best is None:
        redeemed = int((pairs.redeemed_us_N != NEVER).sum())
        raise PeriodError(
            f"no choice of periods gives training, gate and final test at least {MIN_PAIRS} pairs and {MIN_OF_EACH_CLASS} of each "
            f"class: {len(starts_N)} pairs, {redeemed} with a participation, {len(np.unique(starts_N))} different starts of "
            "campaigns. More campaigns over a longer time are needed, or set `time.gate_from` and `time.test_from`."
        )
    return from_microseconds(best[1]), from_microseconds(best[2])


def read_pairs(tables: Tables) -> Pairs:
    """The times of all targeted pairs of `tables`; a participation counts from the pair's decision on."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in ("targets", "campaigns", "participations"):
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{tables.glob(name)}')")
        found: pa.Table = connection.execute("""
            SELECT epoch_us(c.starts_at) AS starts, epoch_us(t.targeted_at) AS decided,
                   coalesce(min(epoch_us(p.participated_at)), 9223372036854775807) AS redeemed
            FROM targets t JOIN campaigns c USING (campaign_id)
            LEFT JOIN participations p
              ON p.campaign_id = t.campaign_id AND p.user_id = t.user_id AND p.participated_at >= t.targeted_at
            GROUP BY t.campaign_id, t.user_id, c.starts_at, t.targeted_at
        """).to_arrow_table()
    return Pairs(*(found.column(name).to_numpy().astype(np.int64) for name in ("starts", "decided", "redeemed")))


def microseconds(value: datetime) -> int:
    """Microseconds since 1970, UTC, exactly."""
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(value))


def _inside(starts_N: Times, decided_N: Times, low: int, high: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (starts_N >= low) & (starts_N < high) & (decided_N >= low) & (decided_N < high)
    return inside


def _distance(pairs: TimedPairs, gate: int, test: int, now: int) -> float | None:
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


def _thinned(moments: Times) -> Times:
    if len(moments) <= MOMENTS_TRIED:
        return moments
    thinned: Times = moments[np.linspace(0, len(moments) - 1, MOMENTS_TRIED).round().astype(int)]
    return thinned
