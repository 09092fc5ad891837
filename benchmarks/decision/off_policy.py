"""How often 95 % intervals of off-policy estimates miss the truth, on each side, and how often an answer is refused.

Logs of few decisions in a world whose truth is known (`BanditWorld`), for judged policies from near the logged one to
one that always shows the best campaign.

Shapes: N decisions · A actions · X columns of a context.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from benchmarks.decision.rows import Row
from recommender.datasets.synthetic.policy import BanditWorld, LoggedDecisions
from recommender.policies.off_policy import Judging, doubly_robust, ips, snips
from recommender.policies.off_policy import effective_sample_size as effective
from recommender.policies.policy_value import Answer, PolicyValue

Floats = NDArray[np.float64]
FLOORS, ROWS = (0.01, 0.001), (200, 2000)
"""Smallest propensities, and decisions: 50 users with four each, and 500."""
SHARPNESS = (1.0, 2.0, float("inf"))
"""Judged policies: softmax of the expected rewards in standard deviations, times this. Infinite: the best only."""
LOGS = 400
"""A tail of 4 % is then known to 2 points (two standard errors)."""
TRUTH_CONTEXTS = 400_000
"""So many that the truth's error is small beside an interval's width."""
SEED = 28


@dataclass
class Tally:
    """What happened over many logs."""

    answers: int = 0
    refusals: int = 0
    refusals_from_200: int = 0
    logs_from_200: int = 0
    above: int = 0
    """Intervals above the truth."""
    below: int = 0
    before: int = 0
    """Of the t interval with the sandwich error, which the product had, those that miss."""
    widths: list[float] = field(default_factory=list)

    @property
    def tails(self) -> tuple[float, float]:
        """Shares of answers whose interval lies above and below the truth."""
        count = max(1, self.answers)
        return self.above / count, self.below / count


def judged(world: BanditWorld, contexts_NX: NDArray[np.float32], sharpness: float) -> Floats:
    """Probabilities [N, A] of the judged policy."""
    rewards_NA = world.expected_rewards(contexts_NX)
    if np.isinf(sharpness):
        return np.asarray(np.eye(world.num_actions)[rewards_NA.argmax(axis=1)])
    weight_NA = np.exp(sharpness * rewards_NA / rewards_NA.std())
    return np.asarray(weight_NA / weight_NA.sum(axis=1, keepdims=True))


def estimates(log: LoggedDecisions, target_NA: Floats, predicted_NA: Floats, judging: Judging) -> list[Answer]:
    """The three estimates of one log, clustered by user."""
    target_N = target_NA[np.arange(len(log.actions_N)), log.actions_N]
    columns, users_N = (log.rewards_N, target_N, log.propensities_N), log.users_N
    return [
        ips(*columns, users_N=users_N, judging=judging),
        snips(*columns, users_N=users_N, judging=judging),
        doubly_robust(
            log.rewards_N,
            log.actions_N,
            target_NA,
            log.propensities_N,
            predicted_NA,
            users_N=users_N,
            judging=judging,
        ),
    ]


def before(log: LoggedDecisions, target_NA: Floats) -> tuple[float, float]:
    """The interval of SNIPS as it was: value ± t · standard error from users' sums of influence values."""
    from scipy.stats import t

    weights_N = target_NA[np.arange(len(log.actions_N)), log.actions_N] / log.propensities_N
    value = float(weights_N @ log.rewards_N / weights_N.sum())
    sums_U = np.bincount(log.users_N, weights=weights_N * (log.rewards_N - value))
    error = np.sqrt(len(sums_U) / (len(sums_U) - 1) * (sums_U**2).sum()) / weights_N.sum()
    half = float(t.ppf(0.975, len(sums_U) - 1) * error)
    return value - half, value + half


def tally(floor: float, num_rows: int, sharpness: float, *, logs: int = LOGS, resamples: int = 299) -> dict[str, Tally]:
    """Judge one policy on many logs, by each estimator."""
    world = BanditWorld(seed=11, least_propensity=floor)
    contexts_NX, _ = world.contexts(TRUTH_CONTEXTS, seed=SEED)
    truth = world.value(judged(world, contexts_NX, sharpness), contexts_NX)
    mean_A = world.expected_rewards(contexts_NX[:1000]).mean(axis=0)
    judging = Judging(floor=floor * (1 - 1e-9), reward_range=(0.0, 1.0), resamples=resamples)
    found = {name: Tally() for name in ("ips", "snips", "doubly robust")}
    for number in range(logs):
        log = world.log(num_rows, seed=1000 + number)
        target_NA = judged(world, log.contexts_NX, sharpness)
        predicted_NA = np.broadcast_to(mean_A, target_NA.shape)
        size = effective(target_NA[np.arange(num_rows), log.actions_N] / log.propensities_N)
        old_low, old_high = before(log, target_NA)
        for one, (name, into) in zip(estimates(log, target_NA, predicted_NA, judging), found.items(), strict=True):
            into.logs_from_200 += size >= 200
            if name == "snips":
                into.before += not old_low <= truth <= old_high
            if not isinstance(one, PolicyValue):
                into.refusals += 1
                into.refusals_from_200 += size >= 200
                continue
            into.answers += 1
            into.above += one.low > truth
            into.below += one.high < truth
            into.widths.append(one.high - one.low)
    return found


def rows(say: Callable[[str], None]) -> list[Row]:
    """All figures of off-policy intervals."""
    made: list[Row] = []
    refused = from_200 = 0
    for floor, num_rows in product(FLOORS, ROWS):
        say(f"off-policy intervals, floor {floor:g}, {num_rows:,} rows")
        tallies = {
            f"{name}, sharpness {sharpness:g}": one
            for sharpness in SHARPNESS
            for name, one in tally(floor, num_rows, sharpness).items()
        }
        refused += sum(one.refusals_from_200 for one in tallies.values())
        from_200 += sum(one.logs_from_200 for one in tallies.values())
        # A rate over a few answers means nothing.
        answered = {name: one for name, one in tallies.items() if one.answers >= LOGS / 4}
        facts = {
            name: {
                "coverage": 1 - sum(one.tails),
                "tails": one.tails,
                "refused": one.refusals / LOGS,
                "median_width": float(np.median(one.widths)) if one.widths else None,
                **({"coverage_before": 1 - one.before / LOGS} if name.startswith("snips") else {}),
            }
            for name, one in tallies.items()
        }
        coverage = min(1 - sum(one.tails) for one in answered.values())
        tail = max(max(one.tails) for one in answered.values())
        where = f"floor {floor:g}, {num_rows:,} rows"
        made.append(Row.at_least(f"off-policy 95 % intervals, least coverage, {where}", coverage, 0.93, **facts))
        made.append(Row.at_most(f"off-policy 95 % intervals, largest tail, {where}", tail, 0.04))
    share = refused / max(1, from_200)
    made.append(Row.at_most("off-policy answers refused at an effective sample >= 200", share, 0.05, logs=from_200))
    return made
