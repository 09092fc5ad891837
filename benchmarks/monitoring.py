"""How often monitoring calls an unchanged shop drifted, and how often it finds a real change.

    python -m benchmarks.monitoring [SHOPS]

A shop has 80 features of eight kinds: continuous, skewed, with gaps, counts, rare and mostly zero. Its users are drawn
twice from the same distributions, and a false alarm is a feature that moved beyond chance, or is missing more often.
Campaigns have 40 features of the same kinds. 40 cross features are counted in ten bins. Each is the sum of a value of
the campaign and one of the user, of which either varies more. Users, campaigns and cross features may spend a third of
the false alarms each. For calibration, campaigns have take-ups of their own around 15 %, and 1,200 users see twelve
campaigns of one type.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.decision.rows import Row, merge
from benchmarks.measured_on import measured_on
from recommender.monitoring.deals import Sides, by_users, deal
from recommender.monitoring.distributions import Distribution, shift
from recommender.monitoring.drift import FAMILIES, OF_USERS
from recommender.monitoring.findings import ROUNDING
from recommender.monitoring.served import ServedPairs, calibration_findings, figures
from recommender.settings import MonitoringSettings

REPORT = Path("reports/bench/monitoring.json")
FEATURES, KINDS, SEED = 80, 8, 31
OF_CAMPAIGNS, OF_PAIRS, USERS = 40, 40, 300
"""Features of campaigns, cross features, and users who are joined with the campaigns."""
SHOPS = 400
TAKE_UP, SPREAD = 0.15, 0.3
"""Mean take-up of a campaign and the standard deviation of its log between campaigns: as the default data's."""


def values(kind: int, size: int, random: np.random.Generator, moved: float = 0.0) -> NDArray[np.float32]:
    """A feature's values. `moved`: by how many standard deviations it is shifted."""
    drawn = random.normal(size=size) if kind % 2 else random.exponential(size=size)
    drawn = drawn + moved
    if kind in (2, 3):
        drawn[random.random(size) < 0.3] = np.nan
    elif kind in (4, 5):
        drawn = np.round(drawn)
    elif kind == 6:
        drawn = np.where(random.random(size) < 0.9, 0.0, drawn)
    elif kind == 7:
        drawn = (random.random(size) < 0.02).astype(np.float64)
    return drawn.astype(np.float32)


def false_alarms(shops: int, users: int, limits: MonitoringSettings) -> float:
    """Share of unchanged shops with any alarm."""
    random, alarms = np.random.default_rng(SEED), 0
    for _ in range(shops):
        moved = [
            shift(
                Distribution.of(values(number % KINDS, users, random)),
                values(number % KINDS, users, random),
                false_alarm=limits.false_alarm / FAMILIES / FEATURES,
            )
            for number in range(FEATURES)
        ]
        alarms += any(one.beyond_chance or one.missing_rise > 0 for one in moved)
    return alarms / shops


def found(shops: int, users: int, deviations: float, limits: MonitoringSettings) -> float:
    """Share of shifts of a continuous feature that are found, at the level of one feature among many."""
    random = np.random.default_rng(SEED)
    moved = [
        shift(
            Distribution.of(values(1, users, random)),
            values(1, users, random, deviations),
            false_alarm=limits.false_alarm / FAMILIES / FEATURES,
        )
        for _ in range(shops)
    ]
    return float(np.mean([one.beyond_chance and one.psi > limits.max_psi for one in moved]))


def campaign_alarms(shops: int, then: int, now: int, limits: MonitoringSettings, moved: float = 0.0) -> float:
    """Share of shops in which any feature of campaigns is called drifted."""
    random, told = np.random.default_rng(SEED), 0
    for _ in range(shops):
        sides = {
            str(number): Sides.of_values(
                values(number % KINDS, then, random), values(number % KINDS, now, random, moved)
            )
            for number in range(OF_CAMPAIGNS)
        }
        dealt = deal(sides, false_alarm=limits.false_alarm / FAMILIES)
        told += any(distance > dealt.by_chance + ROUNDING for distance in dealt.distances.values())
    return told / shops


def candidate_alarms(
    shops: int,
    then: int,
    now: int,
    limits: MonitoringSettings,
    *,
    moved: float = 0.0,
    staying: int = 0,
    spread: float = 1.0,
) -> float:
    """Share of shops in which any cross feature is called drifted.

    `staying` further campaigns of now did not move. Both sides have users of their own, who differ by half a unit, and
    campaigns differ by `spread`.
    """
    random, told = np.random.default_rng(SEED), 0
    level = limits.false_alarm / FAMILIES
    for _ in range(shops):
        moved_C = np.concatenate([np.full(now, moved), np.zeros(staying)])
        before_FCB, after_FCB = _pairs(random, np.zeros(then), spread), _pairs(random, moved_C, spread)
        sides = {str(f): Sides(*both) for f, both in enumerate(zip(before_FCB, after_FCB, strict=True))}
        dealt = deal(sides, false_alarm=level * (1 - OF_USERS))
        by_chance = math.hypot(dealt.by_chance, by_users(USERS, USERS, false_alarm=level * OF_USERS / OF_PAIRS))
        told += any(distance > by_chance + ROUNDING for distance in dealt.distances.values())
    return told / shops


