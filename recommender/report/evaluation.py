"""The evaluation as one HTML page, the verdict first, and the verdict in Markdown for the Kubeflow UI."""

from collections.abc import Sequence

from recommender.evaluation.document import Estimate, Evaluation, PeriodResult
from recommender.evaluation.ledger import Attempt
from recommender.evaluation.metrics import METRICS
from recommender.evaluation.readings import GateReadings
from recommender.evaluation.verdict import Verdict
from recommender.report.axes import number
from recommender.report.campaign_sections import campaigns_section, ledger_section
from recommender.report.estimates import MAIN_METRICS, interval_row, role_of
from recommender.report.intervals import interval_chart
from recommender.report.list_sections import lists_section
from recommender.report.page import Banner, Section, Tone, badge, bullets, fold, page, table
from recommender.report.period_sections import period_section, slices_section
from recommender.report.reliability import reliability_section
from recommender.report.timeline import timeline
from recommender.storage.manifest import NAME_DIGITS, SHOWN_DIGITS


def evaluation_page(
    evaluation: Evaluation,
    verdict: Verdict,
    *,
    source: str = "",
    attempts: Sequence[Attempt] = (),
    num_readings: int = 0,
    gate_readings: GateReadings | None = None,
) -> str:
    """Return the self-contained HTML page of an evaluation and its verdict.

    Args:
        evaluation: what was measured.
        verdict: what the gate says about it.
        source: name of the data, for the subtitle.
        attempts: earlier attempts on gate periods that overlap with this one.
        num_readings: how often a final test with some of these campaigns was read, this time included.
        gate_readings: how often cross-validation judged by campaigns of this gate period.
    """
    gate_readings = gate_readings or GateReadings()
    tone: Tone = "good" if verdict.promotes else "neutral" if not verdict.new else "warn"
    reasons = [reason for reason in verdict.reasons if reason != verdict.headline]
    challenger, champion = (evaluation.candidates[n] for n in (evaluation.challenger, evaluation.champion))
    sections = [
        _comparison(evaluation, verdict),
        period_section(
            evaluation,
            evaluation.gate,
            "Gate period: decides on promotion",
            "Campaigns that no fit has seen in training, with the labels known at the end of the period. All rankers "
            "score the same pairs. Confidence intervals come from a bootstrap over users."
            + (f" {gate_readings}" if gate_readings.times else ""),
        ),
        slices_section(evaluation, evaluation.gate, "Slices of the gate period"),
        *reliability_section(evaluation, evaluation.gate, "Take-up in the slices of the gate period"),
        *_lists(evaluation, evaluation.gate, "Lists of the gate period"),
        campaigns_section(evaluation.gate, verdict),
        _checks(verdict),
        ledger_section(verdict, attempts, gate_readings),
    ]
    if evaluation.test is not None:
        sections += [
            period_section(
                evaluation,
                evaluation.test,
                "Final test: reported only",
                "The latest campaigns, with labels to the end of the log, scored by fits that end where the period "
                "begins. No setting, hyperparameter or verdict depends on these figures."
                + (
                    f" Readings so far of a final test with some of these campaigns: {num_readings}."
                    if num_readings
                    else ""
                ),
            ),
            slices_section(evaluation, evaluation.test, "Slices of the final test"),
            *reliability_section(evaluation, evaluation.test, "Take-up in the slices of the final test"),
            *_lists(evaluation, evaluation.test, "Lists of the final test"),
        ]
    sections += [_periods(evaluation), _lineage(evaluation)]
    subtitle = f"{challenger.version} (challenger) against {champion.version} (champion)"
    return page(
        "Evaluation",
        Banner(verdict.decision, verdict.headline, tone=tone, reasons=reasons),
        sections,
        subtitle=f"{subtitle} · {source}" if source else subtitle,
        footer=f"Rules: SHA-256 {verdict.judgement_sha256[:NAME_DIGITS]}… · "
        f"data: {evaluation.data_hash[:NAME_DIGITS]}…",
    )


def verdict_markdown(verdict: Verdict) -> str:
    """Return the verdict as Markdown, for the Kubeflow UI."""
    rows = [
        f"| {'✓' if check.passed else '✗'} | {check.name} | {number(check.measured)} | {number(check.limit)} |"
        for check in verdict.checks
    ]
    return "\n".join(
        [
            f"# {verdict.decision}",
            "",
            verdict.headline,
            "",
            *(f"- {reason}" for reason in verdict.reasons if reason != verdict.headline),
            "",
            f"Challenger `{verdict.challenger}`, champion `{verdict.champion}`, "
            f"rules `{verdict.judgement_sha256[:SHOWN_DIGITS]}`.",
            "",
            "| | check | measured | limit |",
            "|---|---|---:|---:|",
            *rows,
            "",
        ]
    )


