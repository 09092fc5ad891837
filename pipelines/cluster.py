"""Settings of a step's pod on a cluster: resources, volume, secrets as files, an unprivileged user.

`kfp.local` ignores them, so the same pipeline runs on a laptop and on a cluster.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl import PipelineTask

from components.images import (
    PIPELINE_GPU_IMAGE,
    PIPELINE_IMAGE,
    PIPELINE_SPARK_IMAGE,
    REGISTRY,
    in_registry,
    read_digests,
)
from recommender.errors import SettingsError, suggestion
from recommender.settings import ClusterSettings, Toleration, choose

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
"""A DNS label (RFC 1123), as Kubernetes wants it."""
IMAGE_PATH = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*/?\Z")
"""A registry's host and a path in it, as in the names of images."""
USER = 10001
"""User and group of the images (components/Dockerfile), above the range of system users."""
STEPS = (
    *("check_settings", "ingest", "validate_data", "build_features", "materialise", "build_training_set"),
    *("publish_training_set", "train_ranker", "register", "evaluate", "gate", "publish_evaluation", "deploy", "hold"),
    *("monitor", "require_limits"),
)
"""Steps as `cluster.steps` names them."""
READS_SOURCE = ("check-settings", "ingest")
"""Steps that get the source's Secrets and variables."""
HOUR_S, DAY_S = 3600, 86_400
HOME = "/var/recommender"
"""Where the volume claim is mounted, in every step and, by k8s/base, in every serving pod."""
SECRETS = "/run/secrets/recommender"
"""Folder of a step's secret files."""
STEP_LABEL = "campaign-recommender/step"
"""Label of our steps' pods, "true". The policies of k8s/base/network.yaml select them by it. KFP's own label is on the
steps of everybody in the namespace."""
POD_LABELS = {STEP_LABEL: "true", "istio.io/dataplane-mode": "none"}
"""Of every step's pod. Like the pods of k8s/base, steps take no part in Istio's ambient mode: policies would see
the mesh's port 15008 in it. KFP itself keeps sidecars away."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The settings of the steps' pods, checked."""

    pods: ClusterSettings = field(default_factory=ClusterSettings)

    @classmethod
    def of(cls, settings: ClusterSettings, *, registry: str = "", feature_store: str = "") -> "Cluster":
        """The cluster of these settings. A registry or feature store that is given here is taken instead.

        Raises:
            SettingsError: `cluster.steps` names a step that does not exist.
        """
        for name in settings.steps:
            if name not in STEPS:
                raise SettingsError(f"cluster.steps: no step is called {name!r}; {suggestion(name, STEPS)}")
        instead = {"registry": registry, "feature_store": feature_store}
        given = {name: value for name, value in instead.items() if value}
        return cls(pods=ClusterSettings.model_validate(settings.model_dump() | given))

    @property
    def registry(self) -> str:
        """The registry of the images."""
        return self.pods.registry or REGISTRY


@dataclass(frozen=True, kw_only=True)
class Size:
    """Requests and limits of a step's CPU and memory, in Kubernetes' notation."""

    cpu: str
    cpu_limit: str
    memory: str
    memory_limit: str
    hours: float = 1.0
    """After this time the step is given up. Chosen by hand: a small step takes minutes at most."""


# Memory requests are the largest peak of a step of each kind in a run on the default data (docs/tutorial.md), rounded
# up. With them serving, the store, one step and KFP's driver fit a node of 4 CPUs and 8 GiB beside Kubeflow Pipelines
# (tests/manifests/test_requests.py). Limits leave room for a larger shop, and the hours for its slowest step.
SMALL = Size(cpu="100m", cpu_limit="1", memory="512Mi", memory_limit="2Gi")
"""Of steps that check, publish, judge or promote: they read a few small files. Peak 246 MiB, or 426 MiB where the first
step checks hyperparameters in the settings and so imports torch."""
FEATURES = Size(cpu="1", cpu_limit="4", memory="2560Mi", memory_limit="8Gi", hours=3)
"""Of the step that builds features. Peak 2,549 MiB."""
DATA = replace(FEATURES, memory="1536Mi")
"""Of the other steps that read or write tables. Peak 1,282 MiB, while the training set is built."""
TRAINING = Size(cpu="1", cpu_limit="8", memory="1536Mi", memory_limit="16Gi", hours=12)
"""Of steps that train or evaluate. Peak 1,060 MiB."""


def check_names(*, namespace: str, registry: str) -> None:
    """Refuse a namespace or registry that no cluster would take.

    Raises:
        SettingsError: names the option and what it must look like.
    """
    if not NAMESPACE.match(namespace):
        raise SettingsError(
            f"--namespace {namespace!r} is no name of a namespace: at most 63 of a-z, 0-9 and '-', a letter or digit "
            "at both ends"
        )
    if not IMAGE_PATH.match(registry):
        raise SettingsError(
            f"--registry {registry!r} is no start of an image's name: write host[:port]/path in small letters, without "
            "https:// and tag, such as registry.example.com/shop"
        )


