"""Why pods of a run wait, in the words of the cluster, and what to do."""

from collections.abc import Iterable, Iterator
from typing import Any

VOLUME_REASONS = ("FailedAttachVolume", "FailedMount")
"""Of events. The state of the pod says only ContainerCreating then."""
ORDINARY = (None, "ContainerCreating", "PodInitializing")
"""States of a container on the ordinary way of a pod that starts."""
REMEDIES = (
    (
        "ImagePull",
        "push the image or load it into the node; --registry names another one, cluster.image_pull_secrets a key",
    ),
    ("InvalidImageName", "--registry names the registry of the images"),
    ("Multi-Attach", "the claim is for pods of one node: docs/cluster/manifests.md#the-volume"),
    ("MOUNT_ATTR_IDMAP", "the volume knows no user namespaces: docs/cluster/security.md#on-the-node"),
    ("nvidia.com/gpu", "no node has a free GPU: --set device=cpu trains without"),
    ("Insufficient", "it goes by itself when other pods end; [cluster.steps] in the settings asks for less"),
)
"""Part of a reason, and what to do. The first one that fits is said."""


def reasons_of(pods: Iterable[Any], events: Iterable[Any]) -> list[str]:
    """Each reason once.

    Args:
        pods: of the run, as the Kubernetes client has them.
        events: warnings of the run's namespace.
    """
    pods = list(pods)
    pending = {pod.metadata.name for pod in pods if pod.metadata and pod.status.phase == "Pending"}
    found = {reason for pod in pods for reason in _of_pod(pod)}
    for event in events:
        if event.reason in VOLUME_REASONS and event.involved_object.name in pending:
            found.add(f"{event.reason}: {event.message}")
    return sorted(map(_with_remedy, found))


def _of_pod(pod: Any) -> Iterator[str]:
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.message:
            yield f"not scheduled: {condition.message}"
    # KFP's launcher and Argo's executor come first, as init containers.
    for status in (*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])):
        waiting = status.state and status.state.waiting
        if waiting and waiting.reason not in ORDINARY:
            yield f"{waiting.reason}: {waiting.message or status.image}"


def _with_remedy(reason: str) -> str:
    remedy = next((remedy for part, remedy in REMEDIES if part in reason), "")
    return f"{reason} ({remedy})" if remedy else reason
