"""`validate`, `quarantine`, and the warnings of a run: what the data's checks say, on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from components.validate_data.outcome import Outcome
from recommender.datasets.checks import in_a_table
from recommender.errors import SettingsError
from recommender.report.terminal import wide
from recommender.settings import Settings


def validate_and_show(settings: Settings, data: Path | None, page: Path, *, accept: str | None, reason: str) -> None:
    """Judge the source, or the folder of tables `data`, as a run would, after accepting a change if one is named.

    Raises:
        SettingsError: the change cannot be accepted: no such check failed, or the reason is missing.
        ValidationFailed: critical expectations failed.
    """
    from components.validate_data.alone import validate_alone
    from components.validate_data.validation import record_of

    console = wide()
    if accept is None and reason:
        raise SettingsError("--reason: goes with --accept CHECK, the change that it explains")
    if accept is not None:
        for made in record_of(settings).accept(accept, reason):
            console.print(
                f"accepted by {made.who}: {made.check} ({made.value:.6g}): {escape(made.reason)}", highlight=False
            )
    verdict = validate_alone(settings, page, tables=data if data is not None and data.is_dir() else None)
    show_outcomes(console, [one for one in verdict.outcomes if one.status in ("failed", "accepted")])
    if verdict.changes:
        console.print(f"Changed since the last good run:\n{escape(in_a_table(verdict.changes))}", highlight=False)
    passed = sum(one.status == "passed" for one in verdict.outcomes)
    console.print(f"{passed} checks hold; a run would go on. The page is {page}", highlight=False)


def show_warnings(console: Console, settings: Settings, data_hash: str = "") -> None:
    """Print what failed or was accepted in the validation of these tables, or in the latest one, in a line each."""
    from components.validate_data.validation import record_of

    show_outcomes(console, record_of(settings).failures(data_hash))


def show_outcomes(console: Console, outcomes: list[Outcome]) -> None:
    """Print failed and accepted outcomes, in a line each."""
    for one in outcomes:
        word, colour = ("accepted", "green") if one.status == "accepted" else (one.severity, "yellow")
        console.print(f"[{colour}]{word}[/] {escape(one.in_short())}", highlight=False, soft_wrap=True)


def show_quarantine(settings: Settings, data: Path | None) -> None:
    """Print what was set aside of the last run's tables, or of the folder `data`: table, reason, count, examples.

    Raises:
        RegistryError: no run has written tables.
        CorruptFileError: `data` is no folder of tables.
    """
    from components.validate_data.quarantine import kept, quarantined
    from components.validate_data.validation import record_of

    console = wide()
    found = quarantined(data) if data is not None and data.is_dir() else kept(record_of(settings).folder)
    for one in found:
        console.print(f"{one.table}: {one.rows:,} rows: {escape(one.reason)}", highlight=False, soft_wrap=True)
        for example in one.examples:
            console.print(f"    {escape(example)}", highlight=False, soft_wrap=True)
        if one.file is not None:
            console.print(f"    all of them: {one.file}", highlight=False, soft_wrap=True)
    if not found:
        console.print("nothing was set aside", highlight=False)
