"""Sections of the evaluation page about one period: curves, metrics and slices."""

from collections.abc import Sequence

from recommender.evaluation.document import Evaluation, PeriodResult, SliceResult
from recommender.evaluation.metrics import METRICS
from recommender.matching.timing import PRIOR
from recommender.report.axes import Html, metric, percent
from recommender.report.bars import bar_chart
from recommender.report.calibrators import calibrator_table
from recommender.report.estimates import (
    MAIN_METRICS,
    interval_row,
    part_note,
    role_of,
    slice_name,
    written,
    written_time,
)
from recommender.report.intervals import Bin, calibration_chart, interval_chart
from recommender.report.lines import line_chart
from recommender.report.page import Section, fold, paragraph, table
from recommender.report.thresholds import threshold_tables

MAX_SLICES = 24
"""Slices in a chart, so that it fits on a screen. The table below it lists all."""


def period_section(evaluation: Evaluation, period: PeriodResult, title: str, lead: str) -> Section:
    """Show all rankers in a period: ROC, precision and recall, calibration, and tables of metrics."""
    rankers = _ordered(evaluation, period)
    participation_rate = period.num_positives / max(1, period.num_pairs)
    return Section(
        title,
        lead=lead,
        facts={
            "pairs": period.num_pairs,
            "participations": period.num_positives,
            "participation rate": Html(percent(participation_rate)),
            "users": period.num_users,
            "campaigns": period.num_campaigns,
        },
        figures=[
            line_chart(
                "ROC curve",
                {name: [(f, t) for f, t, _ in period.rankers[name].roc] for name in rankers},
                x_axis="false positive rate",
                y_axis="true positive rate",
                x_range=(0.0, 1.0),
                y_range=(0.0, 1.0),
                x_form=percent,
                y_form=percent,
                reference=[(0.0, 0.0), (1.0, 1.0)],
                note="Dashed: random scores.",
            ),
            line_chart(
                "Precision and recall",
                {name: period.rankers[name].precision_recall for name in rankers},
                x_axis="recall",
                y_axis="precision",
                x_range=(0.0, 1.0),
                y_range=(0.0, 1.0),
                x_form=percent,
                y_form=percent,
                reference=[(0.0, participation_rate), (1.0, participation_rate)],
                note="Dashed: random scores, whose precision is the participation rate.",
            ),
            calibration_chart(
                "Calibration",
                {
                    name: [
                        Bin(b.predicted, b.observed, b.low, b.high, b.count) for b in period.rankers[name].calibration
                    ]
                    for name in rankers
                    if name in (evaluation.challenger, evaluation.champion)
                },
                x_axis="predicted probability",
                y_axis="observed share",
                note="Bins of equally many pairs, with 95 % Wilson intervals. Dashed: perfect calibration.",
            ),
            interval_chart(
                "AUC of all rankers",
                [interval_row(name, period.rankers[name].metrics["auc"]) for name in rankers],
                axis="AUC",
            ),
        ],
        blocks=[
            _main_metrics(evaluation, period, rankers),
            *_closed_metrics(period, rankers),
            *threshold_tables(period, rankers),
            _further_metrics(period, rankers),
            *_open_note(period),
        ],
    )


def _ordered(evaluation: Evaluation, period: PeriodResult) -> list[str]:
    """Order rankers: challenger, champion, then baselines by AUC. So each has the same colour in every chart."""
    first = list(dict.fromkeys((evaluation.challenger, evaluation.champion)))
    rest = sorted(
        (name for name in period.rankers if name not in first),
        key=lambda name: -(period.rankers[name].metrics["auc"].value or 0),
    )
    return first + rest


def _main_metrics(evaluation: Evaluation, period: PeriodResult, rankers: Sequence[str]) -> Html:
    rows = [
        [
            name,
            role_of(evaluation, name),
            *(written(period.rankers[name].metrics[m]) for m in MAIN_METRICS),
            metric(period.rankers[name].ece_floor),
        ]
        for name in rankers
    ]
    columns = ["ranker", "role", *(METRICS[m].title for m in MAIN_METRICS), "ECE expected by chance"]
    return table(columns, rows, caption=f"In brackets: {evaluation.confidence:.0%} confidence intervals")


