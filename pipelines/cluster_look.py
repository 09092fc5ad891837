"""What a kubeconfig shows of the cluster before a run starts, and of pods that wait while it runs.

Looking needs few rights, and none is demanded: what may not be read is said and not looked at.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipelines.cluster import Cluster
from pipelines.cluster_waits import reasons_of
from recommender.errors import SettingsError

API_SERVER = "app=ml-pipeline"
"""Label of KFP's API server in upstream's manifests. An endpoint for one user runs everything in its namespace."""
STANDALONE_NAMESPACE = "kubeflow"
"""Where upstream's manifests put it."""
RUN_LABEL = "pipeline/runid"
"""Label that KFP gives to every pod of a run."""
WARNINGS = "type=Warning"
PROFILE_MAKES = (("ConfigMap", "config_map", "kfp-launcher"), ("Secret", "secret", "mlpipeline-minio-artifact"))
"""What Kubeflow's controllers make in the namespace of a Profile. KFP's driver reads both."""
TIMEOUT_S = (3, 10)
"""To connect, and to read an answer: an API server answers in milliseconds, one that is away should cost seconds."""
Seen = TypeVar("Seen")


@dataclass(kw_only=True)
class Look:
    """What was seen before a run."""

    namespace: str
    """Where the pods of the run will be."""
    problems: list[str] = field(default_factory=list)
    """With these the run would fail or wait for ever."""
    notes: list[str] = field(default_factory=list)
    """What could not be looked at, and what may cost time."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a step's pod asks of a node: cores, bytes, and accelerators by resource name."""

    step: str
    amounts: dict[str, float]


def requests_of(specification: Mapping[str, Any], device: str = "") -> list[Request]:
    """The requests of a compiled pipeline's steps.

    Args:
        specification: the compiled pipeline.
        device: the run's parameter, which decides about the challenger's accelerator. Empty: that is left out.
    """
    from kubernetes.utils.quantity import parse_quantity

    found, by_device = [], _accelerator_by(specification, device)
    for name, executor in specification["deploymentSpec"]["executors"].items():
        resources = executor.get("container", {}).get("resources", {})
        accelerator = resources.get("accelerator", {})
        asked = {
            "cpu": resources.get("resourceCpuRequest"),
            "memory": resources.get("resourceMemoryRequest"),
            str(accelerator.get("resourceType", "")): accelerator.get("resourceCount"),
        }
        if "{{" in str(accelerator.get("resourceType", "")):
            asked |= by_device
        fixed = {kind: text for kind, text in asked.items() if kind and text and "{{" not in str(text) + kind}
        amounts = {kind: float(parse_quantity(str(text))) for kind, text in fixed.items()}
        found.append(Request(step=name.removeprefix("exec-"), amounts=amounts))
    return found


def _accelerator_by(specification: Mapping[str, Any], device: str) -> dict[str, str]:
    """The accelerator that the first step chooses for a device: by its input `places`."""
    first = specification.get("root", {}).get("dag", {}).get("tasks", {}).get("check-settings", {})
    places = first.get("inputs", {}).get("parameters", {}).get("places", {}).get("runtimeValue", {}).get("constant", {})
    chosen = places.get("devices", {}).get(device, {})
    return {chosen["resource"]: chosen["count"]} if chosen.get("resource") else {}


