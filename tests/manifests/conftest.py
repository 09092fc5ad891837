"""Fixtures that run kubectl and hadolint from the `dev` extra, and checkov from the environment of `make manifests`."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("local", "staging", "production")


@pytest.fixture(scope="session")
def checkov() -> str:
    found = shutil.which("checkov", path=str(ROOT / ".venv-tools" / "bin")) or shutil.which("checkov")
    if found is None:
        pytest.skip("checkov is not installed: `make manifests` installs it and runs this test")
    return found


@pytest.fixture(scope="session", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One overlay as `kubectl kustomize` renders it, in a separate folder."""
    folder = tmp_path_factory.mktemp(request.param)
    command = [
        str(Path(sys.executable).with_name("kubectl")),
        "kustomize",
        str(ROOT / "k8s" / "overlays" / request.param),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (folder / f"{request.param}.yaml").write_text(result.stdout)
    return folder


@pytest.fixture(scope="session")
def resources(rendered: Path) -> list[dict[str, Any]]:
    (file,) = rendered.glob("*.yaml")
    return [resource for resource in yaml.safe_load_all(file.read_text()) if resource]
