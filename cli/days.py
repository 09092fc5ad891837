"""`backfill`, and the lines about late events: what came too late to count by itself, and how to accept it."""

from datetime import datetime

from rich.console import Console

from recommender.days import DayStore
from recommender.days.index import spans
from recommender.errors import SettingsError
from recommender.settings import Settings

SHOWN_SPANS = 5
"""Spans of days with late events that are printed. By hand: more would hide the results of a run."""


def backfill_and_refresh(settings: Settings, *, first: str, last: str) -> None:
    """Accept the source's present rows of some days, both included, and bring the new features to serving.

    Raises:
        SettingsError: a day is no date, or they are in the wrong order.
        StepFailed: a step failed. The days stay accepted: the next run reads them.
    """
    days = []
    for option, text in (("--from", first), ("--to", last)):
        try:
            days.append(datetime.strptime(text, "%Y-%m-%d").date())
        except ValueError:
            raise SettingsError(f"{option} {text}: must be a day such as 2017-05-31") from None
    DayStore.of(settings).backfill(*days)
    # Imports the pipelines, which takes seconds.
    from cli.monitoring import refresh_and_show

    refresh_and_show(settings, caching=True)


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
