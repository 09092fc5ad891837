"""A seeded bandit world whose truth is known: contexts, campaigns of unequal worth, a logging policy with exact propensities.

Who takes a campaign up is drawn from a known probability; a campaign that is taken up earns its value in [0, 1], dear ones being
taken up seldom. `curved`: a campaign's log-odds also bend with the context (squares and products of its columns), which no model
that is linear in the columns can say; 0 is a world in which such a model is right. The logging policy is a softmax that prefers
campaigns much as they are taken up, mixed with the uniform so that every action has at least `least_propensity`.

Shapes: N decisions · X columns of a context · A actions (campaigns).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LoggedDecisions:
    """N decisions as a log holds them, each with one action shown."""

    contexts_NX: NDArray[np.float32]
    actions_N: NDArray[np.int64]
    propensities_N: Floats
    """Probability with which the logging policy showed `actions_N`."""
    rewards_N: Floats
    """The action's value where it was taken up, else 0."""
    users_N: NDArray[np.int64]

    def rows(self, mask_N: NDArray[np.bool_]) -> "LoggedDecisions":
        """The decisions of a mask."""
        return LoggedDecisions(
            self.contexts_NX[mask_N],
            self.actions_N[mask_N],
            self.propensities_N[mask_N],
            self.rewards_N[mask_N],
            self.users_N[mask_N],
        )


@dataclass(frozen=True, kw_only=True)
class BanditWorld:
    """The truth, drawn from `seed`."""

    num_actions: int = 10
    num_columns: int = 6
    curved: float = 1.5
    logging_strength: float = 1.0
    """How sharply the logging policy prefers."""
    least_propensity: float = 0.01
    decisions_a_user: int = 4
    user_spread: float = 0.5
    """Share of a context's variance that is the user's own, the same at all of the user's decisions."""
    seed: int = 17

    def __post_init__(self) -> None:
        if not 0 < self.least_propensity <= 1 / self.num_actions:
            raise ValueError(f"least_propensity lies in (0, 1/{self.num_actions}], not {self.least_propensity}")

    def contexts(self, num_decisions: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Contexts, float32 [N, X], standard normal, and their users, int64 [N]."""
        random = np.random.default_rng((self.seed, seed, 0))
        users_N = np.arange(num_decisions) // self.decisions_a_user
        own_UX = random.normal(size=(int(users_N.max(initial=-1)) + 1, self.num_columns))
        now_NX = random.normal(size=(num_decisions, self.num_columns))
        mixed_NX = np.sqrt(self.user_spread) * own_UX[users_N] + np.sqrt(1 - self.user_spread) * now_NX
        return mixed_NX.astype(np.float32), users_N

    def take_up(self, contexts_NX: NDArray[np.float32]) -> Floats:
        """True probability that a campaign is taken up if shown, [N, A]."""
        x_NX = contexts_NX.astype(np.float64)
        bends_NP = (x_NX[:, :, None] * x_NX[:, None, :])[:, *np.triu_indices(self.num_columns)]
        linear_XA, bends_PA, bias_A = self._truth[:3]
        log_odds_NA = x_NX @ linear_XA + self.curved * (bends_NP - self._centre_P) @ bends_PA + bias_A
        return np.asarray(1 / (1 + np.exp(-log_odds_NA)))

    @property
    def values_A(self) -> Floats:
        """What a campaign earns when it is taken up."""
        return self._truth[3]

    def expected_rewards(self, contexts_NX: NDArray[np.float32]) -> Floats:
        """True mean reward of each action, [N, A]."""
        return self.take_up(contexts_NX) * self.values_A

    def logging(self, contexts_NX: NDArray[np.float32]) -> Floats:
        """The logging policy's probabilities, [N, A]; none below `least_propensity`."""
        linear_XA, _, bias_A = self._truth[:3]
        strength_NA = self.logging_strength * (contexts_NX.astype(np.float64) @ linear_XA + bias_A)
        share_NA = np.exp(strength_NA - strength_NA.max(axis=1, keepdims=True))
        share_NA /= share_NA.sum(axis=1, keepdims=True)
        return np.asarray(self.least_propensity + (1 - self.num_actions * self.least_propensity) * share_NA)

    def log(self, num_decisions: int, *, seed: int) -> LoggedDecisions:
        """N decisions by the logging policy; the same seed gives the same log."""
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
        """The true mean reward a decision of a policy that shows one action, on these contexts."""
        return float((probabilities_NA * self.expected_rewards(contexts_NX)).sum(axis=1).mean())

    def value_of_lists(self, lists_NK: NDArray[np.int64], contexts_NX: NDArray[np.float32]) -> float:
        """The true mean sum of rewards of K different actions shown together, each taken up or not by itself."""
        return float(np.take_along_axis(self.expected_rewards(contexts_NX), lists_NK, axis=1).sum(axis=1).mean())

    @cached_property
    def _truth(self) -> tuple[Floats, Floats, Floats, Floats]:
        random = np.random.default_rng((self.seed, 2))
        pairs = len(np.triu_indices(self.num_columns)[0])
        linear_XA = random.normal(size=(self.num_columns, self.num_actions)) / np.sqrt(self.num_columns)
        bends_PA = random.normal(size=(pairs, self.num_actions)) / np.sqrt(pairs)
        bias_A = np.linspace(-0.2, -2.8, self.num_actions)
        values_A = np.linspace(0.25, 1.0, self.num_actions)
        return linear_XA, bends_PA, bias_A, values_A

    @cached_property
    def _centre_P(self) -> Floats:
        """Mean of the products of columns: squares have 1."""
        rows, columns = np.triu_indices(self.num_columns)
        return np.asarray(rows == columns, dtype=np.float64)
