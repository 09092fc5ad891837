"""The Job that forgets shoppers: it is valid, has no rights, and reaches the volume and the store as a step does."""

import re
import subprocess
import sys
from pathlib import Path

from kustomized import K8S, Resources, containers, kustomize, loaded, named, of_kind

from components.images import PIPELINE_IMAGE
from pipelines.cluster import STEP_LABEL


def test_it_is_valid_under_strict_validation(tmp_path: Path) -> None:
    (tmp_path / "forget.yaml").write_text(kustomize(K8S / "forget").stdout)
    program = Path(sys.executable).with_name("kubernetes-validate")
    checked = subprocess.run([str(program), "--strict", str(tmp_path / "forget.yaml")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_its_pod_has_no_rights_and_is_under_the_policy_of_steps() -> None:
    template = named(loaded(kustomize(K8S / "forget").stdout), "Job", "campaign-forget")["spec"]["template"]
    assert template["metadata"]["labels"][STEP_LABEL] == "true"
    spec = template["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    (container,) = spec["containers"]
    assert container["image"] == PIPELINE_IMAGE
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_what_it_names_is_there_under_every_overlay(resources: Resources) -> None:
    spec = named(loaded(kustomize(K8S / "forget").stdout), "Job", "campaign-forget")["spec"]["template"]["spec"]
    (settings,) = (one["configMap"]["name"] for one in spec["volumes"] if "configMap" in one)
    (home,) = (one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if "persistentVolumeClaim" in one)
    assert named(resources, "ConfigMap", settings)["data"].keys() == {"recommender.toml"}
    assert named(resources, "PersistentVolumeClaim", home)
    assert named(resources, "ServiceAccount", spec["serviceAccountName"])


def test_it_reaches_the_online_store_that_serving_reads(resources: Resources) -> None:
    spec = named(loaded(kustomize(K8S / "forget").stdout), "Job", "campaign-forget")["spec"]["template"]["spec"]
    (job,) = spec["containers"]
    wanted = {one["configMapRef"]["name"] for one in job["envFrom"]}
    given = [one["data"] for one in of_kind(resources, "ConfigMap") if one["metadata"]["name"] in wanted]
    (gateway,) = (one for one in containers(resources) if one["name"] == "gateway")
    served = {one["name"]: one["value"] for one in gateway["env"] if one["name"].startswith("RECOMMENDER__STORE__")}
    assert {name: value for data in given for name, value in data.items()} == served


def test_the_ids_come_from_a_secret_and_stand_on_no_command_line() -> None:
    spec = named(loaded(kustomize(K8S / "forget").stdout), "Job", "campaign-forget")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (ids,) = (volume["secret"] for volume in spec["volumes"] if volume["name"] == "ids")
    assert ids["secretName"] == "campaign-forget"
    (mount,) = (one["mountPath"] for one in container["volumeMounts"] if one["name"] == "ids")
    assert container["command"][-1].count(f"--file {mount}/ids.txt --yes") == 2


def test_it_waits_for_the_end_of_a_long_training_within_its_own_deadline() -> None:
    spec = named(loaded(kustomize(K8S / "forget").stdout), "Job", "campaign-forget")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    hours = [float(found) for found in re.findall(r"recommender forget .*--wait (\d+)", container["command"][-1])]
    assert len(hours) == 2
    assert min(hours) >= 10
    # An hour is left for the work itself.
    assert sum(hours) * 3_600 + 3_600 <= spec["activeDeadlineSeconds"]
