"""The lines about late events: what came too late to count by itself, and how to accept it."""

from rich.console import Console

from recommender.days import DayStore
from recommender.days.index import spans
from recommender.settings import Settings

SHOWN_SPANS = 5
"""Spans of days with late events that are printed. By hand: more would hide the results of a run."""


def show_late(console: Console, settings: Settings) -> None:
    """Print how many events came too late to count, of which days, and how to accept them."""
    held = spans(DayStore.of(settings).read().held)
    for first, last, rows in held[:SHOWN_SPANS]:
        console.print(
            f"[yellow]late[/] {rows:,} events of {first} to {last} do not count; accept them with: "
            f"recommender backfill --from {first} --to {last}",
            highlight=False,
            soft_wrap=True,
        )
    if len(held) > SHOWN_SPANS:
        console.print(f"[yellow]late[/] and {len(held) - SHOWN_SPANS:,} more spans of days", highlight=False)
