"""Sections of the evaluation page about the gate's unit: gains by campaign, and the ledger of attempts."""

from collections.abc import Sequence

from recommender.evaluation.document import Estimate, PeriodResult
from recommender.evaluation.ledger import Attempt
from recommender.evaluation.metrics import METRICS
from recommender.evaluation.readings import GateReadings
from recommender.evaluation.verdict import Verdict
from recommender.report.estimates import interval_row, written_time
from recommender.report.intervals import interval_chart
from recommender.report.page import Section, table


def campaigns_section(period: PeriodResult, verdict: Verdict) -> Section:
    """Show the gain in the primary metric in each campaign, and its weight in the decision."""
    title = METRICS[verdict.primary_metric].title
    pooled = period.pooled.get(verdict.primary_metric)
    if pooled is None:
        return Section("Campaigns that decide", lead=f"The gain in {title} is defined in no campaign.")
    rows, listed = [], []
    for one in pooled.campaigns:
        half = 1.96 * one.standard_error  # a 95 % interval over the campaign's users
        gain = Estimate(value=one.gain, low=one.gain - half, high=one.gain + half)
        rows.append(interval_row(one.campaign, gain, coloured=True))
        listed.append([one.campaign, one.num_pairs, one.num_positives, f"{one.gain:+.4f}", f"{one.weight:.0%}"])
    return Section(
        "Campaigns that decide",
        lead=(
            "Rankers that are equally good differ by chance in each campaign. So campaigns are the unit of the gate. "
            "Its interval comes from how far their gains lie apart, and from what they share through common users."
        ),
        facts={"standard deviation of the true gain between campaigns": f"{pooled.spread:.4f}"},
        figures=[
            interval_chart(
                f"Gain in {title} by campaign, with 95 % intervals over its users",
                rows,
                reference=0.0,
                reference_label="no difference",
                axis=f"gain in {title}",
            )
        ],
        blocks=[table(["campaign", "pairs", "participations", "gain", "weight"], listed)],
    )


def ledger_section(verdict: Verdict, attempts: Sequence[Attempt], readings: GateReadings | None = None) -> Section:
    """Show every attempt on this gate period with what it spent, and other readings of its campaigns, which spent none.

    Args:
        verdict: what the gate says. Its own attempt is shown too.
        attempts: earlier attempts on gate periods that overlap with this one.
        readings: how often cross-validation judged by campaigns of this gate period.
    """
    readings = readings or GateReadings()
    known = list(attempts)
    if verdict.attempt is not None and verdict.attempt.subject not in {attempt.subject for attempt in known}:
        known.append(verdict.attempt)
    lead = (
        "Each attempt on a gate period may promote an equal challenger with a small probability, which falls with the "
        "number of attempts, so that trying again costs. Gate periods that overlap share one ledger."
    )
    facts: dict[str, object] = {}
    if readings.times:
        lead = f"{lead} {readings}"
        facts = {"readings by cross-validate": readings.times, "rankers that they judged": readings.num_rankers}
    if not known:
        return Section("Ledger of the gate period", lead=f"{lead} No attempt has spent anything yet.", facts=facts)
    rows = [
        [
            attempt.number,
            attempt.challenger,
            attempt.champion,
            f"{written_time(attempt.gate_from)} to {written_time(attempt.gate_to)}",
            f"{attempt.level:.4%}",
        ]
        for attempt in known
    ]
    return Section(
        "Ledger of the gate period",
        lead=lead,
        facts={"attempts": len(known), "spent": f"{sum(attempt.level for attempt in known):.2%}", **facts},
        blocks=[table(["attempt", "challenger", "champion", "gate period", "spent"], rows)],
    )
