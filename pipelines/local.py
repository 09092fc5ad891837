"""Run a compiled pipeline on this machine, and record each step's time, memory and log.

The pipeline runs in a separate process (`pipelines.execute`), because kfp.local prints everything to the process's
output. This module reads that output line by line.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, TextIO

import yaml
from rich.console import Console

from components.step import DETAILS
from pipelines.memory import MemoryWatch
from pipelines.progress import Step, StepDisplay
from recommender.errors import SettingsError, StepFailed
from recommender.storage.home import Home, RunFolder
from recommender.storage.in_use import in_use
from recommender.storage.manifest import write_text

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
STARTS = re.compile(r" - INFO - Executing task '(?P<name>[\w-]+)'")
ENDS = re.compile(r" - (?:INFO|ERROR) - Task '(?P<name>[\w-]+)' finished with status (?P<status>\w+)")
CACHED = re.compile(r" - INFO - Task (?P<name>[\w-]+) cache hit")
RANKER = re.compile(r'^ {16}"ranker": "(?P<ranker>\w+)",?$')
"""The step's parameter `ranker`, as kfp.local prints a step's input: JSON, indented by 16."""
ERROR = re.compile(
    r"^\s*(?:[\w.]+\.)?(?P<kind>[A-Z]\w*(?:Error|Failed|Away|Broken|Exception|Interrupt|Exit)): (?P<message>.*)"
)
"""The last line of a traceback, or of a step that was refused (`components.step`)."""
KEPT_LINES = 20
"""Lines of the runner's own output that are kept, for the case that it fails outside a step. By hand."""
SHOWN_LINES, SHOWN_STEP_LINES = 6, 3
"""Lines shown of the runner's output, and of a step that ended without an error message."""


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """A finished run. Written as JSON beside its logs."""

    id: str
    folder: Path
    """Arguments, specification and step logs."""
    artifacts: Path
    """The steps' outputs, in kfp.local's layout."""
    steps: list[Step]
    seconds: float
    peak_mib: float


@dataclass
class _Watch:
    """Reads kfp.local's output line by line and turns it into steps, each with a separate log."""

    titles: Mapping[str, str]
    folder: RunFolder
    display: StepDisplay
    memory: MemoryWatch
    steps: list[Step] = field(default_factory=list)
    name: str = ""
    title: str = ""
    lines: list[str] = field(default_factory=list)
    _since: float = 0.0
    _log: TextIO | None = None

    def read(self, line: str) -> None:
        """Take one line of the runner's output."""
        text = COLOUR.sub("", line.rstrip("\n"))
        if found := STARTS.search(text):
            self._start(found["name"])
        elif found := CACHED.search(text):
            title = self.titles.get(found["name"], found["name"])
            self._add(Step(name=found["name"], title=title, status="cached", seconds=0, peak_mib=0, log=None))
        elif (found := ENDS.search(text)) and self._log is not None:
            self._end(self._log, ok=found["status"] == "SUCCESS")
        elif self._log is not None:
            if found := RANKER.match(text):
                self.title = f"{self.titles.get(self.name, self.name)}: {found['ranker']}"
                self.display.renamed(self.title)
            own = text.removeprefix("    ")  # kfp.local indents what a step prints
            self._log.write(own + "\n")
            self._log.flush()
            self.lines.append(own)

    def _start(self, name: str) -> None:
        self.name, self.title, self.lines = name, self.titles.get(name, name), []
        self._since = time.monotonic()
        self.memory.step_peak()
        earlier = sum(1 for step in self.steps if step.name == name)
        self._log = self.folder.log(name, earlier).open("w", encoding="utf-8")
        self.display.started(self.title)

    def _end(self, log: TextIO, *, ok: bool) -> None:
        log.close()
        self._log = None
        self._add(
            Step(
                name=self.name,
                title=self.title,
                status="done" if ok else "failed",
                seconds=time.monotonic() - self._since,
                peak_mib=self.memory.step_peak(),
                log=Path(log.name),
            )
        )

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.display.finished(step)


