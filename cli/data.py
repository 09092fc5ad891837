"""`ingest`: the first step of a run alone, and a preview of a mapping."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.verbs import stopped_by_data
from recommender.datasets import preview_mapping
from recommender.datasets.places import Place
from recommender.datasets.preview import Preview, TablePreview
from recommender.datasets.replacing import require_replaceable
from recommender.errors import SettingsError, ValidationFailed
from recommender.event_tables.append import ingest_with_events
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.scratch import scratch_folder

SHOWN_DECISIONS = 50
"""Decisions that are printed. The manifest has all."""
JUDGED_ROWS = 500_000
"""Rows up to which a preview checks the tables as a run does: some ten seconds. Of more it looks at the shares only."""


def ingest_to(settings: Settings, output: Path | None, *, preview: bool) -> None:
    """Read the source into canonical tables and print what became of it, or with `preview` only print that.

    Raises:
        SettingsError: there is neither an output nor a preview, or a preview of a source without a mapping. Or the
            output holds something else than tables.
    """
    if preview:
        show_preview(settings)
        return
    if output is None:
        raise SettingsError("ingest: nowhere to write to; name a folder with --output, or look first with --preview")
    require_replaceable(Place(str(output.absolute())), "canonical tables", lambda found: "contract_version" in found)
    with stopped_by_data():
        tables = ingest_with_events(settings, output, ingested_at=datetime.now(UTC))
    console = wide()
    for name, rows in tables.manifest["rows"].items():
        aside = tables.manifest["quarantined"].get(name, 0)
        console.print(f"{name:<16}{rows:>12,} rows{f', {aside:,} in quarantine' if aside else ''}", highlight=False)
    _show_left_out(console, tables.manifest.get("left_out", {}))
    _show_decisions(console, tables.manifest["decisions"])
    console.print(f"written to {output}", highlight=False)


def features_to(settings: Settings, tables: str, output: str, *, now_from: str) -> None:
    """Build a feature set from a folder or an object store into another one.

    `now_from`: what says which moment counts as now. It is printed.

    Raises:
        typer.Exit: with code 1, the tables cannot be built from.
    """
    from recommender.features.between import build_between

    wide().print(f"as of: {now_from}", highlight=False, soft_wrap=True)
    with stopped_by_data():
        as_of = build_between(tables, output, settings)
    wide().print(f"written to {output}, as of {as_of.isoformat()}", highlight=False, soft_wrap=True)


def show_preview(settings: Settings) -> None:
    """Print what a mapping makes of the files, what looks wrong, and what a run needs besides.

    Raises:
        SettingsError: the source has no mapping.
        typer.Exit: with code 1, a run would stop.
    """
    if settings.source.dataset != "files" or not settings.source.mapping:
        raise SettingsError("--preview: shows what a mapping makes of your files; name the mapping with --data")
    mapping = Path(settings.source.mapping)
    with stopped_by_data():
        found = preview_mapping(mapping, as_of=settings.time.as_of, resources=settings.resources)
    console = wide()
    for table in found.tables:
        _show_table(console, table)
    console.print("\n[bold]Keys[/]")
    keys = Table("key", "is in", "rows", "match", "without a match")
    for key in found.keys:
        example = f"such as {key.example}" if key.example is not None else ""
        share = f"{key.share:.1%}" if key.rows else ""
        keys.add_row(f"{key.table}.{key.column}", key.other, f"{key.rows:,}", share, escape(example))
    console.print(keys)
    _show_facts(console, found)
    _show_decisions(console, list(found.decisions))
    if _show_problems(console, settings, found):
        raise typer.Exit(1)


def _show_problems(console: Console, settings: Settings, found: Preview) -> bool:
    """Print each warning and each reason for which a run would stop in a line, and return whether it would."""
    errors = Console(stderr=True, soft_wrap=True)
    for sentence in found.missing:
        errors.print(f"[bold red]ContractError[/]: {escape(sentence)}", highlight=False)
    rows = sum(table.rows for table in found.tables)
    judged = not found.missing and rows <= JUDGED_ROWS
    problems = _judged(settings) if judged else [(one.severity, one.in_short()) for one in found.failed]
    for severity, words in problems:
        colour, where = ("bold red", errors) if severity == "critical" else ("yellow", console)
        where.print(f"[{colour}]{severity}[/] {escape(words)}", highlight=False, soft_wrap=True)
    if found.missing and found.next_items:
        errors.print(
            "A run needs what is missing. Without it, the log can train a next-item ranker: "
            f"recommender next-items fit --interactions {escape(str(settings.source.mapping))}",
            highlight=False,
        )
    if not found.missing and not judged:
        console.print(
            f"{rows:,} rows are too many to check them here; next: recommender validate --data "
            f"{escape(str(settings.source.mapping))}",
            highlight=False,
            soft_wrap=True,
        )
    return any(severity == "critical" for severity, _ in problems) if judged else found.stops


def _judged(settings: Settings) -> list[tuple[str, str]]:
    """Severity and words of what validation finds in these files, as it would in the next run. Nothing is kept."""
    from components.validate_data.alone import validate_alone
    from components.validate_data.verdict import Verdict

    with scratch_folder("preview") as folder, stopped_by_data():
        try:
            verdict = validate_alone(settings, Path(folder) / "page.html", keep=False)
        except ValidationFailed as failed:
            if not isinstance(failed.verdict, Verdict):
                raise
            verdict = failed.verdict
    outside = [(one.severity, one.in_short()) for one in verdict.outcomes if one.status == "failed"]
    # Some figures have a bound that warns and one that stops. Beyond both, one line is enough.
    critical = {words for severity, words in outside if severity == "critical"}
    return [(severity, words) for severity, words in outside if severity == "critical" or words not in critical]


def _show_table(console: Console, table: TablePreview) -> None:
    console.print(f"\n[bold]{table.name}[/]: {table.rows:,} rows", highlight=False)
    shown = Table(*table.columns)
    for row in table.first:
        shown.add_row(*(escape(_text(row[column])) for column in table.columns))
    console.print(shown)
    if table.kinds:
        counts = ", ".join(f"{kind} {rows:,}" for kind, rows in table.kinds.items())
        console.print(f"  kinds: {escape(counts)}", highlight=False)
    for column, (first, last) in table.times.items():
        if first is not None:
            console.print(f"  {column}: {_text(first)} to {_text(last)}", highlight=False)
    for rule, rows in table.left_out.items():
        share = rows / (table.rows + sum(table.left_out.values()))
        console.print(f"  left out: {rows:,} rows ({share:.1%}) by {escape(rule)}", highlight=False)
    if table.quarantined:
        console.print(f"  cannot be read: {table.quarantined:,} rows", highlight=False)
    for file, number, reason in table.reasons:
        console.print(f"    row {number} of {escape(file)}: {escape(reason)}", highlight=False)


def _show_facts(console: Console, found: Preview) -> None:
    """Print the shares that say whether the tables belong together."""
    shares = [fact for fact in found.facts if fact.least is not None and fact.least < 1]
    if not shares:
        return
    console.print("\n[bold]Do the tables belong together?[/]")
    shown = Table("wanted", "found")
    for fact in shares:
        shown.add_row(escape(fact.sentence), f"{fact.value:.1%}")
    console.print(shown)


def _show_left_out(console: Console, left_out: dict[str, dict[str, int]]) -> None:
    for table, rules in left_out.items():
        for rule, rows in rules.items():
            console.print(f"{table}: {rows:,} rows left out by {escape(rule)}", highlight=False)


def _show_decisions(console: Console, decisions: list[str]) -> None:
    for decision in decisions[:SHOWN_DECISIONS]:
        console.print(f"· {escape(decision)}", highlight=False)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
