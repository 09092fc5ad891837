"""Lines about days: what came too late to count by itself, and what the last build of features took over."""

from rich.console import Console
from rich.markup import escape

from recommender.days import DayStore
from recommender.days.index import spans
from recommender.settings import Settings
from recommender.storage.commands import command

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
        days = f"of {first}" if first == last else f"of {first} to {last}"
        events = "1 event" if rows == 1 else f"{rows:,} events"
        accept = command(settings, f"backfill --from {first} --to {last}")
        console.print(
            f"[yellow]late[/] {events} {days} {'does' if rows == 1 else 'do'} not count; accept with: {escape(accept)}",
            highlight=False,
            soft_wrap=True,
        )
    if len(held) > SHOWN_SPANS:
        console.print(f"[yellow]late[/] and {len(held) - SHOWN_SPANS:,} more spans of days", highlight=False)
