"""Turns errors into messages: the base class of every group of verbs."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from recommender.errors import RecommenderError, SettingsError

REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
}
"""Errors of the operating system that the user can fix: no permission, a full disk, an impossible file name."""


class Verbs(TyperGroup):
    """A group of verbs that prints expected errors as one message, with exit code 2 and no traceback."""

    def invoke(self, ctx: Any) -> object:
        """Run the verb, and turn an expected error into a message and exit code 2."""
        try:
            return super().invoke(ctx)
        except (RecommenderError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in REFUSALS:
                raise
            print_error(error)
            raise typer.Exit(2) from None


def print_error(error: Exception) -> None:
    """Print an error to the terminal, under the name of its first public class."""
    name = next(one.__name__ for one in type(error).__mro__ if not one.__name__.startswith("_"))
    Console(stderr=True, soft_wrap=True).print(f"[bold red]{name}[/]: {escape(str(error))}", highlight=False)


@contextmanager
def stopped_by_data() -> Iterator[None]:
    """Print the error with which the data would stop a run, and exit with 1. Wrong settings exit with 2 as anywhere."""
    try:
        yield
    except SettingsError:
        raise
    except RecommenderError as error:
        print_error(error)
        raise typer.Exit(1) from None
