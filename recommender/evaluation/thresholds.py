"""Accuracy, precision, recall and F1: what comes of saying "takes part" of every pair that scores at or above a bound.

The thresholds come from the judgement file. None is chosen on the pairs that it judges: the base rate is the share of
participations in earlier pairs. Accuracy is shown beside that of saying of nobody that they take part, since with few
participations that is right most of the time.

Shapes: N pairs · R resamples · r resamples of a chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np

from recommender.datasets.periods import microseconds
from recommender.evaluation.document import AtThreshold, BaseRate, Estimate
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.metrics import Floats, ScoredPairs
from recommender.evaluation.pairs import PairSet, times

BASE_RATE = "base_rate"
TITLES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"}


@dataclass(frozen=True)
class Figures:
    """The figures of all rankers in one period."""

    nobody: Estimate
    """Accuracy of saying of nobody that they take part."""
    rankers: Mapping[str, list[AtThreshold]]


def base_rate(data: PairSet, moment: datetime) -> BaseRate | None:
    """Share of participations in the pairs that were decided before `moment`, as known then.

    Only pairs whose window had closed count: without a participation so far, an open one is not a no. Where the closed
    ones lack one of the outcomes, all pairs count. None if these do too.
    """
    decided_N = times(data, "decided_at") < microseconds(moment)
    closed_N = decided_N & (times(data, "ends_at") <= microseconds(moment))
    for mask_N, closed in ((closed_N, True), (decided_N, False)):
        if mask_N.any():
            share = float(np.mean(data.labels_at(moment, mask_N).redeemed_N.astype(np.float64)))
            if 0 < share < 1:
                return BaseRate(value=share, num_pairs=int(mask_N.sum()), closed=closed)
    return None


def resolved(thresholds: Sequence[str | float], usual: BaseRate | None) -> dict[str, float]:
    """Rule -> threshold. Without a base rate its rule is left out."""
    found = dict.fromkeys((BASE_RATE,), usual.value if usual else None)
    found |= {str(rule): float(rule) for rule in thresholds if rule != BASE_RATE}
    return {str(rule): bound for rule in thresholds if (bound := found[str(rule)]) is not None}


def figures_at(
    thresholds: Mapping[str, float | Floats], scored: Mapping[str, ScoredPairs], bootstrap: Bootstrap
) -> Figures:
    """Compute the figures of every ranker at every threshold, with intervals over users with all their pairs.

    Args:
        thresholds: rule -> threshold of all pairs, or of each pair [N].
        scored: ranker -> its scores of the same pairs.
        bootstrap: how users are drawn.
    """
    first = next(iter(scored.values()))
    said = {
        (name, rule): (of.score_N >= bound).astype(np.float64)
        for name, of in scored.items()
        for rule, bound in thresholds.items()
    }
    nobody = np.zeros(len(first.redeemed_N))
    point = {key: _Counts.of(first.redeemed_N, said_N, first.ones) for key, said_N in said.items()}
    chunks: dict[tuple[str, str], list[_Counts]] = {key: [] for key in said}
    nobody_R = []
    for weights_rN in bootstrap.weights(first.users_N):
        nobody_R.append(_Counts.of(first.redeemed_N, nobody, weights_rN).figures()["accuracy"])
        for key, said_N in said.items():
            chunks[key].append(_Counts.of(first.redeemed_N, said_N, weights_rN))
    beside = float(_Counts.of(first.redeemed_N, nobody, first.ones).figures()["accuracy"][0]), np.concatenate(nobody_R)
    rankers: dict[str, list[AtThreshold]] = {name: [] for name in scored}
    for name, rule in said:
        counts, drawn = point[name, rule], [part.figures() for part in chunks[name, rule]]
        values = {figure: float(value_1[0]) for figure, value_1 in counts.figures().items()}
        drawn_R = {figure: np.concatenate([part[figure] for part in drawn]) for figure in values}
        rankers[name].append(
            AtThreshold(
                rule=rule,
                threshold=float(np.mean(thresholds[rule])),
                **counts.confusion(),
                metrics={figure: Estimate.drawn(values[figure], drawn_R[figure], bootstrap) for figure in values},
                accuracy_over_nobody=Estimate.drawn(
                    values["accuracy"] - beside[0], drawn_R["accuracy"] - beside[1], bootstrap
                ),
            )
        )
    return Figures(Estimate.drawn(*beside, bootstrap), rankers)


@dataclass(frozen=True, eq=False)
class _Counts:
    """Weighted numbers of pairs in R resamples: all, with a participation, said to take part, and rightly so."""

    total_R: Floats
    positives_R: Floats
    said_R: Floats
    right_R: Floats

    @classmethod
    def of(cls, redeemed_N: Floats, said_N: Floats, weights_RN: Floats) -> Self:
        return cls(
            weights_RN.sum(axis=1), weights_RN @ redeemed_N, weights_RN @ said_N, weights_RN @ (redeemed_N * said_N)
        )

    def figures(self) -> dict[str, Floats]:
        """accuracy, precision, recall and f1 [R], NaN where one divides by zero."""
        errors_R = self.said_R + self.positives_R - 2 * self.right_R
        with np.errstate(invalid="ignore"):
            return {
                "accuracy": 1 - errors_R / self.total_R,
                "precision": self.right_R / self.said_R,
                "recall": self.right_R / self.positives_R,
                "f1": 2 * self.right_R / (self.said_R + self.positives_R),
            }

    def confusion(self) -> dict[str, int]:
        """The confusion matrix of the first row of weights."""
        total, positives, said, right = (
            round(float(part_R[0])) for part_R in (self.total_R, self.positives_R, self.said_R, self.right_R)
        )
        return {
            "true_positives": right,
            "false_positives": said - right,
            "false_negatives": positives - right,
            "true_negatives": total - said - positives + right,
        }
