"""`status`, `promote`, `rollback`: show which versions serve and their origin, and change them by hand."""

from rich.markup import escape
from rich.table import Table

from recommender.errors import CorruptFileError, RegistryError
from recommender.registry.registry import Registry, Serving
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.forgotten import Forgotten
from recommender.storage.home import Home

SHOWN_EVENTS = 8
"""Latest changes that `status` shows, so that they fit a screen. The registry's history.jsonl has all."""


def show_status(settings: Settings) -> None:
    """Print champion, canary and the latest changes."""
    registry, console = Registry(settings.home), wide()
    try:
        Forgotten.of(Home.of(settings))
    except CorruptFileError as error:
        console.print(f"Gateways that start now let nobody in: {escape(str(error))}")
    status = registry.status()
    if status.champion is None:
        console.print(f"Nothing serves yet: {registry.folder} has no champion. Start with: recommender run")
        return
    table = Table("", "version", "ranker", "users", "since (UTC)", "data", "configuration", "code", title="What serves")
    for role, serving in (("champion", status.champion), ("canary", status.canary)):
        if serving is not None:
            table.add_row(role, *_row(serving))
    console.print(table)
    if status.previous:
        console.print(f"To go back to {status.previous[-1]}: recommender rollback")
    events = Table("when (UTC)", "what", "version", "", title="The latest changes")
    for event in registry.history()[-SHOWN_EVENTS:]:
        verdict = event.get("verdict") or {}
        # 19 characters of an ISO time end with its seconds.
        events.add_row(
            str(event["at"])[:19], event["what"], event["version"], event.get("reason") or verdict.get("decision", "")
        )
    console.print(events)


def promote_canary(settings: Settings, reason: str) -> None:
    """Make the canary the champion.

    Raises:
        RegistryError: there is no canary.
    """
    registry = Registry(settings.home)
    canary = registry.canary()
    if canary is None:
        raise RegistryError("there is no canary to promote; `recommender status` shows which versions serve")
    registry.promote(canary.version, reason=reason)
    print(f"{canary.version} ({canary.ranker}) is the champion now; a running endpoint switches to it automatically")


def roll_back(settings: Settings, reason: str) -> None:
    """End the canary or, without one, let the previous champion serve again.

    Raises:
        RegistryError: there is no canary and no previous champion.
    """
    version = Registry(settings.home).rollback(reason)
    print(f"{version} serves all users now; a running endpoint switches to it automatically")


def _row(serving: Serving) -> tuple[str, ...]:
    lineage = serving.lineage
    return (
        serving.version,
        serving.ranker,
        f"{serving.share:.0%}",
        f"{serving.since:%Y-%m-%d %H:%M}",
        # Ten hex digits each, as many as a version has (`registry.candidates`), so that the row fits a terminal.
        str(lineage.get("data_hash", ""))[:10],
        str(lineage.get("training_hash", ""))[:10],
        str(lineage.get("code_version", "")),
    )
