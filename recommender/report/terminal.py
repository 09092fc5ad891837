"""Where people's tables print: as wide as the terminal, and wide enough for the tables where there is none (a log, a pipe)."""

from rich.console import Console

WITHOUT_TERMINAL = 150


def wide() -> Console:
    """Standard output with Rich."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, WITHOUT_TERMINAL))
