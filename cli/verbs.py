"""Turns errors into messages: the base class of every group of verbs."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from components.images import PIPELINE_IMAGE, SERVING_IMAGE
from recommender.errors import RecommenderError, SettingsError

REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
}
"""Errors of the operating system that the user can fix: no permission, a full disk, an impossible file name."""


class MissingPackage(RecommenderError):
    """A verb needs a package that this installation lacks, as an image lacks what it does not need."""

    def __init__(self, verb: str, package: str) -> None:
        image = (SERVING_IMAGE if verb == "serve" else PIPELINE_IMAGE).rpartition("/")[2]
        where = "on a machine, by `make install`" if verb == "run" else f"in the image {image}"
        super().__init__(
            f"`recommender {verb}` needs the package {package!r}, which is not installed here. Run it {where}"
        )


class Verbs(TyperGroup):
    """A group of verbs that prints expected errors as one message, with exit code 2 and no traceback."""

    def invoke(self, ctx: Any) -> object:
        """Run the verb. An expected error, or a package that an image lacks, becomes a message and exit code 2."""
        try:
            return super().invoke(ctx)
        except (RecommenderError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in REFUSALS:
                raise
            print_error(error)
            raise typer.Exit(2) from None
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if not package or find_spec(package) is not None:
                raise
            words = [*ctx.command_path.split()[1:], ctx.invoked_subcommand or ""]
            print_error(MissingPackage(" ".join(words).strip(), package))
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