def _pairs(random: np.random.Generator, moved_C: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """Of each cross feature and campaign the shares of users in ten bins, float64 [F, C, B]."""
    level_FC = spread * random.normal(size=(OF_PAIRS, len(moved_C))) + moved_C
    values_FCU = level_FC[:, :, None] + 0.5 * random.normal(size=(OF_PAIRS, 1, USERS))
    bins_FCU = np.searchsorted(np.linspace(-2, 2, 9), values_FCU)
    return np.stack([np.stack([np.bincount(one, minlength=10) for one in of]) for of in bins_FCU]) / USERS


def miscalibrated(
    shops: int, factor: float, limits: MonitoringSettings, *, campaigns: int = 12, users: int = 1200
) -> float:
    """Share of shops that are told that what was served is off, where it is by `factor`."""
    random, told = np.random.default_rng(SEED), 0
    for _ in range(shops):
        take_up_C = TAKE_UP * np.exp(random.normal(-(SPREAD**2) / 2, SPREAD, campaigns))
        users_N = np.repeat(np.arange(users), campaigns)
        campaigns_N = np.tile(np.arange(campaigns), users)
        pairs = ServedPairs(
            users=pa.chunked_array([pa.array(users_N.astype(str))]),
            campaigns=pa.chunked_array([pa.array(campaigns_N.astype(str))]),
            types=pa.chunked_array([pa.array(["coupon"] * len(users_N))]),
            score_N=np.full(len(users_N), min(TAKE_UP * factor, 0.95)),
            took_part_N=(random.random(len(users_N)) < take_up_C[campaigns_N]).astype(np.float64),
        )
        told += bool(calibration_findings(figures(pairs, limits), limits))
    return told / shops


def main(shops: int) -> None:
    """Simulate, print the rows and write them down."""
    limits = MonitoringSettings()
    rows = [
        Row.at_most(f"false alarms of an unchanged shop, {users} users", false_alarms(shops, users, limits), 0.02)
        for users in (200, 1000, 5000)
    ]
    rows += [
        Row.at_least(f"a shift of {by:g} standard deviations found, 1000 users", found(shops, 1000, by, limits), 0.95)
        for by in (0.75, 1.0)
    ]
    rows += [
        Row.at_most(
            f"false alarms, features of {then} campaigns then and {now} now",
            campaign_alarms(shops, then, now, limits),
            0.01,
        )
        for then, now in ((27, 5), (64, 30))
    ]
    rows += [
        Row.at_most(
            f"false alarms, cross features of {then} campaigns then and {now} now, {kind}",
            candidate_alarms(shops, then, now, limits, spread=spread),
            0.01,
        )
        for then, now in ((6, 6), (12, 20))
        for kind, spread in (("campaigns differ more", 1.0), ("alike", 0.5), ("users differ more", 0.1))
    ]
    rows += [
        Row.at_most(
            "one campaign far from 6 of then raises an alarm", candidate_alarms(shops, 6, 1, limits, moved=6), 0.01
        ),
        Row.at_most(
            "the same beside 5 that did not move", candidate_alarms(shops, 6, 1, limits, moved=6, staying=5), 0.01
        ),
        Row.at_least("5 campaigns far from 27 of then found", campaign_alarms(shops, 27, 5, limits, moved=3), 0.95),
        *(
            Row.at_least(
                f"pairs of {num} campaigns far from {num} of then found",
                candidate_alarms(shops, num, num, limits, moved=3),
                0.95,
            )
            for num in (6, 8)
        ),
    ]
    rows += [
        Row.at_most("right probabilities called off, 12 campaigns", miscalibrated(shops, 1.0, limits), 0.05),
        Row.at_least("probabilities off by a factor of two found", miscalibrated(shops, 2.0, limits), 0.95),
        Row.at_least("probabilities off by half found", miscalibrated(shops, 0.5, limits), 0.95),
    ]
    for row in rows:
        print(f"{row.name:<60} {row.value:.4f} {row.goal:>8} {row.in_words}", flush=True)
    merge(
        [row.model_copy(update={"facts": {"shops": shops, "features": FEATURES}}) for row in rows],
        measured_on(),
        REPORT,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SHOPS)
