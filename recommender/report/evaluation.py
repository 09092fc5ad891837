"""The evaluation as one page: the verdict, the pictures, the numbers; and the same in Markdown for the Kubeflow UI."""

from collections.abc import Sequence
from datetime import datetime

from recommender.evaluation.document import Estimate, Evaluation, PeriodResult, SliceResult
from recommender.evaluation.metrics import METRICS
from recommender.evaluation.verdict import Verdict
from recommender.report import (
    Banner,
    Bin,
    Html,
    Interval,
    Section,
    badge,
    bar_chart,
    bullets,
    calibration_chart,
    fold,
    interval_chart,
    line_chart,
    metric,
    number,
    page,
    paragraph,
    percent,
    table,
)
from recommender.report.page import Tone
from recommender.report.timeline import timeline

TELLING = ("auc", "ap", "log_loss", "ece")
"""The figures that tell rankers apart on this task; the others are shown after them."""
MAX_ROWS = 24


def evaluation_page(evaluation: Evaluation, verdict: Verdict, *, source: str = "") -> str:
    """One self-contained HTML page of an evaluation and its verdict."""
    tone: Tone = "good" if verdict.promotes else "neutral" if not verdict.new else "warn"
    reasons = [reason for reason in verdict.reasons if reason != verdict.headline]
    challenger, champion = (evaluation.candidates[n] for n in (evaluation.challenger, evaluation.champion))
    sections = [
        _contest(evaluation, verdict),
        _period(evaluation, evaluation.gate, "The gate period: what decided", _GATE_LEAD),
        _slices(evaluation, evaluation.gate, "Where it gains and loses, gate period"),
        _guardrails(verdict),
    ]
    if evaluation.test is not None:
        sections.append(
            _period(evaluation, evaluation.test, "The final test: reported, never used for a choice", _TEST_LEAD)
        )
        sections.append(_slices(evaluation, evaluation.test, "Where it gains and loses, final test"))
    sections += [_periods(evaluation), _lineage(evaluation)]
    return page(
        "Evaluation",
        Banner(verdict.decision, verdict.headline, tone=tone, reasons=reasons),
        sections,
        subtitle=f"{challenger.version} (challenger) against {champion.version} (champion){' · ' + source if source else ''}",
        footer=f"Judged by the file with SHA-256 {verdict.judgement_sha256[:16]}…; data {evaluation.data_hash[:16]}…",
    )


_GATE_LEAD = (
    "Campaigns that training had not seen, with the labels that were known when the period ended. All rankers score the same pairs; "
    "intervals draw users with all their pairs."
)
_TEST_LEAD = (
    "The latest campaigns, with labels to the end of the log, scored by fits that end where the period begins. No setting, no "
    "hyper-parameter and no verdict reads these figures."
)


def verdict_markdown(verdict: Verdict) -> str:
    """The verdict for the Kubeflow UI's Markdown view."""
    rows = [f"| {_mark(c.passed)} | {c.name} | {number(c.measured)} | {number(c.limit)} |" for c in verdict.checks]
    return "\n".join(
        [
            f"# {verdict.decision}",
            "",
            verdict.headline,
            "",
            *(f"- {reason}" for reason in verdict.reasons if reason != verdict.headline),
            "",
            f"Challenger `{verdict.challenger}`, champion `{verdict.champion}`, judgement `{verdict.judgement_sha256[:12]}`.",
            "",
            "| | check | measured | limit |",
            "|---|---|---:|---:|",
            *rows,
            "",
        ]
    )


def _mark(passed: bool) -> str:
    return "✓" if passed else "✗"


def _contest(evaluation: Evaluation, verdict: Verdict) -> Section:
    gains = [(evaluation.gate, "gate")] + ([(evaluation.test, "final test")] if evaluation.test else [])
    title = METRICS[verdict.primary_metric].title
    primary = [_row(name, p.gains[verdict.primary_metric], good=name == "gate") for p, name in gains]
    others = [
        _row(f"{METRICS[m].title}, {name}", p.gains[m])
        for m in TELLING
        if m not in (verdict.primary_metric, "ece")
        for p, name in gains
    ]
    return Section(
        "Challenger against champion",
        lead=(
            "Gain of the challenger on the same pairs, turned so that right of zero is better. The gate's rule looks at the first row "
            "alone: its interval must exclude the shaded loss."
        ),
        facts={
            "pairs decided": evaluation.gate.num_pairs,
            "participations among them": evaluation.gate.num_positives,
            "users": evaluation.gate.num_users,
            "campaigns": evaluation.gate.num_campaigns,
        },
        figures=[
            interval_chart(
                f"Gain in {title}",
                primary,
                reference=0.0,
                reference_label="no difference",
                margin=-verdict.margin,
                axis=f"gain in {title}",
                form=_fine,
            ),
            interval_chart(
                "Gain in the other figures", others, reference=0.0, reference_label="no difference", axis="gain"
            ),
        ],
    )


