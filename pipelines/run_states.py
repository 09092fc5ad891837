"""What a run's answer says: the state of each step, the pods of failed steps, and the verdict.

A run's `task_details` are the nodes of an Argo workflow. A step `x` appears as the tasks `x`, `x(0)`, `x-driver`,
`x-driver(0)`, `executor` and `executor(0)` (a second try is `executor(1)`). A task names its children by node id and
not itself, so an executor is the step's that started at the same time. A task that did not run has no state.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

EXECUTOR, DRIVER = "executor", "-driver"
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
"""States of a run that do not change any more."""
FAILED = ("FAILED", "SYSTEM_ERROR", "ERROR")
PROMOTE, HOLD = "PROMOTE", "HOLD"
STEP_OF_VERDICT = {"deploy": PROMOTE, "hold": HOLD}
"""Which step says which verdict by having run."""


@dataclass(frozen=True, kw_only=True)
class FailedStep:
    """A step that failed, and the pod whose log says why."""

    name: str
    node: str
    """Node id of the pod. Empty: no pod was started."""
    in_driver: bool = False
    """KFP's driver failed, before the step's own pod was started."""


def steps_of(specification: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of a compiled pipeline's steps that run a container, in the order of their names."""
    components = specification["components"]
    dags = [specification["root"]["dag"], *(part["dag"] for part in components.values() if "dag" in part)]
    tasks = [(name, task) for dag in dags for name, task in dag["tasks"].items()]
    with_container = {name for name, part in components.items() if "executorLabel" in part}
    return tuple(sorted({name for name, task in tasks if task["componentRef"]["name"] in with_container}))


def states(run: Mapping[str, Any], steps: Iterable[str]) -> dict[str, str]:
    """The state of every step that has one, in the order of their starts.

    A step in a loop is RUNNING until all of it ended, and FAILED if any of it is.
    """
    found: dict[str, str] = {}
    names = set(steps)
    for task in sorted(_tasks(run), key=lambda one: str(one.get("start_time", ""))):
        shown, state = str(task.get("display_name", "")), task.get("state")
        name = shown.removesuffix(DRIVER)
        if name not in names or state is None or (shown != name and state not in FAILED):
            continue
        found[name] = _worse(found.get(name, state), "FAILED" if state in FAILED else state)
    return found


def _worse(one: str, other: str) -> str:
    """Of two parts of a step: a failed one before one that is under way, and that before one that ended."""
    return min(one, other, key=lambda state: (state != "FAILED", state in ENDED))


def failed_steps(run: Mapping[str, Any], steps: Iterable[str]) -> list[FailedStep]:
    """The steps that failed, each with the pod to ask for its log."""
    found: dict[tuple[str, str], FailedStep] = {}
    names = set(steps)
    for task in _tasks(run):
        name, state = str(task.get("display_name", "")), task.get("state")
        if state not in FAILED:
            continue
        if name in names:
            node = _node(_executors_beside(run, task))
            if node:
                found[name, node] = FailedStep(name=name, node=node)
        elif name.removesuffix(DRIVER) in names:
            node = _node([task])
            found[name, node] = FailedStep(name=name.removesuffix(DRIVER), node=node, in_driver=True)
    named = {step.name for step in found.values()}
    lost = [FailedStep(name=name, node="") for name, state in states(run, names).items() if state == "FAILED"]
    return [*found.values(), *(step for step in lost if step.name not in named)]


def verdict(run: Mapping[str, Any]) -> str | None:
    """PROMOTE or HOLD, by which of the two steps ran. None: neither did."""
    done = {task.get("display_name") for task in _tasks(run) if task.get("state") == "SUCCEEDED"}
    return next((said for step, said in STEP_OF_VERDICT.items() if step in done), None)


def _tasks(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = (run.get("run_details") or {}).get("task_details") or []
    return tasks


def _executors_beside(run: Mapping[str, Any], step: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Failed executors that started with a step: its own, and that of another that started and failed beside it."""
    return [
        task
        for task in _tasks(run)
        if task.get("display_name") == EXECUTOR
        and task.get("state") in FAILED
        and task.get("start_time") == step.get("start_time")
    ]


def _node(tasks: Iterable[Mapping[str, Any]]) -> str:
    """The last pod of the first of some tasks: a task's last try."""
    children = [child["pod_name"] for task in tasks for child in task.get("child_tasks", [])]
    return str(children[-1]) if children else ""
