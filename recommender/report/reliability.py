"""Expected against observed take-up by slice: the evaluation page's chart and table."""

import math
from collections.abc import Sequence

from recommender.evaluation.campaign_gains import OverCampaigns
from recommender.evaluation.document import Evaluation, PeriodResult, SliceResult
from recommender.report.axes import Html, metric, number
from recommender.report.estimates import interval_row, part_note, slice_name, written
from recommender.report.intervals import Interval, interval_chart
from recommender.report.page import Section, fold, table

MAX_SLICES = 16
"""Slices in a chart, each with two rows, so that it fits on a screen. The table below it lists all."""


def reliability_section(evaluation: Evaluation, period: PeriodResult, title: str) -> list[Section]:
    """Show in which slices more or fewer take part than expected. Empty where an evaluation does not hold that."""
    shown = [part for part in period.slices if part.reliability]
    if not shown:
        return []
    both = list(dict.fromkeys((evaluation.challenger, evaluation.champion)))
    rows = [
        _coloured(interval_row(f"{slice_name(part)}, {name}", part.reliability[name].ratio))
        for part in shown[:MAX_SLICES]
        for name in both
    ]
    lead = (
        "Participations observed divided by those expected, the sum of the scores: above 1 the scores are too low, "
        "below it too high. Whole campaigns differ by chance, for every ranker alike. So a slice counts against the "
        "challenger only if its error is large, also over users and campaigns, and clearly larger than the champion's."
    )
    chart = interval_chart(
        f"Observed over expected take-up, with {evaluation.confidence:.0%} intervals over users",
        rows,
        reference=1.0,
        reference_label="as expected",
        axis="observed / expected",
        note=part_note(min(MAX_SLICES, len(shown)), len(shown)),
        wide=True,  # a label names slice and ranker, which half of the column would cut
    )
    details = fold(f"Take-up in {len(shown)} slices", _table(evaluation, shown, both))
    return [Section(title, lead=lead, figures=[chart], blocks=[details])]


def _coloured(row: Interval) -> Interval:
    """Amber where chance over users alone does not explain the difference."""
    off = math.isfinite(row.low) and not row.low <= 1 <= row.high
    return Interval(row.label, row.value, row.low, row.high, tone="warn" if off else "neutral")


def _table(evaluation: Evaluation, parts: Sequence[SliceResult], names: Sequence[str]) -> Html:
    rows = []
    for part in parts:
        for name in names:
            of = part.reliability[name]
            rows.append(
                [
                    slice_name(part),
                    name,
                    part.num_pairs,
                    part.num_campaigns,
                    part.num_positives,
                    number(round(of.expected, 1)),
                    written(of.ratio),
                    _over_campaigns(of.over_campaigns, evaluation.confidence),
                    metric(of.excess_ece),
                ]
            )
    columns = ["slice", "ranker", "pairs", "campaigns", "observed", "expected", "observed / expected"]
    caption = (
        f"In brackets: {evaluation.confidence:.0%} intervals, first over users alone, then over users and campaigns. "
        "The last column is the calibration error beyond that of a calibrated ranker on as few pairs."
    )
    return table([*columns, "over campaigns", "excess ECE"], rows, caption=caption)


def _over_campaigns(over: OverCampaigns | None, confidence: float) -> str:
    if over is None:
        return "–"
    interval = over.interval(confidence)
    if interval is None:
        return f"{over.value:.2f} (one campaign)"
    return f"{over.value:.2f} [{max(0.0, interval[0]):.2f}, {interval[1]:.2f}]"
