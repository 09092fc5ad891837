"""What a kubeconfig shows of the cluster before a run starts, and of pods that wait while it runs.

Looking needs few rights, and none is demanded: what may not be read is said and not looked at.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipelines.cluster import Cluster
from recommender.errors import SettingsError

API_SERVER = "app=ml-pipeline"
"""Label of KFP's API server in upstream's manifests. An endpoint for one user runs everything in its namespace."""
STANDALONE_NAMESPACE = "kubeflow"
"""Where upstream's manifests put it."""
RUN_LABEL = "pipeline/runid"
"""Label that KFP gives to every pod of a run."""
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


def requests_of(specification: Mapping[str, Any]) -> list[Request]:
    """The requests of a compiled pipeline's steps. Those that a parameter decides are left out."""
    from kubernetes.utils.quantity import parse_quantity

    found = []
    for name, executor in specification["deploymentSpec"]["executors"].items():
        resources = executor.get("container", {}).get("resources", {})
        accelerator = resources.get("accelerator", {})
        asked = {
            "cpu": resources.get("resourceCpuRequest"),
            "memory": resources.get("resourceMemoryRequest"),
            str(accelerator.get("resourceType", "")): accelerator.get("resourceCount"),
        }
        fixed = {kind: text for kind, text in asked.items() if kind and text and "{{" not in str(text) + kind}
        amounts = {kind: float(parse_quantity(str(text))) for kind, text in fixed.items()}
        found.append(Request(step=name.removeprefix("exec-"), amounts=amounts))
    return found


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
        self, *, namespace: str, multi_user: bool, cluster: Cluster, account: str, specification: Mapping[str, Any]
    ) -> Look:
        """Look whether a run can start.

        Args:
            namespace: the namespace that was asked for. An endpoint for one user ignores it.
            multi_user: the endpoint has namespaces.
            cluster: names of claim and Secrets.
            account: the steps' service account. Empty: the endpoint's own.
            specification: the compiled pipeline.
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
        self._room(look, requests_of(specification))
        return look

    def waiting(self, run_id: str, namespace: str) -> list[str]:
        """Why pods of a run wait now: an image that cannot be pulled, no room, a claim that is not there."""
        selector = f"{RUN_LABEL}={run_id}"
        pods = self._try(lambda: self._core.list_namespaced_pod(namespace, label_selector=selector, **_LIMITS))
        return sorted({reason for pod in (pods.items if pods else []) for reason in _reasons(pod)})

    def _standalone_namespace(self) -> str:
        found = self._try(lambda: self._apps.list_deployment_for_all_namespaces(label_selector=API_SERVER, **_LIMITS))
        return str(found.items[0].metadata.namespace) if found and found.items else STANDALONE_NAMESPACE

    def _exists(self, look: Look, kind: str, name: str, remedy: str, read: Callable[[], object]) -> None:
        from kubernetes.client import ApiException

        try:
            read()
        except ApiException as error:
            if error.status == 404:
                look.problems.append(f"there is no {kind} {name!r} in the namespace {look.namespace!r}: {remedy}")
            else:
                look.notes.append(f"could not look at the {kind} {name!r}: {error.status} {error.reason}")
        except _transport_errors() as error:
            look.notes.append(f"could not look at the {kind} {name!r}: {error}")

    def _room(self, look: Look, requests: list[Request]) -> None:
        """Compare the steps' requests with each node: with all of it, and with what is free now."""
        nodes = self._try(lambda: self._core.list_node(**_LIMITS))
        pods = self._try(lambda: self._core.list_pod_for_all_namespaces(**_LIMITS))
        if nodes is None or pods is None:
            look.notes.append("could not look at the nodes: whether there is room is not known")
            return
        whole = {node.metadata.name: _amounts(node.status.allocatable) for node in nodes.items if _usable(node)}
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


def _usable(node: Any) -> bool:
    return not node.spec.unschedulable


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


def _reasons(pod: Any) -> Iterator[str]:
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.message:
            yield f"not scheduled: {condition.message}"
    # KFP's launcher and Argo's executor come first, as init containers.
    for status in (*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])):
        waiting = status.state and status.state.waiting
        # These two are the ordinary way of a pod that starts.
        if waiting and waiting.reason not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{waiting.reason}: {waiting.message or status.image}"
