"""How often 95 % intervals of off-policy estimates miss the truth where few decisions earn a reward, or few do not.

Campaigns are taken up by a few users in a hundred, so a log of some hundred decisions holds a handful of rewards. The
judged policy always shows one of two actions, and both actions earn 1 with the same probability.

Shapes: N decisions · A actions · U users.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.decision.off_policy import Tally
from benchmarks.decision.rows import Row
from recommender.policies.off_policy import Judging, doubly_robust, ips, snips
from recommender.policies.policy_value import Answer, PolicyValue

RATES = (0.01, 0.02, 0.05, 0.98)
LOGS = 400
"""A tail of 4 % is then known to 2 points (two standard errors)."""
SEED = 2028
WRONG = 1.5
"""The reward model of the doubly robust estimator expects this many times what the rarer kind of reward is."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Where decisions are logged. Its true value is `rate`."""

    rate: float
    users: int = 400
    decisions: int = 1
    """Of each user."""
    propensity: tuple[float, float] = (0.5, 0.5)
    """Smallest and largest one with which the judged action is shown, log-uniform over users."""
    alike: float | None = None
    """Users' own rates are Beta(rate · alike, (1 - rate) · alike). None: all have the same rate."""

    def answers(self, seed: int, judging: Judging) -> dict[str, Answer]:
        """The three estimates from one log."""
        random = np.random.default_rng((SEED, seed))
        rates_U = np.full(self.users, self.rate)
        if self.alike is not None:
            rates_U = random.beta(self.rate * self.alike, (1 - self.rate) * self.alike, size=self.users)
        least, most = np.log(self.propensity)
        propensity_U = np.exp(random.uniform(least, most, size=self.users))
        users_N = np.repeat(np.arange(self.users), self.decisions)
        judged_N = random.random(len(users_N)) < propensity_U[users_N]
        propensities_N = np.where(judged_N, propensity_U[users_N], 1 - propensity_U[users_N])
        rewards_N = (random.random(len(users_N)) < rates_U[users_N]).astype(np.float64)
        target_NA = np.tile([0.0, 1.0], (len(users_N), 1))
        expected = self.rate * WRONG if self.rate < 0.5 else 1 - (1 - self.rate) * WRONG
        columns = (rewards_N, judged_N.astype(np.float64), propensities_N)
        return {
            "ips": ips(*columns, users_N=users_N, judging=judging),
            "snips": snips(*columns, users_N=users_N, judging=judging),
            "doubly robust": doubly_robust(
                rewards_N,
                judged_N.astype(np.int64),
                target_NA,
                propensities_N,
                np.full_like(target_NA, expected),
                users_N=users_N,
                judging=judging,
            ),
        }


@dataclass
class RateTally(Tally):
    """Also the effective sample sizes."""

    sizes: list[float] = field(default_factory=list)


def shapes(rate: float) -> dict[str, World]:
    """Logs whose effective sample size is 50, 200, about 80 and about 160, and users who differ."""
    return {
        "100 users": World(rate=rate, users=100),
        "400 users": World(rate=rate),
        "200 users with 4 decisions, propensity 0.1": World(rate=rate, users=200, decisions=4, propensity=(0.1, 0.1)),
        "400 users, propensities 0.1 to 0.9": World(rate=rate, propensity=(0.1, 0.9)),
        "200 unlike users with 4 decisions": World(rate=rate, users=200, decisions=4, alike=5.0),
    }


def tally(world: World, *, logs: int = LOGS, judging: Judging | None = None) -> dict[str, RateTally]:
    """Judge the policy on many logs, by each estimator."""
    judging = judging or Judging(reward_range=(0.0, 1.0), resamples=299)
    found: dict[str, RateTally] = {}
    for number in range(logs):
        for name, one in world.answers(number, judging).items():
            into = found.setdefault(name, RateTally())
            if not isinstance(one, PolicyValue):
                into.refusals += 1
                continue
            into.answers += 1
            into.above += one.low > world.rate
            into.below += one.high < world.rate
            into.widths.append(one.high - one.low)
            into.sizes.append(one.effective_sample_size)
    return found


def rows(say: Callable[[str], None]) -> list[Row]:
    """All figures of off-policy intervals at rates of a few in a hundred."""
    made: list[Row] = []
    for rate in RATES:
        say(f"off-policy intervals, {100 * rate:g} in 100 decisions earn a reward")
        tallies = {
            f"{name}, {shape}": one
            for shape, world in shapes(rate).items()
            for name, one in tally(world).items()
            if one.answers >= LOGS / 4  # a rate over a few answers means nothing
        }
        facts = {
            name: {
                "coverage": 1 - sum(one.tails),
                "tails": one.tails,
                "refused": one.refusals / LOGS,
                "median_width": float(np.median(one.widths)),
                "mean_effective_sample_size": float(np.mean(one.sizes)),
            }
            for name, one in tallies.items()
        }
        coverage = min(1 - sum(one.tails) for one in tallies.values())
        tail = max(max(one.tails) for one in tallies.values())
        where = f"a reward in {100 * rate:g} of 100 decisions"
        made.append(Row.at_least(f"off-policy 95 % intervals, least coverage, {where}", coverage, 0.93, **facts))
        made.append(Row.at_most(f"off-policy 95 % intervals, largest tail, {where}", tail, 0.04))
    return made
