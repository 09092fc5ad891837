"""The console that tables for people are printed to."""

from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 150
"""Columns in a log or a pipe, where the width is not known. Chosen by hand."""


def wide() -> Console:
    """Return a Rich console on standard output, as wide as the terminal, or wide enough for all tables without one."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WIDTH_WITHOUT_TERMINAL))
