"""Progress while a ranker is fitted or users are scored: bars on a terminal, log events of fits elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from recommender import logs
from recommender.engine.progress import log_progress
from recommender.engine.torchrun import is_first

log = logs.get(__name__)


@contextmanager
def fit_bars() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a callback for `FitContext.progress` that shows progress in the first of several processes."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield log_progress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not is_first()) as progress:
        yield bars(progress)


@contextmanager
def fits_bars() -> Iterator[tuple[Callable[[str, int, int], None], Callable[[dict[str, Any]], None]]]:
    """Yield two callbacks: one for the beginning of each of several fits, and one for the progress inside a fit."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda what, number, of: log.info("fitting", what=what, number=number + 1, of=of), log_progress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("fits", facts="")

        def fitting(what: str, number: int, of: int) -> None:
            progress.update(task, total=of, completed=number, facts=f"{number + 1} of {of} · {what}")

        yield fitting, bars(progress)


@contextmanager
def user_bar(users: int) -> Iterator[Callable[[int], None]]:
    """Yield a callback that takes how many more users were scored, and shows them as a bar on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("scoring"), BarColumn(), TextColumn("{task.completed:,} of {task.total:,} users"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=users)
        yield lambda more: progress.advance(task, more)


def bars(progress: Progress) -> Callable[[dict[str, Any]], None]:
    """A callback that shows the progress of fits: one bar for each phase, reset by each fit that has the phase.

    Members of an ensemble, trials of a search and refits repeat the phases of the fits before them.
    """
    tasks: dict[str, TaskID] = {}
    reached: dict[str, tuple[int, int]] = {}

    def show(facts: dict[str, Any]) -> None:
        phase, step, of = (facts[name] for name in ("phase", "step", "of"))
        if phase not in tasks:
            tasks[phase] = progress.add_task(phase, total=of, facts="")
        elif step <= reached[phase][0] or of != reached[phase][1]:
            progress.reset(tasks[phase], total=of)
        reached[phase] = step, of
        text = f"step {step} of {of} · loss {facts['loss']:.4f} · {facts['steps_a_second']} steps/s"
        progress.update(tasks[phase], completed=step, facts=text)

    return show