def new_run_id() -> str:
    """An id for a run: the moment in UTC, to the microsecond, so that ids sort by time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def run_pipeline(
    run_id: str,
    arguments: Mapping[str, Any],
    *,
    home: Home,
    console: Console,
    memory: MemoryWatch,
    caching: bool = True,
) -> LocalRun:
    """Run the compiled pipeline that lies in `home.run(run_id)`, and write its logs, arguments and figures beside it.

    Raises:
        StepFailed: a step failed. Holds the step's message and names its log.
        SettingsError: the path of `home` has a part that kfp.local would rewrite.
    """
    with in_use(home):
        return _run(run_id, arguments, home=home, console=console, memory=memory, caching=caching)


def _run(
    run_id: str, arguments: Mapping[str, Any], *, home: Home, console: Console, memory: MemoryWatch, caching: bool
) -> LocalRun:
    artifacts = home.pipeline_artifacts.resolve()
    if "python3" in str(artifacts):
        raise SettingsError(
            f"home: {artifacts}: kfp.local rewrites 'python3' in paths; choose a folder without it in its path"
        )
    folder = home.run(run_id)
    write_text(folder.arguments, json.dumps(dict(arguments), indent=1, sort_keys=True))
    command = [sys.executable, "-u", "-m", "pipelines.execute"]
    command += [str(folder.specification), str(folder.arguments), str(artifacts / run_id)]
    if caching:
        command.append(str(home.pipeline_cache.resolve()))
    began = time.monotonic()
    with StepDisplay(console) as display:
        watch = _Watch(titles=titles(folder.specification), folder=folder, display=display, memory=memory)
        code, output = _follow(command, watch, memory)
    run = LocalRun(
        id=run_id,
        folder=folder.root,
        artifacts=artifacts / run_id,
        steps=watch.steps,
        seconds=time.monotonic() - began,
        peak_mib=memory.peak,
    )
    write_text(folder.figures, json.dumps(asdict(run), indent=1, default=str))
    if code != 0:
        raise StepFailed(_why(watch, output))
    return run


def titles(specification: Path) -> dict[str, str]:
    """Display names by component and task. kfp.local prints the component when a step runs, the task on a cache hit."""
    found: dict[str, str] = {}
    document = next(iter(yaml.safe_load_all(specification.read_text(encoding="utf-8"))))
    dags = [document["root"], *document["components"].values()]
    for dag in dags:
        for name, task in dag.get("dag", {}).get("tasks", {}).items():
            title = task["taskInfo"]["name"]
            found[name] = found[task["componentRef"]["name"].removeprefix("comp-")] = title
    return found


def _follow(command: list[str], watch: _Watch, memory: MemoryWatch) -> tuple[int, list[str]]:
    """Run `command`, feed its output to `watch`, and return its exit code and last lines.

    When this process is interrupted, the command is ended together with its children.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    last: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        env=environment,
        start_new_session=True,
    ) as process:
        memory.runner = process.pid
        try:
            assert process.stdout is not None
            for line in process.stdout:
                last = [*last[-KEPT_LINES:], line.rstrip("\n")]
                watch.read(line)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            memory.runner = None
    return process.returncode, last


def _why(watch: _Watch, output: list[str]) -> str:
    """The failed step's own message: its output from the last error line on."""
    failed = next((step for step in watch.steps if step.status == "failed"), None)
    if failed is None:
        shown = output[-SHOWN_LINES:]
        return "\n".join(["the local runner itself failed:", *shown, f"Logs: {watch.folder.root}"])
    lines = [line for line in watch.lines if line.strip()]
    errors = [(number, found["message"]) for number, line in enumerate(lines) if (found := ERROR.match(line))]
    if errors:
        number, message = errors[-1]
        shown = [message, *_details(lines[:number]), *lines[number + 1 :]]
    else:
        shown = ["it ended without an error message (killed, or out of memory?)", *lines[-SHOWN_STEP_LINES:]]
    return "\n".join([f"{failed.title}: {shown[0]}", *shown[1:], f"Log: {failed.log}"])


def _details(lines: list[str]) -> list[str]:
    """The details of a refusal, which stand above its sentence. None where `lines` end with something else."""
    indented = list(takewhile(lambda line: line.startswith("  "), reversed(lines)))[::-1]
    above = lines[: len(lines) - len(indented)]
    return indented if above and above[-1] == DETAILS else []
