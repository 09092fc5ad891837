"""Simulates a contextual bandit with known truth: contexts, campaigns of unequal value and a logging policy.

A participation is drawn from a known probability, and a campaign that is taken up earns its value in [0, 1]. Valuable
campaigns are taken up seldom. The logging policy is a softmax over roughly the participation log-odds, mixed with the
uniform distribution so that every action has at least `least_propensity`. Its propensities are exact.

Numbers without a stated reason are chosen by hand. docs/benchmarks.md has the results of `make bench-policy` in this
world.

Shapes: N decisions · X columns of a context · A actions (campaigns) · P pairs of columns · K actions shown together ·
U users.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import DEFAULT_SEED

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LoggedDecisions:
    """Decisions as a log holds them, each with one action shown."""

    contexts_NX: NDArray[np.float32]
    actions_N: NDArray[np.int64]
    propensities_N: Floats
    """Probability with which the logging policy showed `actions_N`."""
    rewards_N: Floats
    """The action's value where it was taken up, else 0."""
    users_N: NDArray[np.int64]

    def rows(self, mask_N: NDArray[np.bool_]) -> "LoggedDecisions":
        """Select the decisions where the mask is true."""
        return LoggedDecisions(
            self.contexts_NX[mask_N],
            self.actions_N[mask_N],
            self.propensities_N[mask_N],
            self.rewards_N[mask_N],
            self.users_N[mask_N],
        )


@dataclass(frozen=True, kw_only=True)
class BanditWorld:
    """Parameters of the simulation. The truth is drawn from `seed`.

    The defaults are chosen by hand. `make bench-policy` measures with them.
    """

    num_actions: int = 10
    num_columns: int = 6
    curved: float = 1.5
    """Weight of squares and products of columns in the log-odds. With 0 a model that is linear in the columns is
    right."""
    logging_strength: float = 1.0
    """Inverse temperature of the logging policy's softmax."""
    least_propensity: float = 0.01
    decisions_a_user: int = 4
    user_spread: float = 0.5
    """Share of a context's variance that belongs to the user and is the same in all of the user's decisions."""
    seed: int = DEFAULT_SEED

    def __post_init__(self) -> None:
        if not 0 < self.least_propensity <= 1 / self.num_actions:
            raise ValueError(
                f"least_propensity must be above 0 and at most 1/{self.num_actions} (got {self.least_propensity})"
            )

    def contexts(self, num_decisions: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Draw contexts, float32 [N, X], each column standard normal, and their users, int64 [N]."""
        random = np.random.default_rng((self.seed, seed, 0))
        users_N = np.arange(num_decisions) // self.decisions_a_user
        own_UX = random.normal(size=(int(users_N.max(initial=-1)) + 1, self.num_columns))
        now_NX = random.normal(size=(num_decisions, self.num_columns))
        mixed_NX = np.sqrt(self.user_spread) * own_UX[users_N] + np.sqrt(1 - self.user_spread) * now_NX
        return mixed_NX.astype(np.float32), users_N

    def take_up(self, contexts_NX: NDArray[np.float32]) -> Floats:
        """Return the true probability that a campaign is taken up if shown, float64 [N, A]."""
        x_NX = contexts_NX.astype(np.float64)
        products_NP = (x_NX[:, :, None] * x_NX[:, None, :])[:, *np.triu_indices(self.num_columns)]
        linear_XA, quadratic_PA, bias_A = self._truth[:3]
        log_odds_NA = x_NX @ linear_XA + self.curved * (products_NP - self._mean_products_P) @ quadratic_PA + bias_A
        return np.asarray(1 / (1 + np.exp(-log_odds_NA)))

    @property
    def values_A(self) -> Floats:
        """Reward of each campaign when it is taken up."""
        return self._truth[3]

    def expected_rewards(self, contexts_NX: NDArray[np.float32]) -> Floats:
        """Return the true mean reward of each action, float64 [N, A]."""
        return self.take_up(contexts_NX) * self.values_A

    def logging(self, contexts_NX: NDArray[np.float32]) -> Floats:
        """Return the logging policy's probabilities, float64 [N, A], none below `least_propensity`."""
        linear_XA, _, bias_A = self._truth[:3]
        strength_NA = self.logging_strength * (contexts_NX.astype(np.float64) @ linear_XA + bias_A)
        share_NA = np.exp(strength_NA - strength_NA.max(axis=1, keepdims=True))
        share_NA /= share_NA.sum(axis=1, keepdims=True)
        return np.asarray(self.least_propensity + (1 - self.num_actions * self.least_propensity) * share_NA)

    def log(self, num_decisions: int, *, seed: int) -> LoggedDecisions:
        """Draw decisions of the logging policy. The same seed gives the same log."""
        contexts_NX, users_N = self.contexts(num_decisions, seed=seed)
        random = np.random.default_rng((self.seed, seed, 1))
        share_NA = self.logging(contexts_NX)
        actions_N = (random.random((num_decisions, 1)) > share_NA.cumsum(axis=1)).sum(axis=1)
        actions_N = np.minimum(actions_N, self.num_actions - 1)
        shown = np.arange(num_decisions), actions_N
        taken_N = random.random(num_decisions) < self.take_up(contexts_NX)[shown]
        rewards_N = np.where(taken_N, self.values_A[actions_N], 0.0)
        return LoggedDecisions(contexts_NX, actions_N, share_NA[shown], rewards_N, users_N)

    def value(self, probabilities_NA: NDArray[np.floating], contexts_NX: NDArray[np.float32]) -> float:
        """Return the true mean reward of a policy that shows one action in each context."""
        return float((probabilities_NA * self.expected_rewards(contexts_NX)).sum(axis=1).mean())

    def value_of_lists(self, lists_NK: NDArray[np.int64], contexts_NX: NDArray[np.float32]) -> float:
        """Return the true mean sum of rewards of K different actions shown together and taken up independently."""
        return float(np.take_along_axis(self.expected_rewards(contexts_NX), lists_NK, axis=1).sum(axis=1).mean())

    @cached_property
    def _truth(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Linear weights [X, A], quadratic weights [P, A], biases [A] and values [A] of the campaigns."""
        random = np.random.default_rng((self.seed, 2))
        num_pairs = len(np.triu_indices(self.num_columns)[0])
        # Divided so that the log-odds keep a variance near 1 whatever the number of columns.
        linear_XA = random.normal(size=(self.num_columns, self.num_actions)) / np.sqrt(self.num_columns)
        quadratic_PA = random.normal(size=(num_pairs, self.num_actions)) / np.sqrt(num_pairs)
        # From cheap campaigns that 45 % take up in a mean context to valuable ones that 6 % take up.
        bias_A = np.linspace(-0.2, -2.8, self.num_actions)
        values_A = np.linspace(0.25, 1.0, self.num_actions)
        return linear_XA, quadratic_PA, bias_A, values_A

    @cached_property
    def _mean_products_P(self) -> Floats:
        """Expected product of two columns: 1 for squares, else 0, since columns are independent and standard normal."""
        rows, columns = np.triu_indices(self.num_columns)
        return np.asarray(rows == columns, dtype=np.float64)
