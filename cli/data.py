"""`ingest`: the first step of a run alone, and a preview of a mapping."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.verbs import stopped_by_data
from recommender.datasets import ingest, preview_mapping
from recommender.errors import SettingsError
from recommender.report.terminal import wide
from recommender.settings import Settings

SHOWN_DECISIONS = 50
"""Decisions that are printed. The manifest has all."""


def ingest_to(settings: Settings, output: Path | None, *, preview: bool) -> None:
    """Read the source into canonical tables and print what became of it, or with `preview` only print that.

    Raises:
        SettingsError: there is neither an output nor a preview, or a preview of a source without a mapping.
    """
    if preview:
        show_preview(settings)
        return
    if output is None:
        raise SettingsError("ingest: nowhere to write to; name a folder with --output, or look first with --preview")
    with stopped_by_data():
        tables = ingest(settings.source, output, ingested_at=datetime.now(UTC), resources=settings.resources)
    console = wide()
    for name, rows in tables.manifest["rows"].items():
        aside = tables.manifest["quarantined"].get(name, 0)
        console.print(f"{name:<16}{rows:>12,} rows{f', {aside:,} in quarantine' if aside else ''}", highlight=False)
    _show_left_out(console, tables.manifest.get("left_out", {}))
    _show_decisions(console, tables.manifest["decisions"])
    console.print(f"written to {output}", highlight=False)


def show_preview(settings: Settings) -> None:
    """Print first rows, kinds, times, matching keys, rows left out and rows that cannot be read."""
    if settings.source.dataset != "files" or not settings.source.mapping:
        raise SettingsError("--preview: shows what a mapping makes of your files; name the mapping with --data")
    with stopped_by_data():
        found = preview_mapping(Path(settings.source.mapping))
    console = wide()
    for table in found.tables:
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
            console.print(f"  left out: {rows:,} rows by {escape(rule)}", highlight=False)
        if table.quarantined:
            console.print(f"  cannot be read: {table.quarantined:,} rows", highlight=False)
        for file, number, reason in table.reasons:
            console.print(f"    row {number} of {escape(file)}: {escape(reason)}", highlight=False)
    console.print("\n[bold]Keys[/]")
    keys = Table("key", "is in", "rows", "match", "without a match")
    for key in found.keys:
        example = f"such as {key.example}" if key.example is not None else ""
        share = f"{key.share:.1%}" if key.rows else ""
        keys.add_row(f"{key.table}.{key.column}", key.other, f"{key.rows:,}", share, escape(example))
    console.print(keys)
    _show_decisions(console, list(found.decisions))


def _show_left_out(console: Console, left_out: dict[str, dict[str, int]]) -> None:
    for table, rules in left_out.items():
        for rule, rows in rules.items():
            console.print(f"{table}: {rows:,} rows left out by {escape(rule)}", highlight=False)


def _show_decisions(console: Console, decisions: list[str]) -> None:
    for decision in decisions[:SHOWN_DECISIONS]:
        console.print(f"· {escape(decision)}", highlight=False)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
