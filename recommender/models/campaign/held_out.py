"""Predictions for past campaigns by fits that never saw them: each fit ends where the campaign begins.

The spread of campaigns' levels and the calibration step both learn from them. A logistic regression predicts each of
the latest campaigns anyway, for the levels. Other rankers are fitted again, at as many moments as their class allows.

Shapes: N pairs of a fit · P held-out pairs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Hyperparameters
from recommender.matching.examples import Examples, Labels
from recommender.matching.horizon import Outcomes
from recommender.matching.packed_history import Histories
from recommender.matching.timing import Timing, still_coming
from recommender.models.campaign.logistic import LogisticConfig, fit_logistic, sigmoid
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.ranker import HIGHEST_PROBABILITY, LOWEST_PROBABILITY, Ranker

MAX_CAMPAIGNS = 12
"""Past campaigns that are predicted, the latest ones. Chosen by hand: a fit takes a tenth of a second for each."""

Floats = NDArray[np.float64]
CorpusBefore = Callable[[int], Histories]
"""Purchase histories of all users before a time, microseconds since 1970, UTC."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """P pairs of past campaigns, and what a fit from before their campaign predicts of them."""

    campaigns_P: NDArray[np.int32]
    p_P: Floats
    """Probability of a participation at any time in the window, inside (0, 1)."""
    redeemed_P: NDArray[np.bool_]
    """Whether a participation was known at the boundary."""
    reached_P: Floats
    """Share of the participations that lay behind at the boundary. 1 for a closed window."""
    note: str = ""
    """Why there are none."""

    @classmethod
    def none(cls, note: str) -> "HeldOut":
        """No predictions, for a reason."""
        empty = np.zeros(0)
        return cls(empty.astype(np.int32), empty, empty.astype(np.bool_), empty, note)

    def take(self, rows_P: NDArray[np.bool_]) -> "HeldOut":
        """Select pairs."""
        return HeldOut(self.campaigns_P[rows_P], self.p_P[rows_P], self.redeemed_P[rows_P], self.reached_P[rows_P])

    def losses_P(self, p_P: Floats) -> Floats:
        """Log loss of each pair if its probability were `p_P`, in nats.

        An open window's outcome is censored: without a participation so far, the pair has the probability 1 - p F.
        """
        p_P = np.clip(p_P, LOWEST_PROBABILITY, HIGHEST_PROBABILITY)
        return np.asarray(-np.where(self.redeemed_P, np.log(p_P), np.log1p(-p_P * self.reached_P)))


@dataclass(frozen=True, eq=False)
class Regression:
    """A fitted logistic regression on E inputs."""

    preprocessing: Preprocessing
    weights_E: NDArray[np.float32]
    bias: float

    def __call__(self, features_PF: NDArray[np.float32]) -> Floats:
        """Probabilities of P pairs."""
        z_PE = self.preprocessing(features_PF)
        return sigmoid((z_PE * self.weights_E).sum(axis=1, dtype=np.float64) + self.bias).astype(np.float64)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All arrays that `restore` needs."""
        return {**self.preprocessing.tensors(), "weights_E": self.weights_E, "bias": np.array([self.bias])}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], *, clip: float) -> "Regression":
        """Rebuild it from `tensors()`."""
        return cls(Preprocessing.restore(tensors, clip=clip), tensors["weights_E"], float(tensors["bias"][0]))


@dataclass(frozen=True, eq=False)
class Past:
    """The pairs of a fit whose outcomes are known so far, and their latest campaigns, in order of time.

    It keeps the regressions that were fitted on the pairs before a moment, for what predicts the same campaigns again.
    """

    examples: Examples
    outcomes: Outcomes
    timing: Timing
    """Learnt at the same boundary."""
    types_N: NDArray[np.object_]
    campaigns: list[tuple[int, int]]
    """Row of a campaign and the time of its first targeting."""
    regressions: dict[tuple[int, float, float], Regression] = field(default_factory=dict)
    """Those fitted so far, by moment, strength and clip."""

    @classmethod
    def of(cls, examples: Examples, outcomes: Outcomes, timing: Timing) -> "Past":
        """Find the latest campaigns of the pairs of a fit."""
        rows, back_N = np.unique(examples.campaigns_N, return_inverse=True)
        first_us = np.full(len(rows), np.iinfo(np.int64).max)
        np.minimum.at(first_us, back_N, outcomes.targeted_us_N)
        order = np.argsort(first_us, kind="stable")
        campaigns = list(zip(rows[order].tolist(), first_us[order].tolist(), strict=True))[-MAX_CAMPAIGNS:]
        types = examples.catalogue.campaign_types
        types_N = np.array([types[row] for row in examples.campaigns_N.tolist()], dtype=object)
        return cls(examples, outcomes, timing, types_N, campaigns)

    def before(self, moment_us: int) -> tuple[NDArray[np.bool_], Outcomes]:
        """Which pairs were targeted before a moment, and what was known of them then."""
        all_of = self.outcomes
        before_N = all_of.targeted_us_N < moment_us
        then = Outcomes(all_of.targeted_us_N, all_of.ends_us_N, all_of.redeemed_us_N, moment_us)
        return before_N, then.take(before_N)

    def regression(self, moment_us: int, config: LogisticConfig) -> Regression:
        """A logistic regression on the pairs that were targeted before a moment, as known then.

        An open pair counts by the share of the participations that lay behind it.
        """
        key = (moment_us, config.strength, config.clip)
        found = self.regressions.get(key)
        if found is None:
            before_N, then = self.before(moment_us)
            before_BF = self.examples.features_NF[before_N]
            preprocessing = Preprocessing.fit(before_BF, clip=config.clip)
            behind_B = self.timing.behind_N(self.types_N[before_N].tolist(), then.observed_N())
            weights_E, bias = fit_logistic(
                preprocessing(before_BF),
                then.redeemed_N.astype(np.float32),
                strength=config.strength,
                weights_N=np.where(then.open_N, behind_B, 1.0),
            )
            found = self.regressions[key] = Regression(preprocessing, weights_E, bias)
        return found

    def held_out(self, parts: list[tuple[int, Floats]]) -> HeldOut:
        """Join the predictions of campaigns, each a row and the probabilities of its pairs."""
        if not parts:
            return HeldOut.none("no past campaign has earlier pairs with both outcomes")
        pairs = [np.flatnonzero(self.examples.campaigns_N == row) for row, _ in parts]
        rows_P = np.concatenate(pairs)
        reached_N = self.timing.behind_N(self.types_N.tolist(), self.outcomes.observed_N())
        return HeldOut(
            self.examples.campaigns_N[rows_P],
            np.concatenate([p for _, p in parts]),
            self.outcomes.redeemed_N[rows_P],
            reached_N[rows_P],
        )


