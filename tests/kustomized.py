"""Renders overlays and components as `kubectl kustomize` does, also in combinations that no folder holds."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
OVERLAYS = ("standalone", "profile", "local", "demo", "production")
NAMESPACES = {
    **{"standalone": "kubeflow", "local": "kubeflow", "demo": "kubeflow"},
    **{"profile": "campaigns", "production": "campaigns"},
}
ADDED = (
    "gateway-api",
    "monitoring",
    "external-redis",
    "external-postgres",
    "housekeeping",
    "autoscaling",
    "autoscaling-keda",
    "pull-secrets",
    "spark",
    "engine-in-process",
    "engine-oip",
)
"""Components that a person adds to an overlay by one line."""

Resources = list[dict[str, Any]]


class Compiled(NamedTuple):
    """The training pipeline as KFP gets it."""

    text: str
    spec: dict[str, Any]
    """What its steps are."""
    platform: dict[str, Any]
    """What Kubernetes is told of each step's pod, by the step's name."""


def kustomize(folder: Path) -> subprocess.CompletedProcess[str]:
    """What `kubectl kustomize` says of a folder."""
    command = [str(Path(sys.executable).with_name("kubectl")), "kustomize", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def overlay_of(folder: Path, overlay: str, components: Sequence[str]) -> Path:
    """A copy of k8s/ in `folder` with an overlay of its own: `overlay`, and a line for each component."""
    shutil.copytree(K8S, folder / "k8s")
    own = folder / "k8s" / "overlays" / "own"
    own.mkdir()
    kustomization: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACES[overlay],
        "resources": [f"../{overlay}"],
        "components": [f"../../components/{one}" for one in components],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return own


def rendered_text(folder: Path, overlay: str, *components: str) -> str:
    """The resources of an overlay with components, as text. `folder` is empty."""
    place = overlay_of(folder, overlay, components) if components else K8S / "overlays" / overlay
    result = kustomize(place)
    assert result.returncode == 0, result.stderr
    return result.stdout


def loaded(text: str) -> Resources:
    """The resources of rendered text."""
    return [resource for resource in yaml.safe_load_all(text) if resource]


def rendered_resources(folder: Path, overlay: str, *components: str) -> Resources:
    """The resources of an overlay with components. `folder` is empty."""
    return loaded(rendered_text(folder, overlay, *components))


def of_kind(resources: Resources, kind: str) -> Resources:
    return [resource for resource in resources if resource["kind"] == kind]


def named(resources: Resources, kind: str, name: str) -> dict[str, Any]:
    """The one resource of that kind and name."""
    (found,) = (one for one in of_kind(resources, kind) if one["metadata"]["name"] == name)
    return found


def pods(resources: Resources) -> Resources:
    """The pod templates of every workload."""
    templates = [r["spec"]["template"] for r in resources if r["kind"] in ("Deployment", "StatefulSet", "Job")]
    return templates + [r["spec"]["jobTemplate"]["spec"]["template"] for r in of_kind(resources, "CronJob")]


def containers(resources: Resources) -> Resources:
    return [container for pod in pods(resources) for container in pod["spec"]["containers"]]
