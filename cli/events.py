"""`events`: what serving knows of events that came over HTTP."""

from typing import Annotated

import typer

from cli.options import DataFile, SettingsFile, settings_of
from cli.verbs import Verbs

app = typer.Typer(cls=Verbs, no_args_is_help=True, help="What serving knows of events that came over HTTP.")


@app.callback()
def events() -> None:
    """What serving knows of events that came over HTTP."""


@app.command()
def check(
    settings: SettingsFile = None,
    data: DataFile = None,
    users: Annotated[int, typer.Option(min=1, help="Shoppers with events to compare.")] = 200,  # a second or two
) -> None:
    """Compare shoppers' rows with their events folded in with a rebuild from the tables and the log.

    Exit code 1: they differ.
    """
    from cli.event_check import check_and_show

    if not check_and_show(settings_of(settings, data), users):
        raise typer.Exit(1)
