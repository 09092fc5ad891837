"""Run a compiled pipeline on a KFP endpoint, wait for its verdict, or have it run on a schedule."""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines.compile import version_name
from pipelines.endpoint import Endpoint
from pipelines.kfp_refusals import may_hold_later
from pipelines.parameters import arguments_of, read_specification
from pipelines.run_states import ENDED, FailedStep, failed_steps, states, steps_of, verdict
from pipelines.schedules import with_seconds
from recommender.errors import EndpointError, SettingsError, suggestion

AWAY_S = 120.0
"""For so long an endpoint may be away while a run is watched: its pod is replaced in about a minute. Chosen by hand."""
LOG_LINES = 60
"""Lines of a failed step's log that are shown: a traceback and what stands before it. Chosen by hand."""
LAUNCHER = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ ")
"""How lines of KFP's launcher begin, and no line of ours."""
NEWEST = "the newest data"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What is to be run."""

    package: Path
    """The compiled pipeline."""
    pipeline: str
    """Its name at the endpoint."""
    sets: tuple[str, ...] = ()
    """Parameters over the compiled defaults, each as name=value."""
    experiment: str = ""
    name: str = ""
    """Of the run or schedule. Empty: made from challenger and as_of."""
    service_account: str = ""
    """Empty: the endpoint's own."""

    @property
    def version(self) -> str:
        """The version's name: the digest of the whole compiled file."""
        return version_name(self.pipeline, self.package)

    @cached_property
    def specification(self) -> dict[str, Any]:
        """The compiled pipeline, read."""
        return read_specification(self.package)

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The run's parameters. Raises SettingsError where one is unknown or of the wrong type."""
        return arguments_of(self.specification, self.sets)

    @property
    def pinned(self) -> str:
        """The moment that every run of this takes as "now". Empty: the newest data."""
        return str(self.arguments.get("as_of") or "")


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run or schedule that was started."""

    id: str
    name: str
    version: str
    uploaded: bool
    """The version was not at the endpoint before."""


@dataclass(kw_only=True)
class Outcome:
    """How a run ended."""

    state: str
    """SUCCEEDED, FAILED or CANCELED."""
    verdict: str | None
    failed: list[FailedStep] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    """The end of each failed step's log, by step."""
    error: str = ""
    """What the endpoint says of the run itself."""


def start(endpoint: Endpoint, submission: Submission) -> Started:
    """Start a run: its pipeline and version are uploaded if they are not there yet.

    Raises:
        SettingsError: a parameter is unknown or of the wrong type.
        EndpointError: the endpoint is away or refuses.
    """
    body, name, uploaded = _body(endpoint, submission)
    run_id = endpoint.start(body)
    return Started(id=run_id, name=name, version=submission.version, uploaded=uploaded)


def start_recurring(endpoint: Endpoint, submission: Submission, cron: str) -> Started:
    """Have the pipeline run by a cron expression of five fields, one run at a time; a missed time is not made up for.

    Raises:
        SettingsError: the expression or a parameter is wrong, or a schedule of this name exists.
        EndpointError: the endpoint is away or refuses.
    """
    trigger = {"cron_schedule": {"cron": with_seconds(cron)}}
    name = submission.name or f"{submission.pipeline} at {' '.join(cron.split())}"
    if name in {one["display_name"] for one in endpoint.recurring_runs()}:
        raise SettingsError(f"a schedule {name!r} exists: end it first (recommender schedules end), or give a --name")
    body, _, uploaded = _body(endpoint, submission)
    body |= {"display_name": name, "trigger": trigger, "mode": "ENABLE", "max_concurrency": "1", "no_catchup": True}
    return Started(id=endpoint.start_recurring(body), name=name, version=submission.version, uploaded=uploaded)


def end_recurring(endpoint: Endpoint, name: str) -> str:
    """End the schedule of this name or id. Returns its id.

    Raises:
        SettingsError: there is no such schedule, or several of the name.
        EndpointError: the endpoint is away or refuses.
    """
    known = endpoint.recurring_runs()
    found = [one["recurring_run_id"] for one in known if name in (one["display_name"], one["recurring_run_id"])]
    if not found:
        near = suggestion(name, [one["display_name"] for one in known]) if known else "there is none"
        raise SettingsError(f"no schedule {name!r}; {near}")
    if len(found) > 1:
        raise SettingsError(f"{len(found)} schedules are named {name!r}: give an id ({', '.join(found)})")
    endpoint.end_recurring(found[0])
    return str(found[0])


