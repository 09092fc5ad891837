"""Figures of the shown lists of all rankers in a period, with intervals from a bootstrap over users.

Shapes: L lists · R resamples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recommender.evaluation import intervals, list_metrics
from recommender.evaluation.document import Estimate, ListAxis, ListGroup, ListResult
from recommender.evaluation.intervals import Bootstrap
from recommender.evaluation.judgement import Judgement
from recommender.evaluation.list_metrics import ShownLists, mean_gap, mean_of
from recommender.evaluation.metrics import Floats
from recommender.evaluation.shown_lists import PeriodLists
from recommender.matching.rerank import Rerank


@dataclass(frozen=True)
class ListMetric:
    """A metric of lists, with the words in which the page explains it."""

    title: str
    compute: Callable[[ShownLists, Floats], Floats]
    direction: str
    """higher or lower, or `neither` where more is not better by itself."""
    words: str
    biased: bool = False
    """Whether resamples of users shift it, so that its interval is shifted back. All such metrics are shares."""


CAUGHT, COVERAGE, OPPORTUNITY_GAP, EXPOSURE_GAP = "caught", "campaign_coverage", "opportunity_gap", "exposure_gap"
LIST_METRICS: dict[str, ListMetric] = {
    CAUGHT: ListMetric(
        "participations caught",
        list_metrics.caught,
        "higher",
        "Of the later participations in campaigns that were live, the share whose campaign is at the top of the list.",
    ),
    COVERAGE: ListMetric(
        "campaign coverage",
        list_metrics.campaign_coverage,
        "higher",
        "Share of the live campaigns that at least one user is shown.",
        biased=True,
    ),
    "item_coverage": ListMetric(
        "item coverage",
        list_metrics.item_coverage,
        "higher",
        "Share of their items that at least one user is shown.",
        biased=True,
    ),
    "exposure_gini": ListMetric(
        "Gini of exposure",
        list_metrics.exposure_gini,
        "lower",
        "How unevenly attention is spread over campaigns: 0 if all get the same, near 1 if one gets all.",
        biased=True,
    ),
    "campaign_diversity": ListMetric(
        "diversity of campaigns",
        mean_of(list_metrics.campaign_diversity),
        "higher",
        "How little the campaigns of one list overlap in product types: 1 if not at all.",
    ),
    "item_diversity": ListMetric(
        "diversity of items",
        mean_of(list_metrics.item_diversity),
        "higher",
        "Share of the attributes (type, category, department, brand, maker) in which two items of one list differ.",
    ),
    "novelty": ListMetric(
        "novelty, bits",
        mean_of(list_metrics.novelty),
        "neither",
        "How rarely the shown items are bought: each bit halves the share of purchases.",
    ),
    "miscalibration": ListMetric(
        "distance from own categories, nats",
        mean_of(list_metrics.miscalibration),
        "lower",
        "How far the category shares of a list's campaigns are from what the user buys: 0 if equal.",
    ),
    OPPORTUNITY_GAP: ListMetric(
        "opportunity gap",
        mean_gap(list_metrics.opportunity_gap),
        "lower",
        "Participations caught in the best served group of shoppers minus those in the worst, mean over the segments.",
        biased=True,
    ),
    EXPOSURE_GAP: ListMetric(
        "exposure gap",
        mean_gap(list_metrics.exposure_gap),
        "neither",
        "Largest part of its attention that a group gives other campaigns than all users do, mean over the segments.",
        biased=True,
    ),
}


def list_result(
    lists: PeriodLists,
    scores: Mapping[str, NDArray[np.float32]],
    *,
    challenger: str,
    champion: str,
    rules: Judgement,
    rerank: Rerank,
    bootstrap: Bootstrap,
) -> ListResult:
    """Cut and judge the lists of all rankers.

    Args:
        lists: the candidates of the users.
        scores: ranker -> its scores of all candidates.
        challenger: name of the challenger.
        champion: name of the champion.
        rules: the cut, and how large a group must be to be judged.
        rerank: how serving re-ranks.
        bootstrap: how users are drawn.
    """
    limits = rules.guardrails
    groups = lists.groups(min_lists=limits.min_slice_pairs, min_participations=limits.min_slice_positives)
    shown = {
        name: lists.shown(score_M, rule=rules.lists, rerank=rerank, groups=groups) for name, score_M in scores.items()
    }
    first = shown[challenger]
    weights_RL = np.concatenate(list(bootstrap.weights(np.arange(len(first.shown_LK)))))
    figures = {
        name: {metric: Figure.of(one.compute, of, weights_RL) for metric, one in LIST_METRICS.items()}
        for name, of in shown.items()
    }
    both = {name: shown[name] for name in dict.fromkeys((challenger, champion))}
    return ListResult(
        cut=rules.lists.cut,
        top=rules.lists.top,
        num_items=first.items_LKI.shape[2],
        rerank=rerank.kind,
        trade_off=rerank.trade_off if rerank.is_on else 0.0,
        num_lists=len(first.shown_LK),
        num_campaigns=len(first.rows_C),
        num_participations=int(first.relevant_LC.sum()),
        rankers={
            name: {
                metric: figure.estimate(
                    bootstrap, biased=LIST_METRICS[metric].biased, is_share=LIST_METRICS[metric].biased
                )
                for metric, figure in of.items()
            }
            for name, of in figures.items()
        },
        differences={
            metric: figures[challenger][metric]
            .minus(figures[champion][metric])
            .estimate(bootstrap, biased=LIST_METRICS[metric].biased)
            for metric in LIST_METRICS
        },
        axes=[_axis(axis, both, weights_RL, bootstrap) for axis, judged in groups.items() if len(judged) > 1],
        groups=[
            _group(lists, both, axis, value, judged=value in groups[axis], weights_RL=weights_RL, bootstrap=bootstrap)
            for axis, values in lists.segments.items()
            for value in sorted(set(values))
        ],
    )


@dataclass(frozen=True, eq=False)
class Figure:
    """A value and its resamples."""

    value: float
    sample_R: Floats

    @classmethod
    def of(cls, compute: Callable[[ShownLists, Floats], Floats], lists: ShownLists, weights_RL: Floats) -> "Figure":
        """Compute both, of lists and of their resamples."""
        value_R = compute(lists, np.concatenate([lists.ones, weights_RL]))
        return cls(float(value_R[0]), value_R[1:])

    def minus(self, other: "Figure") -> "Figure":
        """The difference on the same resamples."""
        return Figure(self.value - other.value, self.sample_R - other.sample_R)

    def estimate(self, bootstrap: Bootstrap, *, biased: bool = False, is_share: bool = False) -> Estimate:
        """Value with interval.

        Args:
            bootstrap: its confidence.
            biased: shift the interval by the bootstrap's estimate of the bias (Efron & Tibshirani, chapter 10).
            is_share: keep the interval in [0, 1], beyond which a shift could take it.
        """
        shift = np.nanmean(self.sample_R) - self.value if biased and np.isfinite(self.sample_R).any() else 0.0
        low, high = bootstrap.interval(self.sample_R - shift)
        if is_share:
            low, high = float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))
        if biased and np.isfinite(low + high) and np.isfinite(self.value):
            # A shift may push the interval of a figure that hardly varies past the figure itself.
            low, high = min(low, self.value), max(high, self.value)
        return Estimate.of(intervals.Estimate(self.value, low, high))


def _axis(axis: str, shown: Mapping[str, ShownLists], weights_RL: Floats, bootstrap: Bootstrap) -> ListAxis:
    def gaps(gap: Callable[[ShownLists, Floats, str], Floats]) -> dict[str, Estimate]:
        found = {
            name: Figure.of(lambda of, weights: gap(of, weights, axis), of, weights_RL) for name, of in shown.items()
        }
        return {name: figure.estimate(bootstrap, biased=True, is_share=True) for name, figure in found.items()}

    return ListAxis(
        axis=axis,
        opportunity_gap=gaps(list_metrics.opportunity_gap),
        exposure_gap=gaps(list_metrics.exposure_gap),
    )


def _group(
    lists: PeriodLists,
    shown: Mapping[str, ShownLists],
    axis: str,
    value: str,
    *,
    judged: bool,
    weights_RL: Floats,
    bootstrap: Bootstrap,
) -> ListGroup:
    of_L = (np.array(lists.segments[axis], dtype=object) == value).astype(np.float64)
    first = next(iter(shown.values()))
    rates = {
        name: Figure(
            float(list_metrics.caught(of, of_L[None, :])[0]), list_metrics.caught(of, weights_RL * of_L)
        ).estimate(bootstrap)
        for name, of in shown.items()
    }
    return ListGroup(
        axis=axis,
        value=value,
        num_lists=int(of_L.sum()),
        num_participations=int(first.relevant_LC[of_L > 0].sum()),
        judged=judged,
        caught=rates if judged else {},
    )
