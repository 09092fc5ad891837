"""Before a run, `submit` looks at account, claim, Secret and room, where the run will really be."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kfp_endpoint import AnswersByPath, KfpEndpoint, listening

from pipelines.cluster import Cluster
from pipelines.cluster_look import ClusterView, Look
from pipelines.compile import compile_cluster
from pipelines.parameters import read_specification
from recommender.errors import SettingsError
from recommender.settings import ClusterSettings, load_settings

SPECIFICATION: dict[str, Any] = {
    "deploymentSpec": {
        "executors": {
            "exec-train-ranker": {
                "container": {"resources": {"resourceCpuRequest": "2", "resourceMemoryRequest": "4Gi"}}
            },
            "exec-gate": {"container": {"resources": {"resourceCpuRequest": "250m", "resourceMemoryRequest": "512Mi"}}},
        }
    }
}
"""A pipeline whose largest step asks for 2 cores and 4 GiB."""


def node(cpu: str, memory: str, *, name: str = "n1") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {}, "status": {"allocatable": {"cpu": cpu, "memory": memory}}}


def pod(cpu: str) -> dict[str, Any]:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}}}
    return {"spec": {"nodeName": "n1", "containers": [container]}, "status": {"phase": "Running"}}


def cluster_with(namespace: str, *, nodes: list[dict[str, Any]], pods: list[dict[str, Any]]) -> dict[str, Any]:
    """What an API server holds: what a run needs in `namespace`, a Profile's; nodes and pods; and KFP in `kubeflow`."""
    inside = f"/api/v1/namespaces/{namespace}"
    return {
        f"{inside}/configmaps/kfp-launcher": {"metadata": {"name": "kfp-launcher"}},
        f"{inside}/persistentvolumeclaims/recommender-home": {
            "metadata": {"name": "recommender-home"},
            "spec": {"accessModes": ["ReadWriteOnce"]},
        },
        f"{inside}/secrets/campaign-store": {"metadata": {"name": "campaign-store"}},
        f"{inside}/serviceaccounts/campaign-pipeline": {"metadata": {"name": "campaign-pipeline"}},
        "/api/v1/nodes": {"items": nodes},
        "/api/v1/pods": {"items": pods},
        "/apis/apps/v1/deployments": {
            "items": [
                {
                    "metadata": {"name": "ml-pipeline", "namespace": "kubeflow"},
                    "spec": {"selector": {}, "template": {}},
                }
            ]
        },
    }


