"""Tables of accuracy, precision, recall and F1 on the evaluation page, beside "nobody takes part"."""

from collections.abc import Sequence

from recommender.evaluation.document import AtThreshold, PeriodResult
from recommender.evaluation.thresholds import BASE_RATE, TITLES
from recommender.report.axes import Html, metric, percent
from recommender.report.estimates import written
from recommender.report.page import fold, table


def threshold_tables(period: PeriodResult, rankers: Sequence[str]) -> list[Html]:
    """One table for each threshold. Empty for an evaluation that was written before there were thresholds."""
    if period.nobody is None:
        return []
    at = {name: {one.rule: one for one in period.rankers[name].at_thresholds} for name in rankers}
    rules = list(dict.fromkeys(rule for of in at.values() for rule in of))
    return [block for rule in rules for block in _tables(period, {name: at[name][rule] for name in rankers})]


def _tables(period: PeriodResult, at: dict[str, AtThreshold]) -> list[Html]:
    one = next(iter(at.values()))
    rows = [
        [name, *(written(of.metrics[figure]) for figure in TITLES), written(of.accuracy_over_nobody)]
        for name, of in at.items()
    ]
    counts = [
        [name, of.true_positives, of.false_positives, of.false_negatives, of.true_negatives] for name, of in at.items()
    ]
    if period.nobody is not None:
        positives = one.true_positives + one.false_negatives
        zero = metric(0.0)
        rows.append(["nobody takes part", written(period.nobody), "–", zero, zero, zero])
        counts.append(["nobody takes part", 0, 0, positives, period.num_pairs - positives])
    columns = ["ranker", "takes part, rightly", "takes part, wrongly", "missed", "takes no part, rightly"]
    return [
        table(
            ["ranker", *TITLES.values(), "accuracy above nobody's"], rows, caption=f"{_words(period, one)} {_FOR_ALL}"
        ),
        fold("Numbers of pairs at this threshold", table(columns, counts)),
    ]


def _words(period: PeriodResult, at: AtThreshold) -> str:
    if at.rule != BASE_RATE or period.base_rate is None:
        return f"A score of at least {at.threshold:g} says that the user takes part."
    pairs = "pairs whose window had closed" if period.base_rate.closed else "pairs that were decided"
    return (
        f"A score of at least {percent(at.threshold)} says that the user takes part: more likely than usual. That is "
        f"the share of participations among the {period.base_rate.num_pairs:,} {pairs} before the period."
    )


_FOR_ALL = (
    "The threshold is not chosen on these pairs. Most users take no part, so accuracy says little by itself: compare "
    "it with the last row."
)