def held_out_of_logistic(past: Past, config: LogisticConfig | None = None) -> HeldOut:
    """Predict each of the latest campaigns by a logistic regression on the pairs that were targeted before its first.

    Args:
        past: The pairs of a fit.
        config: Hyperparameters of the regression.
    """
    config, parts = config or LogisticConfig(), []
    for row, moment_us in past.campaigns:
        _, then = past.before(moment_us)
        if not 0 < then.redeemed_N.sum() < len(then.redeemed_N):
            continue
        of_N = past.examples.campaigns_N == row
        parts.append((row, past.regression(moment_us, config)(past.examples.features_NF[of_N])))
    return past.held_out(parts)


def held_out_of(
    cls: type[Ranker[Any]],
    past: Past,
    labels: Labels,
    *,
    corpus_before: CorpusBefore,
    config: Hyperparameters,
    context: FitContext,
    max_fits: int,
) -> HeldOut:
    """Predict the latest campaigns by fits of `cls`, at most `max_fits`.

    With fewer fits than campaigns, consecutive campaigns share one, which ends where the first of them begins. An open
    pair's label is the probability that it still takes part, by a logistic regression on the same pairs.

    Args:
        cls: Class of the ranker.
        past: The pairs of a fit.
        labels: Their labels.
        corpus_before: Purchase histories before each moment.
        config: As `Ranker.fit`.
        context: As `Ranker.fit`. Each fit has its own checkpoints below those given.
        max_fits: Most fits, at least 1.
    """
    parts: list[tuple[int, Floats]] = []
    starts = [moment_us for _, moment_us in past.campaigns]
    groups = np.array_split(np.arange(len(starts)), min(max_fits, len(starts)))
    for group in groups:
        moment_us = starts[int(group[0])]
        before_N, then = past.before(moment_us)
        if not 0 < then.redeemed_N.sum() < len(then.redeemed_N):
            continue
        own = None if context.checkpoints is None else context.checkpoints / f"before-{moment_us}"
        fitted = cls.fit(
            _pairs(past.examples, before_N),
            _labels_then(past, labels, moment_us),
            corpus=corpus_before(moment_us),
            config=config,
            context=replace(context, checkpoints=own, progress=None),
        )
        for row in (past.campaigns[place][0] for place in group.tolist()):
            of_N = past.examples.campaigns_N == row
            parts.append((row, fitted.score(_pairs(past.examples, of_N)).redeem_N.astype(np.float64)))
    return past.held_out(parts)


def _pairs(examples: Examples, rows_N: NDArray[np.bool_]) -> Examples:
    return replace(
        examples,
        campaigns_N=examples.campaigns_N[rows_N],
        users_N=examples.users_N[rows_N],
        features_NF=examples.features_NF[rows_N],
        horizon=None,
    )


def _labels_then(past: Past, labels: Labels, moment_us: int) -> Labels:
    """Labels as a fit at an earlier moment had them. Amounts were known of closed windows only."""
    before_N, then = past.before(moment_us)
    redeemed_B = then.redeemed_N.astype(np.float64)
    open_B = then.open_N
    if open_B.any():
        p_B = past.regression(moment_us, LogisticConfig())(past.examples.features_NF[before_N])
        behind_B = past.timing.behind_N(past.types_N[before_N].tolist(), then.observed_N())
        redeemed_B = np.where(open_B, still_coming(p_B, behind_B, np.ones_like(p_B)), redeemed_B)
    unknown_B = np.where(then.ends_us_N > then.known_at_us, np.float32("nan"), np.float32(0))
    return Labels(
        redeemed_B.astype(np.float32), labels.spend_N[before_N] + unknown_B, labels.excess_N[before_N] + unknown_B
    )
