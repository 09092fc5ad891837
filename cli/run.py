"""`run`: run the full pipeline once, ask the real endpoint for three shoppers, and print a summary."""

import os
import signal
import time
from types import FrameType

from rich.console import Console
from rich.table import Table

from cli.absent import show_absent
from cli.answers import ask, show
from cli.checks import show_warnings
from cli.days import show_late
from cli.now import now_is
from cli.report import show_pages, show_results, show_verdict
from pipelines.local import LocalRun
from pipelines.memory import MemoryWatch
from pipelines.preflight import check_before_run
from pipelines.progress import Step
from pipelines.training_run import run_training
from recommender.allocation.scoring import BulkScorer
from recommender.errors import ServingError
from recommender.report.last_run import LastRun
from recommender.report.terminal import wide
from recommender.settings import Settings
from recommender.storage.home import Home, ServingState

STRANGER = "never-seen-before"
"""A user_id that no shop has, to show the answer for an unknown shopper."""


def run_once(settings: Settings, *, caching: bool, ask_three: bool) -> None:
    """Run the pipeline, ask the endpoint for three shoppers, stop it, and print the results."""
    console = wide()
    signal.signal(signal.SIGTERM, _ended)
    if ask_three:
        check_ports(settings)
    check_before_run(settings)
    with MemoryWatch() as memory:
        console.print(f"[bold]Training pipeline[/] on {settings.source.dataset} (home: {settings.home})")
        run = run_training(settings, console=console, memory=memory, caching=caching)
        steps, last = list(run.steps), LastRun(Home.of(settings))
        try:
            if ask_three:
                steps.append(_ask_three(settings, console, memory))
        finally:  # an endpoint that does not start must not hide the results of the run
            origin = last.origin()
            if origin is not None:
                show_warnings(console, settings, origin.data_hash)
            show_late(console, settings)
            show_absent(console, settings)
            show_verdict(console, last.verdict())
            show_results(console, last.evaluation())
            _show_steps(console, run, steps, memory.peak)
            show_pages(console, last)


def check_ports(settings: Settings) -> None:
    """Check before the first step that the endpoint can start after the last one.

    Raises:
        ServingError: a port is busy (named), or an endpoint of this home runs already.
    """
    from serving.deployer.processes import find, require_free

    serving = settings.serving
    if find(ServingState.of(settings).pid_file("gateway")) is not None:
        raise ServingError(
            "an endpoint of this home already runs and will apply this run's verdict automatically; "
            "skip the three questions with: recommender run --no-ask"
        )
    require_free(serving.host, serving.port, "the gateway", "port")
    for key in ("inference_port", "management_port", "metrics_port"):
        require_free("127.0.0.1", getattr(serving, key), "TorchServe", key)


def _ended(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ask_three(settings: Settings, console: Console, memory: MemoryWatch) -> Step:
    """Start the real endpoint, ask it for a heavy, a light and an unknown shopper, and stop what was started."""
    from serving.deployer.endpoint import serve

    title = "Serve and answer three shoppers"
    console.print(f"  … {title}", highlight=False)
    scorer = BulkScorer.open(settings.home)
    heavy, light = scorer.heaviest_and_lightest()
    settings = now_is(scorer.as_of, settings)
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
        log=ServingState.of(settings).root,
    )
    console.print(f"  [green]✔[/] {title:<44} {step.figures}\n", highlight=False)
    for who, answer in answers.items():
        show(console, who, answer)
    return step


def _show_steps(console: Console, run: LocalRun, steps: list[Step], peak_mib: float) -> None:
    table = Table("step", "time", "peak memory", title="Time and memory", title_justify="left")
    for step in steps:
        cached = step.status == "cached"
        table.add_row(
            step.title,
            "cached" if cached else f"{step.seconds:.1f} s",
            "" if cached else f"{step.peak_mib:,.0f} MiB",
        )
    table.add_section()
    total = sum(step.seconds for step in steps)
    table.add_row("total", f"{total:.1f} s", f"{peak_mib:,.0f} MiB")
    console.print(table)
    console.print(f"each step's log: {run.folder}", highlight=False, soft_wrap=True)
