"""Accounts have the rights of the documented table and no more, and a token only where the Kubernetes API is called."""

import re
from itertools import product
from pathlib import Path

import pytest
from kustomized import OVERLAYS, ROOT, Compiled, Resources, named, of_kind, pods, rendered_resources

PAGE = ROOT / "docs" / "cluster" / "security.md"
STEPS = "campaign-pipeline"
Right = tuple[str, str, str, str]
"""API group, resource, name of a resource (or `all`), verb."""


def rows_after(heading: str) -> list[list[str]]:
    """The cells of the first table after a heading of the page, without its head."""
    lines = PAGE.read_text(encoding="utf-8").partition(f"{heading}\n")[2].splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table[2:]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell) or [cell]


def documented_rights() -> set[Right]:
    return {
        right
        for group, resource, names, verbs, *_ in rows_after("### Rights of `campaign-pipeline`")
        for right in product(words(group), words(resource), words(names), words(verbs))
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_steps_have_the_documented_rights_and_no_more(overlay: str, tmp_path: Path) -> None:
    resources = rendered_resources(tmp_path, overlay)
    granted: set[Right] = set()
    for rule in named(resources, "Role", STEPS)["rules"]:
        groups = [group or "core" for group in rule["apiGroups"]]
        granted |= set(product(groups, rule["resources"], rule.get("resourceNames", ["all"]), rule["verbs"]))
    assert granted == documented_rights()
    assert len(granted) == 4
    (binding,) = of_kind(resources, "RoleBinding")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": STEPS}
    namespace = named(resources, "Role", STEPS)["metadata"]["namespace"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": STEPS, "namespace": namespace}]


def test_no_right_is_for_everything(resources: Resources) -> None:
    for role in of_kind(resources, "Role"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"], "every Secret of a namespace that is not ours alone"


def test_only_the_accounts_of_steps_and_of_spark_s_driver_have_a_token(resources: Resources) -> None:
    mounted = {
        one["metadata"]["name"]: one["automountServiceAccountToken"] for one in of_kind(resources, "ServiceAccount")
    }
    assert mounted.pop(STEPS), "KFP's launcher and Argo's executor call the API from a step's pod"
    assert mounted.pop("campaign-spark", True), "Spark's driver starts its executors"
    assert mounted
    assert not any(mounted.values())
    for pod in pods(resources):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["serviceAccountName"] in mounted


def test_the_page_names_every_account(resources: Resources) -> None:
    documented = {name for row in rows_after("## Accounts") for name in words(row[1])}
    assert {one["metadata"]["name"] for one in of_kind(resources, "ServiceAccount")} <= documented


def test_the_page_names_every_secret_that_a_pod_mounts(resources: Resources) -> None:
    documented = {name for row in rows_after("## Secrets") for name in words(row[0])}
    for pod in pods(resources):
        for volume in pod["spec"]["volumes"]:
            sources = [volume, *volume.get("projected", {}).get("sources", [])]
            names = {one["secret"].get("secretName", one["secret"].get("name")) for one in sources if "secret" in one}
            assert names <= documented


def test_our_pipeline_uses_nothing_that_would_need_another_right(compiled: Compiled) -> None:
    assert "pvcMount" in compiled.text
    # The driver would read the Workflow, or create and delete claims.
    assert not re.findall(r"pipeline_job_(?:create|schedule)_time_utc|createpvc|deletepvc", compiled.text)
    assert "serviceAccount" not in compiled.text, "a run from the UI has another account"
