"""`monitor` and `refresh`: run the monitoring and the refresh pipeline on this machine."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.absent import show_absent
from cli.checks import show_warnings
from cli.days import show_last_build, show_late
from components.check_settings.rules import check_rules
from pipelines.local import new_run_id
from pipelines.memory import MemoryWatch
from pipelines.named import MONITORING, REFRESH
from pipelines.training_run import run_named
from recommender.errors import CorruptFileError, StepFailed
from recommender.matching.packed_user import ServingSchema
from recommender.monitoring.ages import age_in_words, in_words
from recommender.monitoring.findings import FeatureDrift, Report
from recommender.monitoring.monitor import require_champion
from recommender.registry import Registry
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.home import Home

SHOWN_FEATURES = 8
"""Features that the terminal shows. The page has all."""


def monitor_and_show(settings: Settings, *, caching: bool) -> bool:
    """Run the monitoring pipeline, print what it found, and return whether no limit is broken.

    Raises:
        RegistryError: there is no champion yet.
        StepFailed: a step failed for another reason than a broken limit.
    """
    check_rules(settings)
    require_champion(Registry(settings.home))
    console, home, run_id = wide(), Home.of(settings), new_run_id()
    console.print(f"[bold]Monitoring[/] of {settings.source.dataset} (home: {settings.home})")
    try:
        with MemoryWatch() as memory:
            run_named(MONITORING, settings, console=console, memory=memory, caching=caching, run_id=run_id)
    except StepFailed:
        # The last step fails where a limit is broken. What was found says more than its message.
        if not _broke_a_limit(home, run_id):
            raise
    report = Report.read(home.monitoring.report)
    show(console, report)
    console.print(f"page: {home.monitoring.page}", highlight=False, soft_wrap=True)
    console.print(f"metrics: {home.monitoring.metrics}", highlight=False, soft_wrap=True)
    return not report.broken


def refresh_and_show(settings: Settings, *, caching: bool) -> None:
    """Run the refresh pipeline and say of which moment the features are that serving reads now.

    Raises:
        StepFailed: a step failed. Serving goes on with the features that it had.
    """
    check_rules(settings)
    console, home = wide(), Home.of(settings)
    console.print(f"[bold]Refresh[/] of {settings.source.dataset} (home: {settings.home})")
    with MemoryWatch() as memory:
        run_named(REFRESH, settings, console=console, memory=memory, caching=caching)
    show_warnings(console, settings)
    show_late(console, settings)
    show_last_build(console, settings)
    show_absent(console, settings)
    console.print(f"serving reads features as of {ServingSchema.load(home.feature_store.root).as_of}", highlight=False)


def show(console: Console, report: Report) -> None:
    """Print the findings, worst first, and the figures behind them."""
    colour, word = ("red", "ALERT") if report.broken else ("green", "OK")
    console.print(
        f"[bold {colour}]{word}[/]  broken limits: {len(report.broken)}, findings: {len(report.findings)}",
        highlight=False,
    )
    for finding in report.findings:
        mark = "[red]✘[/]" if finding.breaks else "[yellow]·[/]"
        console.print(f"  {mark} {escape(finding.words)} {escape(finding.remedy)}", highlight=False, soft_wrap=True)
    moved = [one for one in report.drift if one.moved]
    if moved:
        console.print(_features(moved[:SHOWN_FEATURES]))
    elif report.drift:
        console.print(f"No feature moved beyond chance ({report.num_users_now:,} users).", highlight=False)
    if report.campaigns_note:
        console.print(report.campaigns_note, highlight=False, soft_wrap=True)
    console.print(_ages(report))
    if report.served_note:
        console.print(report.served_note, highlight=False, soft_wrap=True)
    if report.served:
        console.print(_served(report))


def _broke_a_limit(home: Home, run_id: str) -> bool:
    """Whether this run has found a broken limit."""
    try:
        report = Report.read(home.monitoring.report)
    except CorruptFileError:
        return False
    return report.run == run_id and bool(report.broken)


def _features(moved: Sequence[FeatureDrift]) -> Table:
    columns = ("feature", "over", "importance", "index", "by chance", "KS", "by chance", "missing then", "now")
    table = Table(*columns, title="Features that moved most, by importance times drift", title_justify="left")
    for one in moved:
        table.add_row(
            one.name,
            one.over,
            f"{one.importance:.1%}",
            f"{one.psi:.3f}",
            _chance(one.psi_by_chance),
            f"{one.ks:.3f}",
            _chance(one.ks_by_chance),
            f"{one.missing_before:.1%}",
            f"{one.missing_now:.1%}",
        )
    return table


def _chance(by_chance: float | None) -> str:
    return "–" if by_chance is None else f"{by_chance:.3f}"


def _ages(report: Report) -> Table:
    table = Table(
        "table or view",
        "newest (UTC)",
        "age",
        "promise",
        title=f"Ages at {report.now:%Y-%m-%d %H:%M} UTC",
        title_justify="left",
    )
    for one in report.ages:
        table.add_row(
            one.name,
            f"{one.newest:%Y-%m-%d %H:%M}" if one.newest else "none",
            age_in_words(one, report.now),
            in_words(one.promise_hours) if one.promise_hours is not None else "none",
        )
    return table


def _served(report: Report) -> Table:
    columns = ("campaign type", "pairs", "campaigns", "expected", "came", "came / expected", "log loss")
    table = Table(*columns, title="What was served and what came", title_justify="left")
    for one in report.served:
        known = one.judged and one.ratio is not None
        table.add_row(
            one.campaign_type or "all",
            f"{one.pairs:,}",
            f"{one.campaigns}",
            f"{one.expected:.1f}",
            f"{one.observed}",
            f"{one.ratio:.2f} [{one.low:.2f}, {one.high:.2f}]" if known else "too few",
            f"{one.log_loss:.3f}",
        )
    return table