def _comparison(evaluation: Evaluation, verdict: Verdict) -> Section:
    """Show the challenger's gain in each period."""
    periods = [(evaluation.gate, "gate")] + ([(evaluation.test, "final test")] if evaluation.test else [])
    title = METRICS[verdict.primary_metric].title
    test = [] if evaluation.test is None else [(evaluation.test, "final test")]
    primary = [interval_row("gate", verdict.gain, coloured=True)]
    primary += [
        interval_row(name, _gain(period, verdict.primary_metric, evaluation), coloured=True) for period, name in test
    ]
    others = [
        interval_row(f"{METRICS[m].title}, {name}", _gain(period, m, evaluation), coloured=True)
        for m in MAIN_METRICS
        if m not in (verdict.primary_metric, "ece")
        for period, name in periods
    ]
    return Section(
        "Challenger against champion",
        lead=(
            "Gain of the challenger over users and campaigns; right of zero is better. The gate looks at the first "
            "row alone: the interval must lie to the right of the shaded area."
        ),
        facts={
            "pairs in the gate period": evaluation.gate.num_pairs,
            "participations": evaluation.gate.num_positives,
            "users": evaluation.gate.num_users,
            "campaigns": evaluation.gate.num_campaigns,
            "campaigns that decided": verdict.num_campaigns,
        },
        figures=[
            interval_chart(
                f"Gain in {title}",
                primary,
                reference=0.0,
                reference_label="no difference",
                margin=-verdict.margin,
                axis=f"gain in {title}",
                form=_four_decimals,
            ),
            interval_chart(
                "Gain in the other metrics", others, reference=0.0, reference_label="no difference", axis="gain"
            ),
        ],
    )


def _gain(period: PeriodResult, metric: str, evaluation: Evaluation) -> Estimate:
    """Return a gain with its interval over users and campaigns, or over users alone where it is not pooled."""
    pooled = period.pooled.get(metric)
    interval = None if pooled is None else pooled.interval(evaluation.confidence)
    if pooled is None or interval is None:
        return period.gains[metric]
    return Estimate(value=pooled.value, low=interval[0], high=interval[1])


def _four_decimals(value: object) -> str:
    """Write a gain: gains of log loss between good rankers are in the third decimal."""
    return f"{value:+.4f}" if isinstance(value, float) else str(value)


def _lists(evaluation: Evaluation, period: PeriodResult, title: str) -> list[Section]:
    return [] if period.lists is None else [lists_section(evaluation, period.lists, title)]


def _checks(verdict: Verdict) -> Section:
    rows = [
        [
            badge("passed", "good") if check.passed else badge("failed", "bad"),
            check.name,
            number(check.measured),
            number(check.limit),
            check.words[:1].upper() + check.words[1:],
        ]
        for check in verdict.checks
    ]
    tones: list[Tone | None] = [None if check.passed else "bad" for check in verdict.checks]
    return Section(
        "Checks of the gate",
        lead="A challenger is promoted only if all of these pass. The limits are in the judgement file.",
        blocks=[table(["", "check", "measured", "limit", "in words"], rows, tones=tones)],
    )


def _periods(evaluation: Evaluation) -> Section:
    start = evaluation.first_decision
    spans = [
        ("training of the gate fits", start, evaluation.gate_from),
        ("gate period", evaluation.gate_from, evaluation.test_from),
        ("training of the test fits", start, evaluation.test_from),
        ("final test", evaluation.test_from, evaluation.as_of),
        ("training of the live fits", start, evaluation.as_of),
    ]
    lines = [
        "A ranker is fitted three times: up to the gate period, up to the final test, and up to now.",
        "The last of these fits serves.",
        "A fit learns from pairs decided before its boundary, with the labels known at it.",
        "The champion is evaluated with the newest of its fits that ends before the period, on the same pairs.",
    ]
    return Section(
        "Periods",
        figures=[timeline("Training data of each fit, and periods of evaluation", spans)],
        blocks=[bullets(lines)],
    )


def _lineage(evaluation: Evaluation) -> Section:
    rows = [
        [
            name,
            role_of(evaluation, name),
            candidate.version,
            candidate.bundle_mib,
            candidate.latency.p50_ms if candidate.latency else None,
            candidate.latency.p95_ms if candidate.latency else None,
        ]
        for name, candidate in evaluation.candidates.items()
    ]
    columns = ["ranker", "role", "version", "bundle, MiB", "p50, ms", "p95, ms"]
    blocks = [table(columns, rows, caption="Latency: CPU time for one user and all live campaigns, in process")]
    for name, candidate in evaluation.candidates.items():
        facts = [[key, str(value)] for key, value in sorted(candidate.lineage.items())]
        blocks.append(fold(f"Lineage of {name}", table(["", "value"], facts)))
    return Section("Versions and lineage", blocks=blocks)