def follow(
    endpoint: Endpoint,
    run_id: str,
    specification: Mapping[str, Any],
    *,
    say: Callable[[str], None],
    waiting: Callable[[], Iterable[str]] = tuple,
    timeout_s: float,
    poll_s: float,
) -> Outcome | None:
    """Wait until a run ends.

    Args:
        endpoint: where it runs.
        run_id: the run.
        specification: the compiled pipeline, for the names of its steps.
        say: takes one line for each change of a step's state.
        waiting: why pods wait now, asked for while nothing changes.
        timeout_s: for how long to wait.
        poll_s: seconds between two looks.

    Returns:
        How it ended; None: it still runs after `timeout_s`.

    Raises:
        EndpointError: the endpoint refuses, or was away for two minutes. The run goes on.
    """
    steps = steps_of(specification)
    seen: dict[str, str] = {}
    told: set[str] = set()
    until = time.monotonic() + timeout_s
    while True:
        run = _patiently(lambda: endpoint.run(run_id), poll_s)
        now = states(run, steps)
        for name, state in now.items():
            if seen.get(name) != state:
                say(f"{name}: {state}")
        if now == seen:
            for reason in set(waiting()) - told:
                told.add(reason)
                say(f"a pod waits: {reason}")
        seen = now
        if run.get("state") in ENDED:
            return _outcome(endpoint, run_id, run, steps)
        if time.monotonic() >= until:
            return None
        time.sleep(min(poll_s, max(until - time.monotonic(), 0.0)))


def _outcome(endpoint: Endpoint, run_id: str, run: dict[str, Any], steps: tuple[str, ...]) -> Outcome:
    outcome = Outcome(state=str(run["state"]), verdict=None)
    if outcome.state == "SUCCEEDED":
        outcome.verdict = verdict(run)
        return outcome
    outcome.failed = failed_steps(run, steps)
    outcome.error = str((run.get("error") or {}).get("message", ""))
    for step in outcome.failed:
        try:
            lines = endpoint.log(run_id, step.node).splitlines() if step.node else []
        except EndpointError as error:
            # A pod that is gone has no log. What failed is still worth saying.
            lines = [str(error)]
        outcome.logs[step.name] = "\n".join(_of_step(lines)[-LOG_LINES:])
    return outcome


def _of_step(log: list[str]) -> list[str]:
    """A log without the lines of KFP's launcher, which end every log; all of it where there are no others."""
    return [line for line in log if not LAUNCHER.match(line)] or log


def _body(endpoint: Endpoint, submission: Submission) -> tuple[dict[str, Any], str, bool]:
    """What a run and a schedule have in common, a run's name, and whether the version was uploaded now."""
    pipeline_id = endpoint.pipeline_with(submission.pipeline)
    version_id, uploaded = endpoint.version_with(pipeline_id, submission.version, submission.package)
    name = submission.name or _run_name(submission)
    body: dict[str, Any] = {
        "display_name": name,
        "experiment_id": endpoint.experiment_with(submission.experiment or submission.pipeline),
        "pipeline_version_reference": {"pipeline_id": pipeline_id, "pipeline_version_id": version_id},
        "runtime_config": {"parameters": submission.arguments},
    }
    if submission.service_account:
        body["service_account"] = submission.service_account
    return body, name, uploaded


def _run_name(submission: Submission) -> str:
    what = submission.arguments.get("challenger") or submission.pipeline
    return f"{what}, as of {submission.pinned or NEWEST}"


def _patiently(ask: Callable[[], dict[str, Any]], poll_s: float) -> dict[str, Any]:
    """An answer, although the endpoint may be away for a while."""
    until = time.monotonic() + AWAY_S
    while True:
        try:
            return ask()
        except EndpointError as error:
            if not may_hold_later(error) or time.monotonic() >= until:
                raise
        time.sleep(poll_s)
