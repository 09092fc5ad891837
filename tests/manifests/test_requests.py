"""A laptop with kind (4 CPUs, 8 GiB) has room for serving, the store, the largest step and one of KFP's drivers."""

from pathlib import Path
from typing import Any, NamedTuple

from kubernetes.utils.quantity import parse_quantity
from kustomized import ROOT, Compiled, pods, rendered_resources

from pipelines.cluster_look import requests_of

MOST_CPU, MOST_MEMORY = 2.2, 4.5 * 2**30
"""What is left of such a node after KFP's own pods (0.7 CPU, 3.1 GiB) and kind's (0.95 CPU), with a little to spare."""


class Asked(NamedTuple):
    """Requests of a pod."""

    cpu: float
    memory: float

    def __str__(self) -> str:
        return f"{self.cpu:.2f} CPU, {self.memory / 2**30:.2f} GiB"


DRIVER = Asked(0.1, 64 * 2**20)
"""`driverResources` in backend/src/v2/compiler/argocompiler/argo.go of KFP 2.17.0."""
LAUNCHER = Asked(0.1, 0)
"""`launcherResources`, of a step's init container. It counts only where it is more than the step itself."""


def quantity(text: Any) -> float:
    """A quantity in Kubernetes' notation as a number."""
    return float(parse_quantity(text))


def asked_by(pod: dict[str, Any]) -> Asked:
    requests = [one["resources"]["requests"] for one in pod["spec"]["containers"]]
    return Asked(sum(quantity(one["cpu"]) for one in requests), sum(quantity(one["memory"]) for one in requests))


def asked_by_steps(compiled: Compiled) -> list[Asked]:
    requests = [one.amounts for one in requests_of(compiled.spec)]
    return [Asked(max(one["cpu"], LAUNCHER.cpu), one["memory"]) for one in requests]


def test_serving_store_the_largest_step_and_a_driver_fit_a_laptop(compiled: Compiled, tmp_path: Path) -> None:
    steps = asked_by_steps(compiled)
    largest = Asked(max(one.cpu for one in steps), max(one.memory for one in steps))
    ours = [asked_by(pod) for pod in pods(rendered_resources(tmp_path, "local"))]
    assert len(ours) == 2
    total = Asked(*(sum(column) for column in zip(*ours, largest, DRIVER, strict=True)))
    assert total.cpu <= MOST_CPU, f"{total}: {[*map(str, ours), str(largest)]}"
    assert total.memory <= MOST_MEMORY, f"{total}: {[*map(str, ours), str(largest)]}"
    page = (ROOT / "docs" / "cluster" / "manifests.md").read_text()
    assert f"{total.cpu:.2f} CPU and {total.memory / 2**30:.2f} GiB" in page


def test_every_request_is_within_its_limit(tmp_path: Path) -> None:
    for pod in pods(rendered_resources(tmp_path, "production", "housekeeping")):
        for container in pod["spec"]["containers"]:
            limits = container["resources"]["limits"]
            for key, value in container["resources"]["requests"].items():
                assert quantity(value) <= quantity(limits[key]), f"{container['name']}: {key}"
