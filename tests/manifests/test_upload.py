"""The Job that brings files onto the volume: what it may do, and what its script does with a real archive."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kustomized import K8S, Resources, kustomize, loaded, named

from components.images import SERVING_IMAGE

BASELINE = {"CHOWN", "DAC_OVERRIDE", "FOWNER"}
"""Of the capabilities that Pod Security *baseline* allows to be added, those that changing an owner needs."""


def upload(folder: str = "upload") -> Resources:
    result = kustomize(K8S / folder)
    assert result.returncode == 0, result.stderr
    return loaded(result.stdout)


def pod(resources: Resources) -> dict[str, Any]:
    spec: dict[str, Any] = named(resources, "Job", "campaign-upload")["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("folder", ["upload", "upload-restricted"])
def test_it_is_valid_under_strict_validation_and_brings_its_script(folder: str, tmp_path: Path) -> None:
    resources = upload(folder)
    (tmp_path / "upload.yaml").write_text(kustomize(K8S / folder).stdout)
    program = Path(sys.executable).with_name("kubernetes-validate")
    checked = subprocess.run([str(program), "--strict", str(tmp_path / "upload.yaml")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    script = named(resources, "ConfigMap", "campaign-upload")["data"]["receive.sh"]
    assert script == (K8S / "upload" / "receive.sh").read_text()


def test_only_the_container_that_changes_the_owner_is_root_and_only_with_what_that_needs() -> None:
    spec = pod(upload())
    (owner,), (receive,) = spec["initContainers"], spec["containers"]
    assert owner["securityContext"]["runAsUser"] == 0
    assert set(owner["securityContext"]["capabilities"]["add"]) == BASELINE
    assert owner["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert receive["securityContext"]["runAsNonRoot"] is True
    assert receive["securityContext"]["runAsUser"] == 10001
    assert "add" not in receive["securityContext"]["capabilities"]
    for container in (owner, receive):
        assert container["image"] == SERVING_IMAGE
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_under_restricted_there_is_no_root() -> None:
    spec = pod(upload("upload-restricted"))
    assert "initContainers" not in spec
    assert spec["securityContext"]["fsGroup"] == 10001


def test_its_pod_talks_to_nobody() -> None:
    resources = upload()
    policy = named(resources, "NetworkPolicy", "campaign-upload")["spec"]
    labels = named(resources, "Job", "campaign-upload")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert not policy.keys() & {"ingress", "egress"}


def receive(volume: Path, name: str, archive: bytes) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "HOME_VOLUME": str(volume), "DONE": str(volume / "done")}
    command = ["sh", str(K8S / "upload" / "receive.sh"), name]
    return subprocess.run(command, input=archive, capture_output=True, env=environment)


def packed(folder: Path, **files: str) -> bytes:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return subprocess.run(["tar", "-C", str(folder), "-cf", "-", "."], stdout=subprocess.PIPE, check=True).stdout


def test_an_upload_replaces_the_former_one_whole_and_ends_the_job(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    first = receive(volume, "shop", packed(tmp_path / "first", mapping="1", orders="1"))
    assert first.returncode == 0, first.stderr
    assert b"2 files" in first.stdout
    assert (volume / "done").exists()
    assert receive(volume, "shop", packed(tmp_path / "second", mapping="2")).returncode == 0
    shop = volume / "uploads" / "shop"
    assert {file.name: file.read_text() for file in shop.iterdir()} == {"mapping": "2"}
    assert shop.stat().st_mode & 0o007 == 0
    assert [one.name for one in (volume / "uploads").iterdir()] == ["shop"]


def test_an_upload_that_breaks_off_leaves_the_former_one(tmp_path: Path) -> None:
    assert receive(tmp_path, "shop", packed(tmp_path / "whole", mapping="1")).returncode == 0
    (tmp_path / "done").unlink()
    archive = packed(tmp_path / "large", orders="x" * 100_000)
    assert receive(tmp_path, "shop", archive[:20_000]).returncode != 0
    assert (tmp_path / "uploads" / "shop" / "mapping").read_text() == "1"
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "/etc"])
def test_a_name_that_is_no_folder_s_is_refused(tmp_path: Path, name: str) -> None:
    refused = receive(tmp_path, name, b"")
    assert refused.returncode == 2
    assert name.encode() in refused.stderr
    assert not (tmp_path / "uploads").exists()
