"""Names, labels and digests of the images, without an engine."""

import subprocess
from pathlib import Path

import pytest
import yaml

from components.build_images import LABEL, labels, web_address, write_digests
from components.images import PIPELINE_GPU_IMAGE, PIPELINE_IMAGE, SERVING_IMAGE, VERSION, in_registry, read_digests
from recommender.errors import SettingsError

REGISTRY = "harbor.example.org/shop"
DIGEST = "sha256:" + "0123456789abcdef" * 4


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\ndescription = "Recommends."\nlicense = "Apache-2.0"\n')
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_labels_name_version_revision_source_and_licence(checkout: Path) -> None:
    git(checkout, "remote", "add", "origin", "https://someone:secret@git.example.org/shop/recommender.git")
    found = labels("Steps", root=checkout)
    assert found == {
        LABEL + "title": "Steps",
        LABEL + "description": "Recommends.",
        LABEL + "version": VERSION,
        LABEL + "revision": git(checkout, "rev-parse", "HEAD"),
        LABEL + "source": "https://git.example.org/shop/recommender.git",
        LABEL + "licenses": "Apache-2.0",
    }


def test_a_changed_checkout_is_no_revision_by_itself(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('[project]\ndescription = "Changed."\n')
    assert labels("Steps", root=checkout)[LABEL + "revision"].endswith("-modified")


def test_what_git_and_pyproject_do_not_say_has_no_label(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndescription = "Recommends."\n')
    assert labels("Steps", root=tmp_path).keys() == {LABEL + key for key in ("title", "description", "version")}


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@git.example.org:shop/recommender.git", "https://git.example.org/shop/recommender.git"),
        ("ssh://git@git.example.org/shop/recommender", "https://git.example.org/shop/recommender"),
        ("/home/someone/recommender", ""),
        ("file:///home/someone/recommender", ""),
        ("", ""),
    ],
)
def test_a_folder_of_a_machine_is_no_source(remote: str, address: str) -> None:
    assert web_address(remote) == address


def test_kustomize_and_the_compiler_read_the_digests_that_a_push_wrote(tmp_path: Path) -> None:
    file = tmp_path / "kustomization.yaml"
    pushed = {image: (in_registry(image, REGISTRY), DIGEST) for image in (PIPELINE_IMAGE, SERVING_IMAGE)}
    write_digests(pushed, file)
    (pipeline, _) = yaml.safe_load(file.read_text())["images"]
    assert pipeline["name"] == PIPELINE_IMAGE.rpartition(":")[0]
    digests = read_digests(file)
    assert in_registry(PIPELINE_IMAGE, REGISTRY, digests) == f"{REGISTRY}/campaign-recommender-pipeline@{DIGEST}"
    assert in_registry(PIPELINE_GPU_IMAGE, REGISTRY, digests).endswith(f"-gpu:{VERSION}"), "it was not pushed"
    assert in_registry(PIPELINE_IMAGE, "other.example.org", digests).endswith(f":{VERSION}"), "pushed elsewhere"


def test_before_a_push_there_are_no_digests(tmp_path: Path) -> None:
    assert read_digests(tmp_path / "kustomization.yaml") == {}
    write_digests({}, tmp_path / "kustomization.yaml")
    assert read_digests(tmp_path / "kustomization.yaml") == {}


def test_an_image_without_a_digest_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "kustomization.yaml"
    file.write_text("images:\n- name: a/b\n  newTag: latest\n")
    with pytest.raises(SettingsError, match=r"kustomization\.yaml.*a/b.*digest"):
        read_digests(file)
