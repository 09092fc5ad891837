"""Where the verbs print: as wide as the terminal, and wide enough for the tables where there is none."""

from rich.console import Console

MIN_WIDTH = 118


def wide() -> Console:
    """Standard output with Rich."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, MIN_WIDTH))