class ClusterView:
    """The cluster that the kubeconfig's current context names."""

    def __init__(self, config_file: Path | None = None) -> None:
        """Read the kubeconfig.

        Args:
            config_file: None: as kubectl, the one that KUBECONFIG names, or ~/.kube/config.

        Raises:
            SettingsError: there is none, or it cannot be used.
        """
        from kubernetes import client, config

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                file = str(config_file) if config_file else None
                _, active = config.list_kube_config_contexts(file)
                config.load_kube_config(file)
        # A kubeconfig is written by hand and by many tools: a wrong one raises KeyError, TypeError or YAML's errors.
        except (config.ConfigException, OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            raise SettingsError(f"no kubeconfig to look with ({error})") from None
        settings = client.Configuration.get_default_copy()
        settings.retries = False
        api = client.ApiClient(settings)
        self.context = str(active["name"])
        self._core, self._apps = client.CoreV1Api(api), client.AppsV1Api(api)

    def look(
        self,
        *,
        namespace: str,
        multi_user: bool,
        cluster: Cluster,
        account: str,
        specification: Mapping[str, Any],
        device: str = "",
    ) -> Look:
        """Look whether a run can start.

        Args:
            namespace: the namespace that was asked for. An endpoint for one user ignores it.
            multi_user: the endpoint has namespaces.
            cluster: names of claim and Secrets.
            account: the steps' service account. Empty: the endpoint's own.
            specification: the compiled pipeline.
            device: the run's parameter, where the pipeline has one.
        """
        look = Look(namespace=namespace if multi_user else self._standalone_namespace())
        if look.namespace != namespace:
            look.notes.append(f"this KFP serves one user: the run is in its namespace {look.namespace!r}")
        named = [("claim", "persistent_volume_claim", cluster.pods.claim, "kubectl apply -k of an overlay makes it")]
        named.append(("Secret", "secret", cluster.pods.store_secret, "docs/kubernetes.md says how to make it"))
        for name in (*cluster.pods.source_secrets, *cluster.pods.image_pull_secrets):
            named.append(("Secret", "secret", name, "make it, or take it out of [cluster] in the settings"))
        if account:
            remedy = "kubectl apply -k of an overlay makes it; --service-account '' takes the endpoint's own"
            named.append(("account", "service_account", account, remedy))
        for kind, resource, name, remedy in named:
            read = partial(getattr(self._core, f"read_namespaced_{resource}"), name, look.namespace, **_LIMITS)
            self._exists(look, kind, name, remedy, read)
        if multi_user:
            self._of_profile(look)
        nodes = self._try(lambda: self._core.list_node(**_LIMITS))
        usable = None if nodes is None else [node for node in nodes.items if not node.spec.unschedulable]
        self._room(look, requests_of(specification, device), usable)
        self._one_node(look, cluster.pods.claim, usable)
        return look

    def waiting(self, run_id: str, namespace: str) -> list[str]:
        """Why pods of a run wait now: an image that cannot be pulled, no room, a claim that is not there."""
        selector = f"{RUN_LABEL}={run_id}"
        pods = self._try(lambda: self._core.list_namespaced_pod(namespace, label_selector=selector, **_LIMITS))
        warned = self._try(lambda: self._core.list_namespaced_event(namespace, field_selector=WARNINGS, **_LIMITS))
        return reasons_of(pods.items if pods else (), warned.items if warned else ())

    def _standalone_namespace(self) -> str:
        found = self._try(lambda: self._apps.list_deployment_for_all_namespaces(label_selector=API_SERVER, **_LIMITS))
        return str(found.items[0].metadata.namespace) if found and found.items else STANDALONE_NAMESPACE

    def _exists(self, look: Look, kind: str, name: str, remedy: str, read: Callable[[], object]) -> None:
        if self._missing(look, kind, name, read):
            look.problems.append(f"there is no {kind} {name!r} in the namespace {look.namespace!r}: {remedy}")

    def _missing(self, look: Look, kind: str, name: str, read: Callable[[], object]) -> bool:
        """Whether there is none. What may not be read, or cannot be read now, becomes a note."""
        from kubernetes.client import ApiException

        try:
            read()
        except ApiException as error:
            if error.status == 404:
                return True
            look.notes.append(f"could not look at the {kind} {name!r}: {error.status} {error.reason}")
        except _transport_errors() as error:
            look.notes.append(f"could not look at the {kind} {name!r}: {error}")
        return False

    def _of_profile(self, look: Look) -> None:
        """Refuse a namespace without a Profile. One of the two is enough: clusters keep artifacts in different ways."""
        for kind, resource, name in PROFILE_MAKES:
            read = partial(getattr(self._core, f"read_namespaced_{resource}"), name, look.namespace, **_LIMITS)
            if not self._missing(look, kind, name, read):
                return
        look.problems.append(
            f"the namespace {look.namespace!r} is not that of a Kubeflow Profile, so KFP's driver would find no object "
            "store: an administrator makes one (k8s/examples/profile.yaml), or --namespace names yours"
        )

    def _one_node(self, look: Look, name: str, nodes: list[Any] | None) -> None:
        """Say that a claim for one node's pods limits serving and steps to that node."""
        claim = self._try(lambda: self._core.read_namespaced_persistent_volume_claim(name, look.namespace, **_LIMITS))
        modes = claim.spec.access_modes or [] if claim and claim.spec else []
        if nodes and len(nodes) > 1 and modes and "ReadWriteMany" not in modes:
            look.notes.append(
                f"the claim {name!r} is {' and '.join(modes)}, for pods of one node, and the cluster has {len(nodes)}. "
                "Serving and steps must share a node (docs/cluster/manifests.md#the-volume)"
            )

    def _room(self, look: Look, requests: list[Request], nodes: list[Any] | None) -> None:
        """Compare the steps' requests with each node: with all of it, and with what is free now."""
        pods = self._try(lambda: self._core.list_pod_for_all_namespaces(**_LIMITS))
        if nodes is None or pods is None:
            look.notes.append("could not look at the nodes: whether there is room is not known")
            return
        whole = {node.metadata.name: _amounts(node.status.allocatable) for node in nodes}
        free = {name: dict(amounts) for name, amounts in whole.items()}
        for pod in pods.items:
            if pod.spec.node_name in free and pod.status.phase in ("Pending", "Running"):
                for container in pod.spec.containers:
                    for kind, amount in _amounts((container.resources and container.resources.requests) or {}).items():
                        free[pod.spec.node_name][kind] = free[pod.spec.node_name].get(kind, 0.0) - amount
        for request in requests:
            if not _fits(request, whole):
                largest = _largest(request, whole)
                look.notes.append(
                    f"no node can hold the step {request.step!r}: it asks for {_words(request.amounts)}, and the nodes "
                    f"have {largest}. It waits as Pending unless an autoscaler adds a larger node"
                )
        now = [request for request in requests if _fits(request, whole) and not _fits(request, free)]
        if now:
            worst = max(now, key=lambda request: request.amounts.get("cpu", 0.0))
            look.notes.append(
                f"no node has room now for the step {worst.step!r} ({_words(worst.amounts)}; free: "
                f"{_largest(worst, free)}): it waits as Pending until other pods end"
            )

    def _try(self, ask: Callable[[], Seen]) -> Seen | None:
        """What was asked for, or None where it may not be read or the API server is away."""
        from kubernetes.client import ApiException

        try:
            return ask()
        except (ApiException, *_transport_errors()):
            return None


_LIMITS: dict[str, Any] = {"_request_timeout": TIMEOUT_S}


def _transport_errors() -> tuple[type[Exception], ...]:
    import urllib3

    return (urllib3.exceptions.HTTPError, OSError)


def _amounts(quantities: dict[str, str]) -> dict[str, float]:
    from kubernetes.utils.quantity import parse_quantity

    return {kind: float(parse_quantity(text)) for kind, text in quantities.items()}


def _fits(request: Request, nodes: dict[str, dict[str, float]]) -> bool:
    return any(
        all(amounts.get(kind, 0.0) >= amount for kind, amount in request.amounts.items()) for amounts in nodes.values()
    )


def _largest(request: Request, nodes: dict[str, dict[str, float]]) -> str:
    """The most that a node has of each thing that is asked for."""
    return _words(
        {kind: max((max(one.get(kind, 0.0), 0.0) for one in nodes.values()), default=0.0) for kind in request.amounts}
    )


def _words(amounts: dict[str, float]) -> str:
    said = {kind: f"{amount / 2**30:.1f} GiB memory" for kind, amount in amounts.items() if kind == "memory"}
    return ", ".join(said.get(kind, f"{amount:g} {kind}") for kind, amount in amounts.items())
