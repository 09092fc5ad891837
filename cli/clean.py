"""`clean`: say what lies in the home that is old and not needed, and delete it."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import typer
from rich.markup import escape
from rich.table import Table

from recommender.errors import SettingsError
from recommender.privacy import KINDS, Kept, Leftover, find, limits_of, remove
from recommender.report.terminal import wide
from recommender.settings import Settings

DAYS = {"d": 1, "w": 7}
"""Days in each unit of an age."""
_AGE = re.compile(r"(\d{1,5})([dw])")


def clean_home(settings: Settings, *, older_than: str | None, dry_run: bool, yes: bool) -> None:
    """Print what is older than its retention time and not needed, ask unless `yes`, and delete it.

    Raises:
        SettingsError: `older_than` is no age, no retention time is set at all, or nobody can be asked.
        CorruptFileError: something is damaged, so that it is not known what is needed.
    """
    limits = limits_of(settings.retention) if older_than is None else dict.fromkeys(KINDS, _age(older_than))
    if not limits:
        raise SettingsError(
            "retention: no time is set, so everything is kept; give --older-than 30d, or set days in [retention]: "
            + ", ".join(KINDS)
        )
    console, now = wide(), datetime.now(UTC)
    leftovers, kept = find(settings, limits, now)
    _show_kept(kept)
    if not leftovers:
        print(f"{settings.home}: nothing to delete")
        return
    table = Table(
        "kind", "what", "changed (UTC)", "days old", "size", title=f"To delete in {escape(str(settings.home))}"
    )
    for one in leftovers:
        days = (now - one.changed) // timedelta(days=1)
        table.add_row(one.kind, escape(one.name), f"{one.changed:%Y-%m-%d %H:%M}", f"{days:,}", _size(one.num_bytes))
    console.print(table)
    print(f"{len(leftovers):,} to delete, {_size(sum(one.num_bytes for one in leftovers))}")
    if dry_run or not (yes or _confirmed(leftovers)):
        print("nothing was deleted")
        return
    done = remove(settings, leftovers, limits, now)
    _show_kept(done.kept)
    print(f"{len(done.removed):,} deleted, {_size(sum(one.num_bytes for one in done.removed))}")


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text.strip().lower())
    days = int(found[1]) * DAYS[found[2]] if found else 0
    if not days:
        raise SettingsError(f"--older-than {text}: must be at least one day, as days or weeks, such as 30d or 8w")
    return timedelta(days=days)


def _confirmed(leftovers: Sequence[Leftover]) -> bool:
    if not sys.stdin.isatty():
        raise SettingsError("nobody can be asked, because the input is no terminal; give --yes, or --dry-run")
    return typer.confirm(f"Delete these {len(leftovers):,}?")


def _show_kept(kept: Sequence[Kept]) -> None:
    """Print one line for each reason: what is old but stays."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in kept:
        reasons.setdefault((one.kind, one.reason), []).append(one.name)
    for (kind, reason), names in reasons.items():
        # Decisions are many files: three names are enough to see which.
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        print(f"kept {kind}: {shown} ({reason})")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