def place(task: PipelineTask, size: Size, cluster: Cluster | None) -> PipelineTask:
    """Give `task` its resources and, on a cluster, its image, volume, secrets, user, time limit and nodes."""
    size = _size_of(task, size, cluster)
    task.set_cpu_request(size.cpu).set_cpu_limit(size.cpu_limit)
    task.set_memory_request(size.memory).set_memory_limit(size.memory_limit)
    if cluster is None:
        return task
    task.set_container_image(in_registry(PIPELINE_IMAGE, cluster.registry, read_digests()))
    task.set_env_variable("RECOMMENDER_SECRETS", SECRETS)
    task.set_env_variable("FEATURE_STORE_ENVIRONMENT", cluster.pods.feature_store)
    for label, value in POD_LABELS.items():
        kubernetes.add_pod_label(task, label, value)
    kubernetes.mount_pvc(task, pvc_name=cluster.pods.claim, mount_path=HOME)
    kubernetes.use_secret_as_volume(task, secret_name=cluster.pods.store_secret, mount_path=SECRETS, optional=True)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.set_timeout(task, seconds=int(size.hours * HOUR_S))
    _set_nodes(task, cluster.pods)
    if cluster.pods.shared_memory and task.name.startswith("train-ranker"):
        kubernetes.empty_dir_mount(
            task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=cluster.pods.shared_memory
        )
    if task.name in READS_SOURCE:
        for name, value in cluster.pods.source_variables.items():
            task.set_env_variable(name, value)
        for secret, keys in cluster.pods.source_secrets.items():
            # Optional, so that a missing Secret is the first step's sentence and no pod that waits for ever.
            kubernetes.use_secret_as_env(task, secret, {key: key for key in keys}, optional=True)
    return task


def places(cluster: Cluster | None) -> dict[str, Any]:
    """What the first step must know of the pods: the volume, and the challenger's place by the run's device."""
    if cluster is None:
        return {}
    gpu, digests = cluster.pods.gpu, read_digests()
    devices = {
        "cpu": {
            "image": in_registry(PIPELINE_IMAGE, cluster.registry, digests),
            "resource": "",
            "count": "",
            "tolerations": [],
        },
        "cuda": {
            "image": in_registry(PIPELINE_GPU_IMAGE, cluster.registry, digests),
            "resource": gpu.resource,
            "count": str(gpu.count),
            "tolerations": [_of_kubernetes(one) for one in gpu.tolerations],
        },
    }
    return {"volume": HOME, "devices": devices}


def place_by(task: PipelineTask, outputs: Mapping[str, Any], cluster: Cluster | None) -> None:
    """Give `task` the image, accelerator and tolerations that the first step chose by the run's device."""
    if cluster is None:
        return
    task.set_container_image(outputs["image"])
    # Without an accelerator both are empty, and KFP's driver asks for none.
    task.set_accelerator_type(outputs["accelerator"]).set_accelerator_limit(outputs["accelerators"])
    kubernetes.add_toleration_json(task, outputs["tolerations"])


def place_engine(task: PipelineTask, engine: str, cluster: Cluster | None) -> None:
    """Give the step that builds features the image of its engine (`features.engine`)."""
    if cluster is not None:
        image = choose({"duckdb": PIPELINE_IMAGE, "spark": PIPELINE_SPARK_IMAGE}, engine, "features.engine")
        task.set_container_image(in_registry(image, cluster.registry, read_digests()))


def lifetime(cluster: Cluster | None) -> dsl.PipelineConfig | None:
    """How long a run may take, and how long its pods are kept."""
    if cluster is None:
        return None
    kept_s = int(cluster.pods.keep_days * DAY_S)
    return dsl.PipelineConfig(
        active_deadline_seconds=int(cluster.pods.deadline_hours * HOUR_S),
        # All three, because KFP's own Argo has an hour as default of each (workflowDefaults in its
        # workflow-controller-configmap), and the one for success or failure wins over the one for any end.
        ttl_seconds_after_finished=kept_s,
        ttl_seconds_after_success=kept_s,
        ttl_seconds_after_failure=kept_s,
    )


def _size_of(task: PipelineTask, size: Size, cluster: Cluster | None) -> Size:
    own = None if cluster is None else cluster.pods.steps.get(task.component_spec.name.replace("-", "_"))
    return size if own is None else replace(size, **own.model_dump(exclude_none=True))


def _set_nodes(task: PipelineTask, pods: ClusterSettings) -> None:
    for label, value in pods.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for one in pods.tolerations:
        kubernetes.add_toleration(task, **_of_kubernetes(one))
    if pods.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(pods.image_pull_secrets))


def _of_kubernetes(toleration: Toleration) -> dict[str, str]:
    """A toleration in Kubernetes' words, without what is empty."""
    return {name: value for name, value in toleration.model_dump().items() if value}