def _closed_metrics(period: PeriodResult, rankers: Sequence[str]) -> list[Html]:
    """The same metrics on closed windows alone, where the reading date cuts no window short."""
    shown = [name for name in rankers if period.rankers[name].closed]
    if not shown:
        return []
    rows = [[name, *(written(period.rankers[name].closed[m]) for m in MAIN_METRICS)] for name in shown]
    columns = ["ranker", *(METRICS[m].title for m in MAIN_METRICS)]
    return [table(columns, rows, caption=f"Closed windows only: {period.num_pairs - period.num_open:,} pairs")]


def _timing(period: PeriodResult, rankers: Sequence[str]) -> Html:
    """What each ranker's time to participation was learnt from."""
    rows = [
        [ranker, kind, source]
        for ranker in rankers
        for kind, source in (period.rankers[ranker].timing or {"all types": PRIOR}).items()
    ]
    return table(["ranker", "campaign type", "time to participation learnt from"], rows)


def _further_metrics(period: PeriodResult, rankers: Sequence[str]) -> Html:
    names = [name for name in METRICS if name not in MAIN_METRICS]
    rows = [[ranker, *(written(period.rankers[ranker].metrics[m]) for m in names)] for ranker in rankers]
    blocks = [table(["ranker", *(METRICS[m].title for m in names)], rows)]
    heads = [
        [ranker, head, q.num_pairs, q.mae, q.mae_of_mean, q.rank_correlation]
        for ranker in rankers
        for head, q in period.rankers[ranker].heads.items()
    ]
    if heads:
        columns = ["ranker", "amount", "pairs", "mean absolute error", "error of the mean", "rank correlation"]
        blocks.append(table(columns, heads, caption="Predicted amounts, on pairs whose window had closed"))
    fits = [[ranker, period.rankers[ranker].fit, written_time(period.rankers[ranker].boundary)] for ranker in rankers]
    blocks.append(table(["ranker", "fit", "trained on data before"], fits))
    blocks += [_timing(period, rankers), *calibrator_table(period, rankers)]
    return fold("More metrics: per user, Brier score, lift, amounts, fits", *blocks)


def _open_note(period: PeriodResult) -> list[Html]:
    if not period.num_open:
        return []
    read = "the end of the log" if period.labels_known_at is None else written_time(period.labels_known_at)
    return [
        paragraph(
            f"Participations count up to {read}, in the outcomes and in the scores. The window of "
            f"{period.num_open:,} of these pairs was still open then: a score is the probability of a participation "
            "up to that moment. Open and closed windows are also shown as separate slices below."
        )
    ]


def slices_section(evaluation: Evaluation, period: PeriodResult, title: str) -> Section:
    """Show challenger and champion in the slices of a period."""
    defined = [part for part in period.slices if part.judged and part.auc_gain is not None]
    judged = defined[:MAX_SLICES]
    note = part_note(len(judged), len(defined))
    rows = [interval_row(slice_name(part), part.auc_gain, coloured=True) for part in judged if part.auc_gain]
    both = list(dict.fromkeys((evaluation.challenger, evaluation.champion)))
    lifts = {
        name: {slice_name(part): value for part in judged if (value := part.lift.get(name)) is not None}
        for name in both
    }
    figures = []
    if rows:
        figures = [
            interval_chart(
                "Gain in AUC by slice",
                rows,
                reference=0.0,
                reference_label="no difference",
                axis="gain in AUC",
                note=note,
            ),
            bar_chart(
                "Lift of the best-scored tenth by slice",
                lifts,
                axis="times the slice's participation rate",
                note=note,
            ),
        ]
    return Section(
        title,
        lead=(
            "Campaign types and portrait segments. Results of small slices vary by chance. A drop counts against the "
            "challenger only if its interval excludes zero."
        ),
        figures=figures,
        blocks=[fold(f"All {len(period.slices)} slices", _slice_table(period.slices, both))],
    )


def _slice_table(parts: Sequence[SliceResult], names: Sequence[str]) -> Html:
    rows = [
        [
            slice_name(part),
            part.num_pairs,
            part.num_positives,
            percent(part.num_positives / part.num_pairs),
            *(percent(part.mean_score[name]) for name in names),
            *(written(part.auc[name]) if part.judged else "too few pairs" for name in names),
            written(part.log_loss_gain) if part.log_loss_gain else "–",
        ]
        for part in parts
    ]
    columns = ["slice", "pairs", "participations", "observed", *(f"predicted by {name}" for name in names)]
    return table([*columns, *(f"AUC of {name}" for name in names), "gain in log loss"], rows)
