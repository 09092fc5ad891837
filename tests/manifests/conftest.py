"""Fixtures that run kubectl and hadolint from the `dev` extra, and checkov from the environment of `make manifests`."""

import shutil
from pathlib import Path

import pytest
import yaml
from kustomized import K8S, OVERLAYS, ROOT, Compiled, Resources, loaded, rendered_text

from pipelines.cluster import Cluster
from pipelines.compile import compile_cluster
from recommender.settings import load_settings

VARIANTS: dict[str, tuple[str, ...]] = {
    **{overlay: (overlay,) for overlay in OVERLAYS},
    "local-with-components": ("local", "housekeeping", "monitoring", "gateway-api"),
    "standalone-with-components": ("standalone", "production", "autoscaling", "monitoring", "housekeeping"),
    "production-with-components": (
        *(
            "production",
            "autoscaling-keda",
            "monitoring",
            "external-redis",
            "housekeeping",
            "gateway-api",
            "pull-secrets",
        ),
    ),
    "production-spark": ("production", "housekeeping", "spark"),
    "local-in-process": ("local", "monitoring", "gateway-api", "external-postgres", "engine-in-process"),
    "production-postgres": ("production", "autoscaling", "monitoring", "external-postgres", "housekeeping"),
    "production-in-process": ("production", "autoscaling", "monitoring", "housekeeping", "engine-in-process"),
    "local-oip": ("local", "monitoring", "engine-oip", "oip-repository"),
    "production-oip": ("production", "autoscaling", "monitoring", "external-redis", "engine-oip"),
}
"""Each overlay, and each component on at least one of them: name -> overlay and components."""


@pytest.fixture(scope="session")
def checkov() -> str:
    found = shutil.which("checkov", path=str(ROOT / ".venv-tools" / "bin")) or shutil.which("checkov")
    if found is None:
        pytest.skip("checkov is not installed: `make manifests` installs it and runs this test")
    return found


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each variant as `kubectl kustomize` renders it."""
    folder = tmp_path_factory.mktemp("rendered")
    for name, of in VARIANTS.items():
        (folder / f"{name}.yaml").write_text(rendered_text(tmp_path_factory.mktemp(name), *of))
    return folder


@pytest.fixture(scope="session", params=VARIANTS)
def rendered(request: pytest.FixtureRequest, variants: Path) -> Path:
    """One variant's file."""
    return variants / f"{request.param}.yaml"


@pytest.fixture(scope="session")
def resources(rendered: Path) -> Resources:
    return loaded(rendered.read_text())


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    settings = load_settings(K8S / "base" / "recommender.toml")
    file, _ = compile_cluster(settings, tmp_path_factory.mktemp("dist"), cluster=Cluster(), namespace="campaigns")
    spec, platform = yaml.load_all(file.read_text(), yaml.CSafeLoader)
    return Compiled(file.read_text(), spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])
