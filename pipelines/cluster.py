"""Settings of a step's pod on a cluster: resources, volume, secrets as files, an unprivileged user.

`kfp.local` ignores them, so the same pipeline runs on a laptop and on a cluster.
"""

import re
from dataclasses import dataclass

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components.images import PIPELINE_GPU_IMAGE, PIPELINE_IMAGE, REGISTRY, in_registry, read_digests
from recommender.errors import SettingsError

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
"""A DNS label (RFC 1123), as Kubernetes wants it."""
IMAGE_PATH = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*/?\Z")
"""A registry's host and a path in it, as in the names of images."""
USER = 10001
"""User and group of the images (components/Dockerfile), above the range of system users."""
STEP_LABEL = "campaign-recommender/step"
"""Label of our steps' pods, "true". The policies of k8s/base/network.yaml select them by it. KFP's own label is on the
steps of everybody in the namespace."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Names that are defined in k8s/base."""

    home: str = "/var/recommender"
    """Where the volume claim is mounted, in every step and every serving pod."""
    claim: str = "recommender-home"
    store_secret: str = "campaign-store"
    secrets: str = "/run/secrets/recommender"
    registry: str = REGISTRY
    service_account: str = "campaign-pipeline"
    feature_store: str = "staging"
    """Which of feature_repo/environments the steps use."""


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
SMALL = Size(cpu="100m", cpu_limit="1", memory="256Mi", memory_limit="2Gi")
"""Of steps that publish, judge or promote: they read a few small files. Peak 154 MiB."""
DATA = Size(cpu="1", cpu_limit="4", memory="2560Mi", memory_limit="8Gi", hours=3)
"""Of steps that read or write tables. Peak 2,368 MiB, while features are built."""
TRAINING = Size(cpu="1", cpu_limit="8", memory="1536Mi", memory_limit="16Gi", hours=12)
"""Of steps that train or evaluate. Peak 985 MiB."""


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


def place(task: PipelineTask, size: Size, cluster: Cluster | None, *, gpu: bool = False) -> PipelineTask:
    """Give `task` its resources and, on a cluster, its volume, secrets, user, time limit and image."""
    task.set_cpu_request(size.cpu).set_cpu_limit(size.cpu_limit)
    task.set_memory_request(size.memory).set_memory_limit(size.memory_limit)
    image = PIPELINE_GPU_IMAGE if gpu else PIPELINE_IMAGE
    if gpu:
        task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
    if cluster is None:
        return task
    task.set_container_image(in_registry(image, cluster.registry, read_digests()))
    task.set_env_variable("RECOMMENDER_SECRETS", cluster.secrets)
    task.set_env_variable("FEATURE_STORE_ENVIRONMENT", cluster.feature_store)
    kubernetes.add_pod_label(task, STEP_LABEL, "true")
    kubernetes.mount_pvc(task, pvc_name=cluster.claim, mount_path=cluster.home)
    kubernetes.use_secret_as_volume(task, secret_name=cluster.store_secret, mount_path=cluster.secrets, optional=True)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.set_timeout(task, seconds=int(size.hours * 3600))
    return task