def _row(label: str, estimate: Estimate, *, good: bool = False) -> Interval:
    nan = float("nan")
    value, low, high = (nan if v is None else v for v in (estimate.value, estimate.low, estimate.high))
    tone: Tone = "good" if low > 0 else "bad" if high < 0 else "neutral"
    return Interval(label, value, low, high, tone=tone)


def _fine(value: object) -> str:
    return f"{value:+.4f}" if isinstance(value, float) else str(value)


def _period(evaluation: Evaluation, period: PeriodResult, title: str, lead: str) -> Section:
    rankers = _ordered(evaluation, period)
    return Section(
        title,
        lead=lead,
        facts={
            "pairs": period.num_pairs,
            "participations": period.num_positives,
            "take it up": Html(percent(period.num_positives / max(1, period.num_pairs))),
            "users": period.num_users,
            "campaigns": period.num_campaigns,
        },
        figures=[
            line_chart(
                "ROC curve",
                {name: [(f, t) for f, t, _ in period.rankers[name].roc] for name in rankers},
                x_axis="share of non-participants shown",
                y_axis="share of participants found",
                x_range=(0.0, 1.0),
                y_range=(0.0, 1.0),
                x_form=percent,
                y_form=percent,
                reference=[(0.0, 0.0), (1.0, 1.0)],
            ),
            line_chart(
                "Precision and recall",
                {name: period.rankers[name].precision_recall for name in rankers},
                x_axis="share of participants found (recall)",
                y_axis="share of the shown who participate (precision)",
                x_range=(0.0, 1.0),
                y_range=(0.0, 1.0),
                x_form=percent,
                y_form=percent,
                reference=[(0.0, base := period.num_positives / max(1, period.num_pairs)), (1.0, base)],
                note="Dashed: everyone is shown.",
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
                note="Ten bins of equally many pairs; whiskers are 95 % intervals.",
            ),
            interval_chart("AUC of all rankers", [_row_of(n, period, "auc") for n in rankers], axis="AUC"),
        ],
        blocks=[_results(evaluation, period, rankers), _further(period, rankers), *_open_note(period)],
    )


def _row_of(name: str, period: PeriodResult, of: str) -> Interval:
    row = _row(name, period.rankers[name].metrics[of])
    return Interval(row.label, row.value, row.low, row.high)


def _ordered(evaluation: Evaluation, period: PeriodResult) -> list[str]:
    """Challenger, champion, then the baselines by AUC: the same ranker has the same colour in every picture."""
    first = list(dict.fromkeys((evaluation.challenger, evaluation.champion)))
    rest = sorted(
        (n for n in period.rankers if n not in first), key=lambda n: -(period.rankers[n].metrics["auc"].value or 0)
    )
    return first + rest


def _results(evaluation: Evaluation, period: PeriodResult, rankers: Sequence[str]) -> Html:
    rows = [
        [
            name,
            _role(evaluation, name),
            *(_written(period.rankers[name].metrics[m]) for m in TELLING),
            metric(period.rankers[name].ece_floor),
        ]
        for name in rankers
    ]
    columns = ["ranker", "role", *(METRICS[m].title for m in TELLING), "ECE by chance"]
    return table(columns, rows, caption=f"{evaluation.confidence:.0%} intervals in brackets")


def _further(period: PeriodResult, rankers: Sequence[str]) -> Html:
    names = [name for name in METRICS if name not in TELLING]
    rows = [[ranker, *(_written(period.rankers[ranker].metrics[m]) for m in names)] for ranker in rankers]
    blocks = [table(["ranker", *(METRICS[m].title for m in names)], rows)]
    heads = [
        [ranker, head, q.num_pairs, q.mae, q.mae_of_mean, q.rank_correlation]
        for ranker in rankers
        for head, q in period.rankers[ranker].heads.items()
    ]
    if heads:
        columns = ["ranker", "amount", "pairs", "mean absolute error", "error of saying the mean", "rank correlation"]
        blocks.append(table(columns, heads, caption="Heads for amounts, on pairs whose window had closed"))
    fits = [[r, period.rankers[r].fit, _moment(period.rankers[r].boundary)] for r in rankers]
    blocks.append(table(["ranker", "fit", "has seen the world up to"], fits))
    return fold("More figures: per user, Brier, lift, amounts, fits", *blocks)


def _open_note(period: PeriodResult) -> list[Html]:
    if not period.num_open:
        return []
    words = (
        f"The window of {period.num_open:,} of these pairs was still open when the labels were read: a participation after that counts "
        "as none. They are kept, and shown apart among the slices below."
    )
    return [paragraph(words)]