@contextmanager
def view_of(service: AnswersByPath, folder: Path) -> Iterator[ClusterView]:
    """The view through a kubeconfig that names `service`."""
    with listening(service) as address:
        config = {
            "clusters": [{"name": "here", "cluster": {"server": address}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "kind", "context": {"cluster": "here", "user": "me"}}],
            "current-context": "kind",
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        yield ClusterView(folder / "kubeconfig")


def looked(
    view: ClusterView,
    *,
    multi_user: bool = False,
    account: str = "campaign-pipeline",
    cluster: Cluster | None = None,
) -> Look:
    return view.look(
        namespace="campaigns",
        multi_user=multi_user,
        cluster=cluster or Cluster(),
        account=account,
        specification=SPECIFICATION,
    )


def test_a_cluster_with_everything_and_room_has_no_problems(tmp_path: Path) -> None:
    service = AnswersByPath(cluster_with("campaigns", nodes=[node("4", "8Gi")], pods=[pod("1")]))
    with view_of(service, tmp_path) as view:
        look = looked(view, multi_user=True)
    assert (look.namespace, look.problems, look.notes) == ("campaigns", [], [])


def test_kfp_alone_runs_in_its_own_namespace_so_what_lies_elsewhere_is_missing(tmp_path: Path) -> None:
    service = AnswersByPath(cluster_with("campaigns", nodes=[node("4", "8Gi")], pods=[]))
    with view_of(service, tmp_path) as view:
        look = looked(view)
        without_account = looked(view, account="")
    assert look.namespace == "kubeflow"
    assert [problem.split("'")[1] for problem in look.problems] == [
        "recommender-home",
        "campaign-store",
        "campaign-pipeline",
    ]
    assert all("'kubeflow'" in problem for problem in look.problems)
    assert len(without_account.problems) == 2


def test_a_step_that_no_node_can_hold_and_one_that_must_wait_are_told_apart(tmp_path: Path) -> None:
    small = AnswersByPath(cluster_with("kubeflow", nodes=[node("1900m", "8Gi")], pods=[]))
    with view_of(small, tmp_path) as view:
        (_, never) = looked(view).notes
    assert "no node can hold the step 'train-ranker'" in never
    assert "2 cpu, 4.0 GiB memory" in never
    busy = AnswersByPath(cluster_with("kubeflow", nodes=[node("4", "8Gi")], pods=[pod("1"), pod("1500m")]))
    with view_of(busy, tmp_path) as view:
        (_, later) = looked(view).notes
    assert "no node has room now for the step 'train-ranker'" in later
    assert "free: 1.5 cpu" in later


def test_what_may_not_be_read_is_said_and_stops_nothing(tmp_path: Path) -> None:
    objects = cluster_with("campaigns", nodes=[], pods=[])
    hidden = ("/api/v1/namespaces/campaigns/secrets", "/api/v1/nodes")
    with view_of(AnswersByPath(objects, forbidden=hidden), tmp_path) as view:
        look = looked(view, multi_user=True)
    assert look.problems == []
    assert [note for note in look.notes if "'campaign-store'" in note and "403" in note]
    assert [note for note in look.notes if "nodes" in note]


def test_a_namespace_without_a_profile_is_refused(tmp_path: Path) -> None:
    objects = cluster_with("campaigns", nodes=[node("4", "8Gi")], pods=[])
    del objects["/api/v1/namespaces/campaigns/configmaps/kfp-launcher"]
    with view_of(AnswersByPath(objects), tmp_path) as view:
        (problem,) = looked(view, multi_user=True).problems
    assert "'campaigns'" in problem
    assert "k8s/examples/profile.yaml" in problem
    objects["/api/v1/namespaces/campaigns/secrets/mlpipeline-minio-artifact"] = {"metadata": {"name": "key"}}
    with view_of(AnswersByPath(objects), tmp_path) as view:
        assert looked(view, multi_user=True).problems == []


def test_a_claim_for_one_node_is_said_where_there_are_several(tmp_path: Path) -> None:
    two = [node("4", "8Gi"), node("4", "8Gi", name="n2")]
    objects = cluster_with("campaigns", nodes=two, pods=[])
    with view_of(AnswersByPath(objects), tmp_path) as view:
        (note,) = looked(view, multi_user=True).notes
    assert "ReadWriteOnce" in note
    claim = objects["/api/v1/namespaces/campaigns/persistentvolumeclaims/recommender-home"]
    claim["spec"]["accessModes"] = ["ReadWriteMany"]
    with view_of(AnswersByPath(objects), tmp_path) as view:
        assert looked(view, multi_user=True).notes == []


def test_a_gpu_that_no_node_has_is_said_for_a_run_that_asks_for_one(tmp_path: Path) -> None:
    settings = load_settings(Path("k8s/base/recommender.toml"))
    file, _ = compile_cluster(settings, tmp_path, cluster=Cluster.of(settings.cluster), namespace="campaigns")
    specification = read_specification(file)
    service = AnswersByPath(cluster_with("campaigns", nodes=[node("16", "64Gi")], pods=[]))
    with view_of(service, tmp_path) as view:
        here = {"namespace": "campaigns", "multi_user": True, "cluster": Cluster(), "account": ""}
        on_cpu, on_gpu = (view.look(**here, specification=specification, device=one) for one in ("cpu", "cuda"))
    assert on_cpu.notes == []
    (note,) = on_gpu.notes
    assert "1 nvidia.com/gpu" in note
    assert "0 nvidia.com/gpu" in note


def test_secrets_that_the_settings_name_are_looked_for_too(tmp_path: Path) -> None:
    pods = ClusterSettings(source_secrets={"shop-bucket": ("AWS_ACCESS_KEY_ID",)}, image_pull_secrets=("harbor",))
    service = AnswersByPath(cluster_with("kubeflow", nodes=[node("4", "8Gi")], pods=[]))
    with view_of(service, tmp_path) as view:
        look = looked(view, cluster=Cluster.of(pods))
    assert [problem.split("'")[1] for problem in look.problems] == ["shop-bucket", "harbor"]


def test_submit_starts_nothing_where_something_is_missing(tmp_path: Path) -> None:
    service, kfp = AnswersByPath({}), KfpEndpoint(multi_user=False)
    with view_of(service, tmp_path), listening(kfp) as host:
        command = [str(Path(sys.executable).with_name("recommender")), "submit", "--host", host]
        environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    for fact in ("'recommender-home'", "'campaign-store'", "'campaign-pipeline'", "'kubeflow'", "'kind'", "--no-look"):
        assert fact in done.stderr
    assert kfp.made["runs"] == []


def test_pods_that_wait_say_why(tmp_path: Path) -> None:
    unscheduled = {
        "status": {
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}
            ]
        }
    }
    pulling = {
        "status": {
            "containerStatuses": [
                {
                    "name": "main",
                    "image": "registry.example.com/campaign-recommender-pipeline:0.1.0",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
                }
            ]
        }
    }
    starting = {"status": {"containerStatuses": [{**pulling["status"]["containerStatuses"][0]}]}}
    starting["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}
    unmappable = {"status": {"initContainerStatuses": [{**pulling["status"]["containerStatuses"][0]}]}}
    reason = {"reason": "RunContainerError", "message": "failed to set MOUNT_ATTR_IDMAP on /var/recommender"}
    unmappable["status"]["initContainerStatuses"][0]["state"] = {"waiting": reason}
    attaching = {"metadata": {"name": "ours"}, "status": {"phase": "Pending"}}
    events = [
        {"metadata": {}, "reason": reason, "message": "Multi-Attach error", "involvedObject": {"name": pod}}
        for reason, pod in (("FailedAttachVolume", "ours"), ("FailedAttachVolume", "theirs"), ("Unhealthy", "ours"))
    ]
    inside = "/api/v1/namespaces/campaigns"
    pods = [unscheduled, pulling, starting, unmappable, attaching]
    objects = {f"{inside}/pods": {"items": pods}, f"{inside}/events": {"items": events}}
    with view_of(AnswersByPath(objects), tmp_path) as view:
        reasons = view.waiting("run-1", "campaigns")
    # Each with what to do, in brackets.
    assert [reason.partition(" (")[0] for reason in reasons] == [
        "FailedAttachVolume: Multi-Attach error",
        "ImagePullBackOff: Back-off pulling image",
        "RunContainerError: failed to set MOUNT_ATTR_IDMAP on /var/recommender",
        "not scheduled: 0/1 nodes are available: 1 Insufficient cpu.",
    ]
    assert all(reason.endswith(")") for reason in reasons)


@pytest.mark.parametrize("content", [None, "", "clusters: 3", "{"])
def test_no_kubeconfig_or_one_that_cannot_be_used_is_an_error_in_words(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match="kubeconfig"):
        ClusterView(file)
