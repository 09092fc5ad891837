"""The overlays that the documentation tells a reader to write can be rendered as they stand there."""

import re
import shutil
from pathlib import Path

import pytest
from kustomized import K8S, ROOT, kustomize, loaded, named, of_kind

HEREDOC = re.compile(r"^cat > (?P<path>k8s/\S+) <<'END'\n(?P<text>.*?)^END$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```yaml\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of k8s/."""
    shutil.copytree(K8S, tmp_path / "k8s")
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def test_the_overlay_for_a_profile_on_one_node(copy: Path) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    files = {one["path"]: one["text"] for one in HEREDOC.finditer(page)}
    assert files.keys() == {"k8s/overlays/mine/kustomization.yaml"}
    write(copy, files)
    result = kustomize(copy / "k8s" / "overlays" / "mine")
    assert result.returncode == 0, result.stderr
    resources = loaded(result.stdout)
    assert {one["metadata"]["namespace"] for one in resources} == {"campaigns"}
    (serving,) = of_kind(resources, "Deployment")
    images = {one["image"] for one in serving["spec"]["template"]["spec"]["containers"]}
    assert images == {"harbor.example.org/shop/campaign-recommender-serving:0.1.0"}


def test_the_overlays_with_components_and_with_names_of_ones_own(copy: Path) -> None:
    page = (ROOT / "docs" / "cluster" / "manifests.md").read_text()
    added, own, names, engine = (one["text"] for one in FENCED.finditer(page))
    place = "k8s/overlays/mine/kustomization.yaml"
    write(copy, {place: added})
    result = kustomize((copy / place).parent)
    assert result.returncode == 0, result.stderr
    kinds = {one["kind"] for one in loaded(result.stdout)}
    assert {"HorizontalPodAutoscaler", "Gateway", "ServiceMonitor", "CronJob"} <= kinds
    write(copy, {place: own, "k8s/overlays/mine/names/kustomization.yaml": names})
    result = kustomize((copy / place).parent)
    assert result.returncode == 0, result.stderr
    home = named(loaded(result.stdout), "PersistentVolumeClaim", "recommender-home")["spec"]
    assert home["storageClassName"] == "cephfs"
    assert home["accessModes"] == ["ReadWriteMany"]
    write(copy, {place: engine})
    result = kustomize((copy / place).parent)
    assert result.returncode == 0, result.stderr
    serving = named(loaded(result.stdout), "Deployment", "campaign-serving")["spec"]["template"]["spec"]
    assert [one["name"] for one in serving["containers"]] == ["gateway", "deployer"]