def _written(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    return f"{metric(estimate.value)} [{metric(estimate.low)}, {metric(estimate.high)}]"


def _role(evaluation: Evaluation, name: str) -> str:
    roles = [r for r, who in (("challenger", evaluation.challenger), ("champion", evaluation.champion)) if who == name]
    return " and ".join(roles) or "baseline"


def _slices(evaluation: Evaluation, period: PeriodResult, title: str) -> Section:
    judged = [part for part in period.slices if part.judged and part.auc_gain is not None]
    rows = [_row(_name(part), part.auc_gain) for part in judged[:MAX_ROWS] if part.auc_gain is not None]
    both = list(dict.fromkeys((evaluation.challenger, evaluation.champion)))
    lifts = {
        name: {_name(part): value for part in judged[:MAX_ROWS] if (value := part.lift.get(name)) is not None}
        for name in both
    }
    figures = []
    if rows:
        figures = [
            interval_chart(
                "Gain in AUC by slice", rows, reference=0.0, reference_label="no difference", axis="gain in AUC"
            ),
            bar_chart("Lift of the best-scored tenth by slice", lifts, axis="times the slice's own rate"),
        ]
    return Section(
        title,
        lead=(
            "Campaign types and portrait segments. Small slices swing: a drop counts against the challenger only when its interval "
            "excludes zero."
        ),
        figures=figures,
        blocks=[fold(f"All {len(period.slices)} slices", _slice_table(period.slices, both))],
    )


def _name(part: SliceResult) -> str:
    return f"{part.axis.replace('_', ' ')}: {part.value}"


def _slice_table(parts: Sequence[SliceResult], names: Sequence[str]) -> Html:
    rows = [
        [
            _name(part),
            part.num_pairs,
            part.num_positives,
            percent(part.num_positives / part.num_pairs),
            *(percent(part.mean_score[name]) for name in names),
            *(_written(part.auc[name]) if part.judged else "too few" for name in names),
            _written(part.log_loss_gain) if part.log_loss_gain else "–",
        ]
        for part in parts
    ]
    columns = ["slice", "pairs", "participations", "observed", *(f"predicted by {name}" for name in names)]
    return table([*columns, *(f"AUC of {name}" for name in names), "gain in log loss"], rows)


def _guardrails(verdict: Verdict) -> Section:
    rows = [
        [
            badge("kept", "good") if check.passed else badge("broken", "bad"),
            check.name,
            number(check.measured),
            number(check.limit),
            check.words[:1].upper() + check.words[1:],
        ]
        for check in verdict.checks
    ]
    tones: list[Tone | None] = [None if check.passed else "bad" for check in verdict.checks]
    return Section(
        "What was judged, and the limits",
        lead="All of these must be kept for a promotion. The limits stand in the judgement file.",
        blocks=[table(["", "check", "measured", "limit", "in words"], rows, tones=tones)],
    )


def _periods(evaluation: Evaluation) -> Section:
    start = evaluation.first_decision
    spans = [
        ("training of the gate's fits", start, evaluation.gate_from),
        ("gate: decides", evaluation.gate_from, evaluation.test_from),
        ("training of the test's fits", start, evaluation.test_from),
        ("final test: reported only", evaluation.test_from, evaluation.as_of),
        ("training of what serves", start, evaluation.as_of),
    ]
    words = [
        "A ranker is fitted three times: up to the gate period, up to the final test, and up to now. The last one is what serves.",
        "A fit learns from pairs decided before its boundary, with the labels that were known at it.",
        "The champion is judged with the newest of its fits that ends before the period, on the same pairs.",
    ]
    return Section(
        "Periods",
        figures=[timeline("What each fit has seen, and what it is judged on", spans)],
        blocks=[bullets(words)],
    )


def _lineage(evaluation: Evaluation) -> Section:
    rows = [
        [
            name,
            _role(evaluation, name),
            c.version,
            c.bundle_mib,
            c.latency.p50_ms if c.latency else None,
            c.latency.p95_ms if c.latency else None,
        ]
        for name, c in evaluation.candidates.items()
    ]
    columns = ["ranker", "role", "version", "bundle, MiB", "p50, ms", "p95, ms"]
    blocks = [table(columns, rows, caption="Latency: one user against all live campaigns, in process")]
    for name, candidate in evaluation.candidates.items():
        facts = [[key, str(value)] for key, value in sorted(candidate.lineage.items())]
        blocks.append(fold(f"Lineage of {name}", table(["", "value"], facts)))
    return Section("Where the rankers came from", blocks=blocks)


def _moment(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M UTC")
