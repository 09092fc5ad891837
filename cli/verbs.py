"""What every verb of the command does with an error."""

import errno
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from recommender.errors import RecommenderError

REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
}
"""What the system refuses: no right, a full disk, a name that cannot be. It names the file."""


class Verbs(TyperGroup):
    """An error raised on purpose, and what the system refuses, is a message and exit code 2, never a traceback."""

    def invoke(self, ctx: Any) -> object:
        """Run the verb, and turn an expected error into a message and exit code 2."""
        try:
            return super().invoke(ctx)
        except (RecommenderError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in REFUSALS:
                raise
            Console(stderr=True, soft_wrap=True).print(
                f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", highlight=False
            )
            raise typer.Exit(2) from None
