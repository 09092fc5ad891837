"""Runs a compiled pipeline, each step in its image: kfp.local follows the graph, a node runs the containers.

What KFP's launcher does on a cluster is done here: it starts the command with umask 0 and hands a signal on.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from node import Mount, Node

from components.images import PIPELINE_IMAGE

LAUNCHER = """
import os, signal, subprocess, sys
os.umask(0)
step = subprocess.Popen(sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: step.terminate())
sys.exit(step.wait())
"""


class StepsOf:
    """The steps of one compiled pipeline on a node."""

    def __init__(self, node: Node, specification: Path, extra: list[Mount]) -> None:
        self.node, self.specification, self.extra = node, specification, extra
        spec, platform = yaml.safe_load_all(specification.read_text())
        self.executors = {
            _function(one["container"]["command"] + one["container"]["args"]): (name, one["container"])
            for name, one in spec["deploymentSpec"]["executors"].items()
        }
        self.platform = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self.ran: list[str] = []

    def words(self, argv: list[str], root: Path, name: str) -> list[str]:
        """Arguments of `run` for a step's container, as its compiled specification says."""
        function = _function(argv)
        label, container = self.executors[function]
        pod = self.platform[label]
        user = pod["securityContext"]
        mounts = [Mount(root, str(root)), Mount(self.node.volume(f"tmp-{name}"), "/tmp"), *self.extra]
        mounts += [Mount(self.node.volume(one["constant"]), one["mountPath"]) for one in pod["pvcMount"]]
        for one in pod["secretAsVolume"]:
            folder = self.node.volume(f"secret-{one['secretName']}")
            for key, value in self.node.secrets[one["secretName"]].items():
                (folder / key).write_text(value)
            mounts.append(Mount(folder, one["mountPath"], read_only=True))
        context = {
            **{"runAsUser": user["runAsUser"], "runAsGroup": user["runAsGroup"], "capabilities": {"drop": ["ALL"]}},
            **{"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
        }
        return self.node.command(
            name,
            self.image(container["image"], root),
            ["python", "-c", LAUNCHER, *argv],
            context=context,
            mounts=mounts,
            env={one["name"]: one["value"] for one in container.get("env", [])},
            memory=container["resources"]["resourceMemoryLimit"],
        )

    def image(self, named: str, root: Path) -> str:
        """An image that the specification names, or that the first step chose by the run's device."""
        if not named.startswith("{{"):
            return named
        (written,) = root.rglob("check-settings/executor_output.json")
        return str(json.loads(written.read_text())["parameterValues"]["image"])

    def run(self, root: Path) -> None:
        """Run the whole pipeline. Artifacts lie in `root`.

        Raises:
            RuntimeError: a step failed. What it wrote was printed.
        """
        from kfp import components

        with self._handled(root):
            components.load_component_from_file(str(self.specification))()

    def run_alone(self, component: Callable[..., Any], root: Path, **arguments: str) -> None:
        """Run one component.

        Raises:
            RuntimeError: it failed.
        """
        with self._handled(root):
            component(**arguments)

    @contextmanager
    def _handled(self, root: Path) -> Iterator[None]:
        from kfp import local
        from kfp.local import subprocess_task_handler

        steps = self

        class InContainer(subprocess_task_handler.SubprocessTaskHandler):
            """Runs a task of kfp.local in a container instead of a process."""

            def run(self) -> Any:
                from kfp.local import status

                function = _function(self.full_command)
                name = f"step-{len(steps.ran)}-{function.replace('_', '-')}"
                steps.open_to_all(root)
                done = steps.node.engine("run", *steps.words(self.full_command, root, name))
                steps.open_to_all(root)
                steps.ran.append(function)
                print(done.stdout + done.stderr)
                return status.Status.SUCCESS if done.returncode == 0 else status.Status.FAILURE

        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            patch.setattr(subprocess_task_handler, "SubprocessTaskHandler", InContainer)
            local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root), enable_caching=False)
            yield

    def open_to_all(self, root: Path) -> None:
        """Let this process and the step's user read and write artifacts, which KFP's launcher would carry away."""
        words = ["run", "--rm", "--user", "0", "--network", "none", "-v", f"{root}:{root}", PIPELINE_IMAGE]
        self.node.engine.output(*words, "chmod", "-R", "a+rwX", str(root))


def _function(argv: list[str]) -> str:
    """The name of the step's function among its arguments."""
    return argv[argv.index("--function_to_execute") + 1]
