"""The tools that check manifests live in an environment of their own, which `make manifests` installs."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("local", "staging", "production")


def _tool(name: str) -> str:
    found = shutil.which(name, path=str(ROOT / ".venv-tools" / "bin")) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: `make manifests` installs it and runs this test")
    return found


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    return _tool


@pytest.fixture(scope="session", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One overlay as `kubectl kustomize` renders it, in a folder of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    command = [_tool("kubectl"), "kustomize", str(ROOT / "k8s" / "overlays" / request.param)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (folder / f"{request.param}.yaml").write_text(result.stdout)
    return folder


@pytest.fixture(scope="session")
def resources(rendered: Path) -> list[dict[str, Any]]:
    (file,) = rendered.glob("*.yaml")
    return [resource for resource in yaml.safe_load_all(file.read_text()) if resource]
