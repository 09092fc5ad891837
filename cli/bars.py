"""Bars on the terminal while a ranker is fitted: step, loss, rate and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from recommender.engine.processes import is_first


@contextmanager
def fit_bars() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A `FitContext.progress`; of several processes the first one shows it, and it vanishes with the block."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not is_first()) as progress:
        yield bars(progress)


def bars(progress: Progress) -> Callable[[dict[str, Any]], None]:
    """What shows a fit's facts: a bar for each phase, from its start again for each fit that has the phase (members, trials, refits)."""
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
