"""`cross-validate`: judge campaign rankers by rolling origin before the gate period, or through it when asked."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.bars import fits_bars
from recommender.evaluation.document import Estimate
from recommender.evaluation.judgement import read_judgement, with_gate_campaigns
from recommender.evaluation.thresholds import BASE_RATE
from recommender.evaluation.thresholds import TITLES as FIGURES
from recommender.models.campaign import ranker_class
from recommender.registry import Registry
from recommender.report.estimates import written
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.home import Home
from recommender.storage.published import published_training_set
from recommender.training.cross_validate import METRICS, POOLED, CrossValidation, Judged, cross_validate

TITLES = {"auc": "AUC", "ap": "AP", "log_loss": "log loss", "ece": "ECE"}


def cross_validate_and_show(
    settings: Settings,
    rankers: str,
    *,
    count: int | None,
    origins: Sequence[str],
    through_gate: bool,
    as_json: bool,
) -> None:
    """Judge the rankers, log that their campaigns were read, and print tables or JSON."""
    settings = with_gate_campaigns(settings)
    names = [name.strip() for name in rankers.split(",") if name.strip()]
    for name in names:
        ranker_class(name)
    training_set = published_training_set(Home.of(settings))
    with fits_bars() as (fitting, progress):
        found = cross_validate(
            training_set,
            names,
            settings,
            read_judgement(settings.judgement),
            count=count,
            origins=origins,
            through_gate=through_gate,
            readings=Registry(settings.home).readings,
            fitting=fitting,
            progress=progress,
        )
    if through_gate:
        Console(stderr=True, soft_wrap=True).print(
            f"[bold yellow]warning:[/] campaigns of the gate period, from {found.gate_from:%Y-%m-%d} to "
            f"{found.test_from:%Y-%m-%d}, were read. The gate judges a challenger that is chosen by these figures too "
            "kindly. The evaluation page will say how often its campaigns were read.",
            highlight=False,
        )
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        show(found)


def show(found: CrossValidation) -> None:
    """Print tables of each origin and of all of them together, and the gains over the first ranker."""
    console = wide()
    for one in found.origins:
        title = f"Fitted {one.starts:%Y-%m-%d} on {one.num_learnt_from:,} pairs, judged to {one.ends:%Y-%m-%d}"
        _show(console, one, title, found.confidence)
    for out in found.left_out:
        console.print(f"[yellow]left out:[/] {escape(out.reason)}", highlight=False)
    if len(found.origins) > 1:
        _show(console, found.pooled, f"All {len(found.origins)} origins together", found.confidence)
    if found.gains:
        first = next(iter(found.pooled.rankers))
        title = f"Gain over {first}: {found.confidence:.0%} intervals over users and campaigns; more is better"
        table = Table("ranker", *(TITLES[metric] for metric in POOLED), title=title, title_justify="left")
        for name, gains in found.gains.items():
            table.add_row(name, *(_signed(gains.get(metric)) for metric in POOLED))
        console.print(table)


def _show(console: Console, judged: Judged, title: str, confidence: float) -> None:
    counts = (
        f"{judged.num_pairs:,} pairs · {judged.num_users:,} users · {judged.num_campaigns} campaigns · "
        f"{judged.num_positives:,} took part ({judged.num_positives / judged.num_pairs:.1%}) · "
        f"{confidence:.0%} intervals over users"
    )
    table = Table("ranker", *(TITLES[name] for name in METRICS), title=title, title_justify="left", caption=counts)
    for name, of in judged.rankers.items():
        table.add_row(name, *(written(of.metrics[metric]) for metric in METRICS))
    console.print(table)
    at = Table("ranker", "threshold", *FIGURES.values())
    for name, of in judged.rankers.items():
        for one in of.at_thresholds:
            rule = f"base rate, {one.threshold:.3f}" if one.rule == BASE_RATE else one.rule
            at.add_row(name, rule, *(written(one.metrics[figure]) for figure in FIGURES))
    at.add_row("nobody takes part", "", written(judged.nobody), "–", "0.000", "0.000")
    console.print(at)


def _signed(gain: Estimate | None) -> str:
    if gain is None:
        return "–"
    value = f"{gain.value:+.4f}"
    return value if gain.low is None else escape(f"{value} [{gain.low:+.4f}, {gain.high:+.4f}]")
