"""`forget`: remove shoppers from everything that the platform keeps, and show what was found where."""

import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from recommender.errors import SettingsError
from recommender.privacy.forgetting import Report, forget, look_for
from recommender.privacy.places import Trace
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage import forgotten
from recommender.storage.home import Home
from serving.online_store.erasure import erasure_of

SHOWN = 12
"""Traces that a place's line names. By hand: a screen."""
NAMED = 100
"""Users of whom nothing was found that get a line of their own. By hand."""
SECONDS_AN_HOUR = 3_600


def forget_users(
    settings: Settings, users: Sequence[str], file: Path | None, *, dry_run: bool, yes: bool, wait_hours: float = 0.0
) -> None:
    """Forget shoppers and print the table of places. Exit code 1 where something of them is left.

    `wait_hours`: how long to wait for the end of a run or a training that uses the home.

    Raises:
        SettingsError: No shopper is named, an id cannot be one, or nobody can be asked.
    """
    named = ids_of(users, file)
    if dry_run:
        _show(look_for(settings, named, erasure_of(settings)))
        return
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError("nobody can be asked, because the input is no terminal; give --yes, or --dry-run")
        typer.confirm(f"Forget {len(named):,} shoppers for good?", abort=True)
    report = forget(settings, named, erasure_of(settings), wait_s=wait_hours * SECONDS_AN_HOUR)
    _show(report)
    if report.left:
        raise typer.Exit(1)


def allow_users(settings: Settings, users: Sequence[str], file: Path | None) -> None:
    """Let shoppers who were forgotten come back: what happens from now on is kept again."""
    named = ids_of(users, file)
    back = forgotten.allow(Home.of(settings), named)
    print(f"{len(back):,} of {len(named):,} shoppers were forgotten, and may come back")


def ids_of(users: Sequence[str], file: Path | None) -> list[str]:
    """The ids on the command line and those of a file, one a line.

    Raises:
        SettingsError: There is none, the file cannot be read, or an id is no text that a store can hold.
    """
    named = list(users)
    if file is not None:
        try:
            # With or without the mark that spreadsheets put first. Only line ends end an id, and not what else
            # `splitlines` takes for one.
            lines = file.read_text(encoding="utf-8-sig").split("\n")
            named += [line for line in lines if line]
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--file {file}: cannot be read ({error})") from None
    if not named:
        raise SettingsError("name a shopper, or a file with one user_id a line (--file)")
    for one in named:
        if not one or "\0" in one or any("\ud800" <= character <= "\udfff" for character in one):
            raise SettingsError(f"{one!r}: no user_id; it must be a text without a zero byte")
    return list(dict.fromkeys(named))


def _show(report: Report) -> None:
    table = Table("place", "found") if report.dry else Table("place", "found", "removed", "left")
    for line in report.lines:
        found, left = (sum(trace.count for trace in traces) for traces in (line.found, line.left))
        after = () if report.dry else (f"{max(0, found - left):,}", _listed(line.left))
        table.add_row(line.place, _listed(line.found), *after)
    wide().print(table)
    for user, moment in list(report.nowhere.items())[:NAMED]:
        why = f"forgotten on {moment[:10]} already" if moment else "check how the id is written"
        print(f"{user}: nothing was found ({why})")
    if len(report.nowhere) > NAMED:
        print(f"and {len(report.nowhere) - NAMED:,} more of whom nothing was found")
    for note in report.notes:
        print(note)
    if report.dry:
        print("nothing was changed")
    else:
        print("something is left" if report.left else "nothing is left, and the shoppers are kept out from now on")


def _listed(traces: Sequence[Trace]) -> str:
    shown = [escape(str(trace)) for trace in traces[:SHOWN]]
    if len(traces) > SHOWN:
        more = traces[SHOWN:]
        shown.append(f"and {sum(trace.count for trace in more):,} in {len(more):,} more")
    return "\n".join(shown) or "nothing"
