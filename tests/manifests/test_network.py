"""NetworkPolicies close our own pods, leave everybody else's alone, and let through what our pods need."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kustomized import K8S, NAMESPACES, ROOT, Compiled, Resources, named, of_kind, pods, rendered_resources

from pipelines.cluster import STEP_LABEL

Labels = dict[str, str]

OTHERS: dict[str, Labels] = {
    "KFP's driver": {"workflows.argoproj.io/completed": "false", "pipelines.kubeflow.org/v2_component": "true"},
    "a step of another pipeline": {
        "pipelines.kubeflow.org/v2_component": "true",
        "pipeline/runid": "0b5d6f3e",
        "workflows.argoproj.io/workflow": "other-x7k2p",
    },
    "a notebook": {"app": "analysis", "notebook-name": "analysis", "statefulset": "analysis"},
    "KFP's API server": {"app": "ml-pipeline", "application-crd-id": "kubeflow-pipelines"},
    "KFP's object store": {"app": "seaweedfs", "application-crd-id": "kubeflow-pipelines"},
    "somebody's Redis": {"app.kubernetes.io/name": "redis"},
    "a pod without labels": {},
}
"""Pods of others that may live in our namespace, with their labels."""


def selects(selector: dict[str, Any], labels: Labels) -> bool:
    """Whether a label selector selects a pod (matchLabels is all that our policies use)."""
    assert selector.keys() <= {"matchLabels"}, selector
    return selector.get("matchLabels", {}).items() <= labels.items()


def policies_of(resources: Resources, labels: Labels) -> Resources:
    return [one for one in of_kind(resources, "NetworkPolicy") if selects(one["spec"]["podSelector"], labels)]


def test_pods_of_others_in_the_namespace_are_selected_by_no_policy(resources: Resources) -> None:
    for owner, labels in OTHERS.items():
        assert not policies_of(resources, labels), owner


def test_every_pod_of_ours_is_closed_in_both_directions(resources: Resources) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods(resources)] + [{STEP_LABEL: "true"}]
    for one in labels:
        closed = {kind for policy in policies_of(resources, one) for kind in policy["spec"]["policyTypes"]}
        assert closed == {"Ingress", "Egress"}, one


def test_no_rule_is_open_to_everybody_but_the_api_server_whose_address_differs(resources: Resources) -> None:
    for policy in of_kind(resources, "NetworkPolicy"):
        name = policy["metadata"]["name"]
        for rule in policy["spec"].get("ingress", []):
            assert rule.get("from"), f"{name}: anybody may come in"
            assert rule["ports"], f"{name}: any port"
        for rule in policy["spec"].get("egress", []):
            assert rule["ports"], f"{name}: any port"
            if not rule.get("to"):
                assert name in ("campaign-step", "campaign-spark")
                assert {port["port"] for port in rule["ports"]} == {443, 6443, 8443}


@pytest.mark.parametrize("file", ["base/network.yaml", "components/engine-oip/network.yaml"])
def test_no_two_places_that_are_filled_in_are_one_by_an_alias(file: str) -> None:
    # kubectl 1.27 (kustomize 5.0) would give Prometheus' rule the peers of DNS.
    tokens = yaml.scan((K8S / file).read_text())
    assert not [token.start_mark.line + 1 for token in tokens if isinstance(token, yaml.AliasToken)]


def test_nothing_is_left_to_be_filled_in(rendered: Path) -> None:
    assert "filled-in-from" not in rendered.read_text()
    assert "ClusterNames" not in rendered.read_text()


def test_steps_reach_what_kfp_argo_and_we_need_at_the_pods_own_ports(tmp_path: Path) -> None:
    egress = named(rendered_resources(tmp_path, "profile"), "NetworkPolicy", "campaign-step")["spec"]["egress"]
    kubeflow = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}}}
    reached = {port["port"] for rule in egress if kubeflow in rule.get("to", []) for port in rule["ports"]}
    # ml-pipeline's gRPC; metadata-grpc; SeaweedFS behind its Service's port 9000; MinIO.
    assert reached == {8887, 8080, 8333, 9000}
    dns = next(rule for rule in egress if {"protocol": "UDP", "port": 53} in rule["ports"])
    assert {port["port"] for port in dns["ports"]} == {53, 5353}


def test_steps_reach_a_postgresql_and_an_s3_store_in_a_namespace_that_is_labelled_as_a_source(tmp_path: Path) -> None:
    egress = named(rendered_resources(tmp_path, "profile"), "NetworkPolicy", "campaign-step")["spec"]["egress"]
    labelled = {"matchLabels": {"campaigns/source": "true"}}
    (rule,) = (one for one in egress if {"namespaceSelector": labelled} in one.get("to", []))
    assert {"podSelector": labelled} in rule["to"]
    assert {port["port"] for port in rule["ports"]} == {5432, 9000, 8333}


def test_serving_and_steps_reach_the_store_and_the_store_lets_them_in(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "standalone")
    store = named(resources, "StatefulSet", "campaign-store")["spec"]["template"]["metadata"]["labels"]
    serving = named(resources, "Deployment", "campaign-serving")["spec"]["template"]["metadata"]["labels"]
    (of_store,) = policies_of(resources, store)
    (rule,) = of_store["spec"]["ingress"]
    assert "egress" not in of_store["spec"]
    for labels in (serving, {STEP_LABEL: "true"}):
        assert any(selects(peer["podSelector"], labels) for peer in rule["from"])
        (own,) = policies_of(resources, labels)
        to_store = [
            one
            for one in own["spec"]["egress"]
            if any("podSelector" in peer and selects(peer["podSelector"], store) for peer in one.get("to", []))
        ]
        assert [port["port"] for one in to_store for port in one["ports"]] == [6379]


@pytest.mark.parametrize("overlay", NAMESPACES)
def test_metrics_are_for_prometheus_and_answers_for_clients(overlay: str, tmp_path: Path) -> None:
    serving = named(rendered_resources(tmp_path, overlay), "NetworkPolicy", "campaign-serving")["spec"]
    ports = {}
    for rule in serving["ingress"]:
        namespaces = [peer.get("namespaceSelector", {}) for peer in rule["from"]]
        for port in rule["ports"]:
            ports[port["port"]] = namespaces
    assert ports.keys() == {8000, 8080, 8001, 8082}
    assert {"matchLabels": {"campaigns/client": "true"}} in ports[8000]
    assert "monitoring" in ports[8082][0]["matchExpressions"][0]["values"]


def test_every_compiled_step_carries_the_label_that_the_policies_select(compiled: Compiled) -> None:
    assert compiled.platform.keys() == compiled.spec["deploymentSpec"]["executors"].keys()
    for name, one in compiled.platform.items():
        assert one["podMetadata"]["labels"].items() >= {STEP_LABEL: "true"}.items(), name


def test_the_page_names_every_port_that_a_policy_lets_through(tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, "production", "gateway-api", "housekeeping")
    page = (ROOT / "docs" / "cluster" / "security.md").read_text().partition("## Traffic\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    documented: dict[str, set[int]] = {"serving in": set(), "store in": set(), "serving out": set(), "steps out": set()}
    for source, target, ports, _ in rows[2:]:
        numbers = {int(one) for one in re.findall(r"\d+", ports)}
        for key in documented:
            who, direction = key.split()
            if who in re.findall(r"\w+", target if direction == "in" else source):
                documented[key] |= numbers
    allowed = {key: set[int]() for key in documented}
    names = {"campaign-serving": "serving", "campaign-public": "serving", "campaign-store": "store"}
    names["campaign-step"] = "steps"
    for policy in of_kind(resources, "NetworkPolicy"):
        for direction, rules in (("in", policy["spec"].get("ingress", [])), ("out", policy["spec"].get("egress", []))):
            for rule in rules:
                key = f"{names[policy['metadata']['name']]} {direction}"
                allowed[key] |= {port["port"] for port in rule["ports"]}
    assert documented == allowed
