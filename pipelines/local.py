"""Run a compiled pipeline on this machine and watch it: what runs, how long, how much memory, where its log is."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import yaml
from rich.console import Console

from pipelines.memory import MemoryWatch
from pipelines.progress import Step, StepDisplay
from recommender.errors import SettingsError, StepFailed
from recommender.storage.manifest import write_text

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
STARTS = re.compile(r" - INFO - Executing task '(?P<name>[\w-]+)'")
ENDS = re.compile(r" - (?:INFO|ERROR) - Task '(?P<name>[\w-]+)' finished with status (?P<status>\w+)")
CACHED = re.compile(r" - INFO - Task (?P<name>[\w-]+) cache hit")
RANKER = re.compile(r'^ {16}"ranker": "(?P<ranker>\w+)",?$')
ERROR = re.compile(r"^\s*(?:[\w.]+\.)?(?P<kind>[A-Z]\w*(?:Error|Failed|Exception|Interrupt|Exit)): (?P<message>.*)")


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """A finished run: its steps and the folder (`home/runs/<id>`) that holds their logs."""

    id: str
    folder: Path
    root: Path
    steps: list[Step]
    seconds: float
    peak_mib: float

    def artifact(self, step: str, name: str) -> Path | None:
        """Where a step of this run wrote an artifact; None when the step did not run."""
        return next(iter(sorted(self.root.glob(f"*/{step}/{name}"))), None)


@dataclass
class _Watch:
    """Reads kfp.local's output line by line and turns it into steps and one log file a step."""

    titles: Mapping[str, str]
    folder: Path
    display: StepDisplay
    memory: MemoryWatch
    steps: list[Step] = field(default_factory=list)
    name: str = ""
    title: str = ""
    lines: list[str] = field(default_factory=list)
    _since: float = 0.0
    _log: TextIO | None = None
    _failed: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        text = COLOUR.sub("", line.rstrip("\n"))
        if found := STARTS.search(text):
            self._start(found["name"])
        elif found := CACHED.search(text):
            title = self.titles.get(found["name"], found["name"])
            self._add(Step(name=found["name"], title=title, status="cached", seconds=0, peak_mib=0, log=None))
        elif (found := ENDS.search(text)) and self._log is not None:
            self._end(ok=found["status"] == "SUCCESS")
        elif self._log is not None:
            if found := RANKER.match(text):
                self.title = f"{self.titles.get(self.name, self.name)}: {found['ranker']}"
                self.display.renamed(self.title)
            self._log.write(text.removeprefix("    ") + "\n")
            self._log.flush()
            self.lines.append(text.removeprefix("    "))

    def _start(self, name: str) -> None:
        self.name, self.title, self.lines = name, self.titles.get(name, name), []
        self._since = time.monotonic()
        self.memory.step_peak()
        taken = sum(1 for step in self.steps if step.name == name)
        path = self.folder / (f"{name}.log" if not taken else f"{name}-{taken}.log")
        self._log = path.open("w", encoding="utf-8")
        self.display.started(self.title)

    def _end(self, *, ok: bool) -> None:
        assert self._log is not None
        self._log.close()
        log, self._log = Path(self._log.name), None
        self._add(
            Step(
                name=self.name,
                title=self.title,
                status="done" if ok else "failed",
                seconds=time.monotonic() - self._since,
                peak_mib=self.memory.step_peak(),
                log=log,
            )
        )

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.display.finished(step)


def run_pipeline(
    spec: Path, arguments: Mapping[str, Any], *, home: Path, console: Console, memory: MemoryWatch, caching: bool = True
) -> LocalRun:
    """Run the compiled pipeline `spec`. Logs, arguments and figures go to `home/runs/<id>`, artifacts to `home/kfp`.

    Raises:
        StepFailed: a step failed; holds its own message and names its log.
        SettingsError: the folder's path has a part that kfp.local would rewrite.
    """
    root = (home / "kfp").resolve()
    if "python3" in str(root):
        raise SettingsError(
            f"{root}: kfp.local rewrites 'python3' in paths; set `home` to a folder without it in its path"
        )
    run_id = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = home / "runs" / run_id
    write_text(folder / "arguments.json", json.dumps(dict(arguments), indent=1, sort_keys=True))
    shutil.copyfile(spec, folder / "pipeline.yaml")
    command = [
        sys.executable,
        "-u",
        "-m",
        "pipelines.execute",
        str(spec),
        str(folder / "arguments.json"),
        str(root / run_id),
    ]
    if caching:
        command.append(str(root / "cache"))
    began = time.monotonic()
    with StepDisplay(console) as display:
        watch = _Watch(titles=titles(spec), folder=folder, display=display, memory=memory)
        code, output = _follow(command, watch, memory)
    _keep_cacheable(root / run_id)
    run = LocalRun(
        id=run_id,
        folder=folder,
        root=root / run_id,
        steps=watch.steps,
        seconds=time.monotonic() - began,
        peak_mib=memory.peak,
    )
    write_text(folder / "run.json", json.dumps(asdict(run), indent=1, default=str))
    if code != 0:
        raise StepFailed(_why(watch, output, folder), root=run.root)
    return run


def _keep_cacheable(root: Path) -> None:
    """Give every artifact of this run a file: metrics live in an artifact's metadata, and kfp.local takes a cached step whose
    artifact has no file for lost."""
    for written in root.glob("**/executor_output.json"):
        said = json.loads(written.read_text(encoding="utf-8"))
        for artifacts in said.get("artifacts", {}).values():
            for artifact in artifacts["artifacts"]:
                path = Path(artifact["uri"])
                if path.is_relative_to(root) and not path.exists():
                    path.touch()


def titles(spec: Path) -> dict[str, str]:
    """Display name by component and by task (kfp.local names the one when a step runs, the other on a cache hit)."""
    found: dict[str, str] = {}
    document = next(iter(yaml.safe_load_all(spec.read_text(encoding="utf-8"))))
    dags = [document["root"], *document["components"].values()]
    for dag in dags:
        for name, task in dag.get("dag", {}).get("tasks", {}).items():
            title = task["taskInfo"]["name"]
            found[name] = found[task["componentRef"]["name"].removeprefix("comp-")] = title
    return found


def _follow(command: list[str], watch: _Watch, memory: MemoryWatch) -> tuple[int, list[str]]:
    """Run `command`, feeding its output to `watch`; ended with its children when this process is interrupted."""
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
                last = [*last[-20:], line.rstrip("\n")]
                watch.read(line)
        except BaseException:
            os.killpg(process.pid, 15)
            raise
        finally:
            memory.runner = None
    return process.returncode, last


def _why(watch: _Watch, output: list[str], folder: Path) -> str:
    """The failed step's own words: from its last error line on."""
    failed = next((step for step in watch.steps if step.status == "failed"), None)
    if failed is None:
        return "\n".join(["the local runner itself failed:", *output[-6:], f"Logs: {folder}"])
    lines = [line for line in watch.lines if line.strip()]
    last = max((number for number, line in enumerate(lines) if ERROR.match(line)), default=None)
    if last is None:
        said = ["it ended without an error message (killed, or out of memory?)", *lines[-3:]]
    else:
        found = ERROR.match(lines[last])
        assert found is not None
        said = [found["message"], *lines[last + 1 :]]
    return "\n".join([f"{failed.title}: {said[0]}", *said[1:], f"Log: {failed.log}"])
