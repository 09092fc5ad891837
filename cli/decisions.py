"""`decisions`: compact the decision log, and find or remove what it holds of users."""

import json
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli.options import DataFile, SettingsFile, settings_of
from cli.verbs import Verbs

app = typer.Typer(
    cls=Verbs, no_args_is_help=True, help="Compact the decision log, and find or remove what it holds of shoppers."
)
User = Annotated[str, typer.Argument(help="The shopper's user_id.")]


@app.command()
def compact(settings: SettingsFile = None, data: DataFile = None) -> None:
    """Turn shipped segments into one table a day. Safe to kill and to repeat. Exit code 1 if one is damaged."""
    from recommender.decision_tables import compact as compact_segments

    done = compact_segments(settings_of(settings, data))
    print(
        f"{done.segments:,} segments with {done.decisions:,} decisions and {done.events:,} events merged into "
        f"{len(done.days):,} days; {done.deleted:,} segments of earlier days deleted"
    )
    if done.torn:
        print(f"{done.torn:,} lines were cut off by a kill before they were acknowledged")
    _leave(done.refused)


@app.command()
def export(
    user: User,
    settings: SettingsFile = None,
    data: DataFile = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The JSON file to write.")] = None,
) -> None:
    """Write all decisions about a shopper, with what was shown, as JSON."""
    from recommender.decision_tables import records_of
    from recommender.storage.manifest import require_writable, write_text

    if output is not None:
        require_writable(output)
    text = json.dumps(records_of(settings_of(settings, data), user), default=_plain, ensure_ascii=False, indent=1)
    if output is None:
        print(text)
    else:
        write_text(output, text + "\n")


@app.command()
def forget(
    users: Annotated[list[str], typer.Argument(help="The shoppers' user_ids.")],
    settings: SettingsFile = None,
    data: DataFile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
) -> None:
    """Remove all decisions about shoppers up to now, also those that replicas ship later.

    Exit code 1 if a damaged segment, which may hold some, had to be left.
    """
    from recommender.decision_tables import forget as forget_users
    from recommender.errors import SettingsError

    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError("nobody can be asked, because the input is no terminal; give --yes")
        typer.confirm(f"Remove all decisions about {len(users):,} shoppers?", abort=True)
    done = forget_users(settings_of(settings, data), users)
    print(f"{done.decisions:,} decisions removed")
    _leave(done.refused)


def _leave(refused: dict[Path, str]) -> None:
    """Name the segments that are left as they are, with exit code 1 if there is one."""
    for path, problem in refused.items():
        print(f"left as it is: {path}: {problem}", file=sys.stderr)
    if refused:
        raise typer.Exit(1)


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
