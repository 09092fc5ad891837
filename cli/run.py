"""`run`: the whole way once, with everything a newcomer wants to see at the end."""

import os
import time
from datetime import datetime

from rich.console import Console
from rich.table import Table

from cli.answers import ask, show
from cli.output import wide
from cli.report import show_pages, show_results, show_verdict
from pipelines.local import LocalRun
from pipelines.memory import MemoryWatch
from pipelines.progress import Step
from pipelines.training_run import reports, run_training
from recommender.scoring import BulkScorer
from recommender.settings import Settings

STRANGER = "never-seen-before"


def run_once(settings: Settings, *, caching: bool, ask_three: bool) -> None:
    """Run the pipeline, ask the endpoint for three shoppers, stop it, and print what came of it all."""
    console = wide()
    with MemoryWatch() as memory:
        console.print(f"[bold]Training pipeline[/] on {settings.source.dataset} (home: {settings.home})")
        run = run_training(settings, console=console, memory=memory, caching=caching)
        steps = list(run.steps)
        if ask_three:
            steps.append(_ask_three(settings, console, memory))
    last = reports(settings)
    show_verdict(console, last.verdict())
    show_results(console, last.evaluation())
    _show_steps(console, run, steps, memory.peak)
    show_pages(console, last)


def _ask_three(settings: Settings, console: Console, memory: MemoryWatch) -> Step:
    """Start the real endpoint, ask it for a heavy, a light and an unknown shopper, and stop what was started."""
    from serving.deploy import serve

    title = "Serve and answer three shoppers"
    console.print(f"  … {title}", highlight=False)
    scorer = BulkScorer.open(settings.home)
    heavy, light = scorer.heaviest_and_lightest()
    settings = _now_is(scorer.as_of, settings)
    began = time.monotonic()
    memory.step_peak()
    memory.runner = os.getpid()
    try:
        with serve(settings):
            answers = {
                f"A heavy shopper ({heavy})": ask(settings, heavy),
                f"A light shopper ({light})": ask(settings, light),
                f"A shopper never seen ({STRANGER})": ask(settings, STRANGER),
            }
    finally:
        memory.runner = None
    step = Step(
        name="serve",
        title=title,
        status="done",
        seconds=time.monotonic() - began,
        peak_mib=memory.step_peak(),
        log=settings.serving_state,
    )
    console.print(f"  [green]✔[/] {title:<44} {step.figures}\n", highlight=False)
    for who, answer in answers.items():
        show(console, who, answer)
    return step


def _now_is(as_of: datetime, settings: Settings) -> Settings:
    """The same settings with "now" fixed at the moment for which the features were built: this run's answers are of then."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    values["time"] = settings.time.model_copy(update={"as_of": as_of})
    return Settings.model_construct(**values)


def _show_steps(console: Console, run: LocalRun, steps: list[Step], peak_mib: float) -> None:
    table = Table("step", "time", "peak memory", title="What it took", title_justify="left")
    for step in steps:
        cached = step.status == "cached"
        table.add_row(
            step.title,
            "cached" if cached else f"{step.seconds:.1f} s",
            "" if cached else f"{step.peak_mib:,.0f} MiB",
        )
    table.add_section()
    total = sum(step.seconds for step in steps)
    table.add_row("everything together", f"{total:.1f} s", f"{peak_mib:,.0f} MiB")
    console.print(table)
    console.print(f"each step's log: {run.folder}", highlight=False, soft_wrap=True)
