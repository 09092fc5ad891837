"""`backfill`: accept what the source has of some days now, and bring the new features to serving."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from recommender.days import DayStore, ingest_in_days
from recommender.days.index import Backfill, DayIndex
from recommender.days.proposal import Proposal
from recommender.errors import SettingsError
from recommender.report.terminal import wide
from recommender.settings import Settings


def backfill_and_refresh(settings: Settings, *, first: str, last: str) -> None:
    """Accept the source's present rows of some days, both included, and bring the new features to serving.

    Where no row of these days came too late, it says so and runs nothing.

    Raises:
        SettingsError: a day is no date, or they are in the wrong order.
        SourceError, ContractError: the source cannot be read.
        StepFailed: a step failed. The days stay accepted: the next run reads them.
    """
    asked = Backfill(_day("--from", first).isoformat(), _day("--to", last).isoformat())
    if asked.first > asked.last:
        raise SettingsError(f"--from {asked.first} is after --to {asked.last}; name the earlier day first")
    store, console = DayStore.of(settings), wide()
    late = _late(settings, store.read(), asked, console)
    if late is None:
        return
    store.backfill(date.fromisoformat(asked.first), date.fromisoformat(asked.last))
    # Imports the pipelines, which takes seconds.
    from cli.monitoring import refresh_and_show

    refresh_and_show(settings, caching=True)
    left = _within(store.read().held, asked)
    _say(console, f"accepted {_counted(late)}: they count from now on" if late and not left else "")


def _late(settings: Settings, before: DayIndex, asked: Backfill, console: Console) -> dict[str, int] | None:
    """Day -> how many of its rows wait to be accepted. None: there is nothing to do, and the reason was printed."""
    days = f"{asked.first}" if asked.first == asked.last else f"{asked.first} to {asked.last}"
    if not settings.features.late_days:
        _say(console, "nothing to accept: with features.late_days = 0 all events count, whenever they come")
        return None
    if late := _within(before.held, asked):
        _say(console, f"accepting {_counted(late)}")
        return late
    if any(one.first <= asked.last and asked.first <= one.last for one in before.waiting):
        _say(console, f"{days} was accepted before, and no run has read it since; reading it now")
        return {}
    # The last run held nothing back, but the source may have changed since. To read it is a small part of a refresh.
    _say(console, f"no event of {days} waits from the last run; looking whether the source has new ones")
    late = _within(_held_now(settings), asked)
    if not late:
        _say(console, f"nothing to accept: no event of {days} came too late, so all that the source has of it counts")
        return None
    _say(console, f"accepting {_counted(late)}")
    return late


def _held_now(settings: Settings) -> Mapping[str, int]:
    """Day -> rows that a run would hold back now. Changes nothing: what is proposed is never promoted."""
    with TemporaryDirectory(prefix="backfill-", dir=settings.resources.scratch) as folder:
        made = ingest_in_days(settings, Path(folder) / "tables", ingested_at=datetime.now(UTC))
        proposal = Proposal.load(made.folder)
    return proposal.index.held if proposal is not None else {}


def _within(held: Mapping[str, int], asked: Backfill) -> dict[str, int]:
    return {day: rows for day, rows in held.items() if asked.holds(day)}


def _counted(late: Mapping[str, int]) -> str:
    """How many events of how many days, and from which to which."""
    rows, first, last = sum(late.values()), min(late), max(late)
    events = "1 late event" if rows == 1 else f"{rows:,} late events"
    return f"{events} of {first}" if first == last else f"{events} of {len(late)} days from {first} to {last}"


def _day(option: str, text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise SettingsError(f"{option} {text}: must be a day such as 2017-05-31") from None


def _say(console: Console, words: str) -> None:
    if words:
        console.print(words, highlight=False, soft_wrap=True)
