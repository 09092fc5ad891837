"""Lines about days: what came too late to count by itself, and what the last build of features took over."""

from rich.console import Console

from recommender.days import DayStore
from recommender.days.index import spans
from recommender.settings import Settings

SHOWN_SPANS = 5
"""Spans of days with late events that are printed. By hand: more would hide the results of a run."""


def show_last_build(console: Console, settings: Settings) -> None:
    """Print how many rows of features the last build took over, or why it took over none."""
    from recommender.features.last_build import LastBuild  # imports Ibis

    report = LastBuild.of(settings).report() if settings.features.increment else ""
    if report:
        console.print(f"features: {report}", highlight=False, soft_wrap=True)


def show_late(console: Console, settings: Settings) -> None:
    """Print how many events came too late to count, of which days, and how to accept them."""
    held = spans(DayStore.of(settings).read().held) if settings.features.late_days else []
    for first, last, rows in held[:SHOWN_SPANS]:
        console.print(
            f"[yellow]late[/] {rows:,} events of {first} to {last} do not count; accept them with: "
            f"recommender backfill --from {first} --to {last}",
            highlight=False,
            soft_wrap=True,
        )
    if len(held) > SHOWN_SPANS:
        console.print(f"[yellow]late[/] and {len(held) - SHOWN_SPANS:,} more spans of days", highlight=False)
