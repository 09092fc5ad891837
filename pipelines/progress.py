"""Progress of a run: a live line for each step on a terminal, plain lines elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

MARKS = {"done": "[green]✔[/]", "cached": "[green]✔[/]", "failed": "[red]✘[/]"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One finished step of a run."""

    name: str
    title: str
    status: Literal["done", "cached", "failed"]
    seconds: float
    peak_mib: float
    """Highest memory of the step's own processes together."""
    log: Path | None

    @property
    def figures(self) -> str:
        """Time and memory in words."""
        return (
            "unchanged, taken from the cache"
            if self.status == "cached"
            else f"{self.seconds:6.1f} s  {self.peak_mib:6.0f} MiB"
        )


class StepDisplay:
    """Shows steps as they start and end, within a `with` block."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Progress | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            self._live = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def started(self, title: str) -> None:
        """Show that a step runs."""
        if self._live:
            self._task = self._live.add_task(title, total=None)
        else:
            self._console.print(f"  … {title}", highlight=False)

    def renamed(self, title: str) -> None:
        """Give the running step a more precise title."""
        if self._live and self._task is not None:
            self._live.update(self._task, description=title)

    def finished(self, step: Step) -> None:
        """Show a step's outcome, time and memory."""
        if self._live and self._task is not None:
            self._live.remove_task(self._task)
            self._task = None
        self._console.print(f"  {MARKS[step.status]} {step.title:<44} {step.figures}", highlight=False)
