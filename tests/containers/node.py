"""Runs the pods of rendered manifests by an engine, with their users, read-only roots, limits and volumes.

All containers share one network namespace that has only a loopback address, in which every Service's name is that
address. So nothing listens on this machine, and nothing is reached from it.

It does not show admission, NetworkPolicies, ServiceAccount tokens and scheduling.
"""

import json
import socket
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine import Engine
from kustomized import Resources, of_kind

from components.images import SERVING_IMAGE

ASK = """
import json, sys, urllib.error, urllib.request
method, url, body, headers, timeout_s = json.loads(sys.argv[1])
request = urllib.request.Request(url, data=body.encode() if body else None, headers=headers, method=method)
try:
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
except OSError as error:
    print(json.dumps([0, str(error)]))
"""

HOSTNAME = "node"


@dataclass(frozen=True)
class Mount:
    """A folder of this machine and where a container sees it."""

    folder: Path
    path: str
    read_only: bool = False


@dataclass
class Node:
    """Runs pods in `folder`. Leaving its block removes its containers and volumes."""

    engine: Engine
    folder: Path
    resources: Resources
    secrets: dict[str, dict[str, str]]
    """Secret -> key -> value."""
    image: str = SERVING_IMAGE
    """What holds the network and removes files: any image of ours."""
    network: str = ""
    """By default a namespace of this node's own. "host": this machine's, whose servers its containers then reach."""
    id: str = field(default_factory=lambda: f"recommender-test-{uuid.uuid4().hex[:8]}")
    _names: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        services = " ".join(service["metadata"]["name"] for service in of_kind(self.resources, "Service"))
        self.folder.mkdir(parents=True, exist_ok=True)
        # As in a pod, a container knows its own name: Java asks for it. On this network it is the machine's.
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {HOSTNAME} {socket.gethostname()} {services}\n")
        if not self.network:
            self._names.append(f"{self.id}-network")
            asked = ["run", "-d", "--name", self._names[0], "--hostname", HOSTNAME, "--network", "none"]
            self.engine.output(*asked, self.image, "sleep", "infinity")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(self._names):
            self.engine("rm", "-f", name)
        # Files on volumes belong to the images' user, whom this process may not be.
        self.engine(
            "run",
            "--rm",
            "--user",
            "0",
            "--network",
            "none",
            "-v",
            f"{self.folder}:/node",
            self.image,
            "sh",
            "-c",
            "rm -rf /node/*",
        )

    def volume(self, name: str) -> Path:
        """A folder that anybody may write, as a new volume of kind and minikube is."""
        place = self.folder / "volumes" / name
        if not place.is_dir():
            place.mkdir(parents=True)
            place.chmod(0o777)
        return place

    def command(
        self,
        name: str,
        image: str,
        argv: list[str],
        *,
        context: dict[str, Any],
        mounts: list[Mount],
        env: dict[str, str],
        memory: str = "",
        entrypoint: bool = True,
    ) -> list[str]:
        """Arguments of `run` for a container with a pod's and its own security context.

        `entrypoint`: whether the first word of `argv` is the program. Else the image's own is, and gets all words.
        """
        words = ["--name", f"{self.id}-{name}", "--network", self.network or f"container:{self._names[0]}"]
        words += [
            "-v",
            f"{self.folder / 'hosts'}:/etc/hosts:ro",
            "--user",
            ":".join(str(context[key]) for key in ("runAsUser", "runAsGroup") if key in context),
        ]
        if "podman" in self._version and not self.network:
            words += ["--hostname", HOSTNAME]  # docker gives it with the network
        if context.get("readOnlyRootFilesystem"):
            words.append("--read-only")
        if not context.get("allowPrivilegeEscalation", True):
            words += ["--security-opt", "no-new-privileges"]
        for capability in context.get("capabilities", {}).get("drop", []):
            words += ["--cap-drop", capability]
        for capability in context.get("capabilities", {}).get("add", []):
            words += ["--cap-add", capability]
        if memory:
            words += ["--memory", memory.removesuffix("i").lower()]
        for key, value in env.items():
            words += ["-e", f"{key}={value}"]
        for mount in mounts:
            words += ["-v", f"{mount.folder}:{mount.path}{':ro' if mount.read_only else ''}"]
        self._names.append(f"{self.id}-{name}")
        if not entrypoint:
            return [*words, image, *argv]
        program = json.dumps(argv[:1]) if "podman" in self._version else argv[0]
        return [*words, "--entrypoint", program, image, *argv[1:]]

    @property
    def _version(self) -> str:
        return self.engine.output("--version")

    def start(self, kind: str, workload: str, only: str = "") -> list[str]:
        """Start the containers of a Deployment or StatefulSet, or the one named `only`. Returns their names."""
        return [
            self.run(workload, container)
            for container in self._containers(kind, workload)
            if only in ("", container["name"])
        ]

    def run_job(self, cron_job: str) -> tuple[int, str]:
        """Run a CronJob's containers once. Returns the exit code and what they wrote."""
        (container,) = self._containers("CronJob", cron_job)
        done = self.engine("run", *self._words(cron_job, container))
        return done.returncode, done.stdout + done.stderr

    def output_of(self, name: str, container: dict[str, Any]) -> str:
        """Run a container to its end and return what it printed. Fails with what it complains about."""
        words = self._words(name, container)
        return self.engine.output("run", "--rm", *words)

    def ask(
        self, method: str, url: str, *, body: object = None, token: str = "", timeout_s: float = 20.0
    ) -> tuple[int, Any]:
        """Send a request inside the network namespace. Status 0: nobody answered."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        asked = json.dumps([method, url, json.dumps(body) if body is not None else "", headers, timeout_s])
        status, text = json.loads(self.engine.output("exec", self._names[0], "python", "-c", ASK, asked))
        return status, text

    def probe(self, workload: str, container: dict[str, Any], which: str) -> bool:
        """What a kubelet's probe of a running container finds."""
        asked = container[f"{which}Probe"]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        timeout_s = float(asked.get("timeoutSeconds", 1))
        if "exec" in asked:
            return (
                self.engine("exec", f"{self.id}-{workload}-{container['name']}", *asked["exec"]["command"]).returncode
                == 0
            )
        if "httpGet" in asked:
            port = ports.get(asked["httpGet"]["port"], asked["httpGet"]["port"])
            status, _ = self.ask("GET", f"http://127.0.0.1:{port}{asked['httpGet']['path']}", timeout_s=timeout_s)
            return 200 <= status < 400
        port = ports.get(asked["tcpSocket"]["port"], asked["tcpSocket"]["port"])
        program = f"import socket; socket.create_connection(('127.0.0.1', {port}), {timeout_s})"
        return self.engine("exec", self._names[0], "python", "-c", program).returncode == 0

    def stop(self, name: str) -> tuple[float, int]:
        """Send SIGTERM and wait. Returns the seconds until the container ended, and its exit code."""
        began = time.monotonic()
        self.engine.output("kill", "--signal", "TERM", name)
        code = int(self.engine.output("wait", name, timeout_s=60).splitlines()[-1])
        return time.monotonic() - began, code

    def said(self, name: str) -> str:
        """Everything that a container has written."""
        done = self.engine("logs", name)
        return done.stdout + done.stderr

    def _containers(self, kind: str, workload: str) -> list[dict[str, Any]]:
        (found,) = (one for one in of_kind(self.resources, kind) if one["metadata"]["name"] == workload)
        pod = found["spec"]["jobTemplate"]["spec"]["template"] if kind == "CronJob" else found["spec"]["template"]
        claims = [one["metadata"]["name"] for one in found["spec"].get("volumeClaimTemplates", [])]
        volumes = pod["spec"].get("volumes", []) + [
            {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{workload}-0"}} for name in claims
        ]
        return [{**one, "pod": {**pod["spec"], "volumes": volumes}} for one in pod["spec"]["containers"]]

    def containers(self, kind: str, workload: str) -> list[dict[str, Any]]:
        """The containers of a workload's pod, as its manifest has them."""
        return self._containers(kind, workload)

    def run(self, workload: str, container: dict[str, Any]) -> str:
        """Start a container in the background. Returns its name."""
        self.engine.output("run", "-d", *self._words(workload, container))
        return f"{self.id}-{workload}-{container['name']}"

    def _words(self, workload: str, container: dict[str, Any]) -> list[str]:
        volumes = {one["name"]: one for one in container["pod"]["volumes"]}
        mounts = [
            Mount(self._folder(workload, volumes[one["name"]]), one["mountPath"], bool(one.get("readOnly")))
            for one in container.get("volumeMounts", [])
        ]
        return self.command(
            f"{workload}-{container['name']}",
            container["image"],
            [*container.get("command", []), *container.get("args", [])],
            entrypoint="command" in container,
            context={**container["pod"].get("securityContext", {}), **container.get("securityContext", {})},
            mounts=mounts,
            env={one["name"]: one["value"] for one in container.get("env", [])},
            memory=container["resources"]["limits"]["memory"],
        )

    def _folder(self, workload: str, volume: dict[str, Any]) -> Path:
        name = volume["name"]
        if "emptyDir" in volume:
            return self.volume(f"{workload}-{name}")
        if claim := volume.get("persistentVolumeClaim"):
            return self.volume(claim["claimName"])
        place = self.folder / "files" / f"{workload}-{name}"
        place.mkdir(parents=True, exist_ok=True)
        for file, text in self._files(volume).items():
            (place / file).write_text(text)
            (place / file).chmod(0o644)
        return place

    def _files(self, volume: dict[str, Any]) -> dict[str, str]:
        if "configMap" in volume:
            wanted = volume["configMap"]["name"]
            (found,) = (one for one in of_kind(self.resources, "ConfigMap") if one["metadata"]["name"] == wanted)
            return dict(found["data"])
        secret = volume.get("secret")
        sources = (
            volume["projected"]["sources"] if secret is None else [{"secret": {"name": secret["secretName"], **secret}}]
        )
        return {
            path: self.secrets[source["secret"]["name"]][key]
            for source in sources
            for key, path in self._keys(source["secret"]).items()
        }

    def _keys(self, secret: dict[str, Any]) -> dict[str, str]:
        """Which keys of a Secret are mounted, and as which files. Empty: it is optional and was not made."""
        if "items" in secret:
            return {item["key"]: item["path"] for item in secret["items"]}
        if secret.get("optional") and secret["name"] not in self.secrets:
            return {}
        return {key: key for key in self.secrets[secret["name"]]}
