"""`report`: print the last run's verdict, results with intervals, and the paths of its pages."""

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from cli.absent import show_absent
from recommender.evaluation.document import Estimate, Evaluation, PeriodResult
from recommender.evaluation.metrics import METRICS
from recommender.evaluation.verdict import Verdict
from recommender.report.calibrators import calibrator_words
from recommender.report.estimates import role_of
from recommender.report.last_run import LastRun
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.manifest import SHOWN_DIGITS

SHOWN = ("auc", "ap", "log_loss", "ece")
"""The metrics that tell rankers apart on this task. The page shows all."""
SHOWN_OF_CLOSED = ("auc", "ap", "log_loss")
"""Those of closed windows alone."""


def show_report(settings: Settings, console: Console | None = None) -> None:
    """Print verdict, results and pages of the last run, and which run and data they came from.

    Raises:
        RegistryError: no run has been evaluated and judged yet.
        CorruptFileError: its evaluation was altered.
    """
    console, last = console or wide(), LastRun(Home.of(settings))
    evaluation, verdict = last.evaluation(), last.verdict()
    show_origin(console, last)
    show_verdict(console, verdict)
    show_results(console, evaluation)
    show_absent(console, settings)
    show_pages(console, last)


def show_origin(console: Console, last: LastRun) -> None:
    """Print the run and the data from which the results came."""
    origin = last.origin()
    if origin is None:
        console.print(
            "[yellow]verdict and evaluation come from different runs; make both again with: recommender run[/]"
        )
    else:
        console.print(f"run {origin.run} · data {origin.data_hash[:SHOWN_DIGITS]}", highlight=False)


def show_verdict(console: Console, verdict: Verdict) -> None:
    """Print the gate's decision in words."""
    colour = "green" if verdict.promotes else "yellow"
    lines = [verdict.headline, *(f"· {reason}" for reason in verdict.reasons if reason != verdict.headline)]
    lines.append(
        f"challenger {verdict.challenger} · champion {verdict.champion} · "
        f"judged by {verdict.judgement_sha256[:SHOWN_DIGITS]}"
    )
    console.print(Panel(escape("\n".join(lines)), title=f"[bold {colour}]{verdict.decision}[/]", title_align="left"))


def show_results(console: Console, evaluation: Evaluation) -> None:
    """Print every ranker's figures on the gate's campaigns and on the final test."""
    console.print(_results(evaluation, evaluation.gate, "Gate: the campaigns that decide"))
    console.print(_closed(evaluation, evaluation.gate), highlight=False, markup=False, soft_wrap=True)
    calibrators = {name: one.calibrator for name, one in evaluation.gate.rankers.items() if one.calibrator is not None}
    for name, calibrator in calibrators.items():
        if calibrator.chosen != "none":
            console.print(f"calibrator of {name}: {calibrator_words(calibrator)}", highlight=False, markup=False)
    if calibrators and all(calibrator.chosen == "none" for calibrator in calibrators.values()):
        console.print("No ranker got a calibrator: the evaluation page says why.", highlight=False)
    if evaluation.test is not None:
        console.print(_results(evaluation, evaluation.test, "Final test: reported, never used for a choice"))
        console.print(_closed(evaluation, evaluation.test), highlight=False, markup=False, soft_wrap=True)


def show_pages(console: Console, last: LastRun) -> None:
    """Print where the HTML pages are."""
    for title, path in last.pages.items():
        console.print(f"{title} page: {path}", highlight=False, soft_wrap=True)


def _results(evaluation: Evaluation, period: PeriodResult, title: str) -> Table:
    counts = (
        f"{period.num_pairs:,} pairs · {period.num_users:,} users · {period.num_campaigns} campaigns · "
        f"{period.num_positives / period.num_pairs:.1%} took part · "
        f"{evaluation.confidence:.0%} bootstrap intervals over users"
    )
    table = Table("ranker", *(METRICS[name].title for name in SHOWN), title=title, title_justify="left", caption=counts)
    for name, ranker in sorted(period.rankers.items(), key=lambda entry: _order(entry[1].metrics["log_loss"])):
        role = {evaluation.champion: " (champion)", evaluation.challenger: " (challenger)"}.get(name, "")
        label = name if role.strip() in name else name + role
        table.add_row(label, *(_interval(ranker.metrics[metric]) for metric in SHOWN))
    return table


def _closed(evaluation: Evaluation, period: PeriodResult) -> str:
    """Challenger and champion on closed windows alone, in one line: there the reading date cuts no window short."""
    if not period.num_open:
        return "Closed windows only: the same, since no window was still open."
    both = dict.fromkeys((evaluation.challenger, evaluation.champion))
    shown = {name: period.rankers[name].closed for name in both if period.rankers[name].closed}
    if not shown:
        return "Closed windows only: not defined, since these pairs all have the same outcome."
    words = [
        f"{name} ({role_of(evaluation, name)}) {' / '.join(_value(closed[metric]) for metric in SHOWN_OF_CLOSED)}"
        for name, closed in shown.items()
    ]
    titles = " / ".join(METRICS[metric].title for metric in SHOWN_OF_CLOSED)
    return f"Closed windows only ({period.num_pairs - period.num_open:,} pairs), {titles}: {'; '.join(words)}"


def _value(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.3f}"


def _order(estimate: Estimate) -> float:
    return float("inf") if estimate.value is None else estimate.value


def _interval(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
