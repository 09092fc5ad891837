"""What the Dockerfiles say, as far as it can be seen without building them. tests/containers builds them."""

import subprocess
import sys
from pathlib import Path

import pytest
from bare_environment import copied

from components.build_images import BUILDS, GPU_BUILD, SPARK_BUILD
from components.requirements import requirements_of

ROOT = Path(__file__).parents[2]
DOCKERFILES = {"components/Dockerfile": ["pipeline", "data", "text", "cli"], "serving/Dockerfile": ["serving", "otel"]}
"""Each with the extras that it installs."""


def test_hadolint_finds_nothing() -> None:
    command = [str(Path(sys.executable).with_name("hadolint")), *(str(ROOT / name) for name in DOCKERFILES)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_runs_as_a_user_without_a_name_for_root(name: str) -> None:
    users = [line.split()[1] for line in (ROOT / name).read_text().splitlines() if line.startswith("USER ")]
    assert users, "it runs as root"
    assert all(int(user.split(":")[0]) > 0 for user in users)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_installs_its_extras_and_openmp_for_lightgbm(name: str) -> None:
    text = (ROOT / name).read_text()
    assert f"ARG EXTRAS={','.join(DOCKERFILES[name])}\n" in text
    assert ("ARG SPARK_EXTRAS=spark\n" in text) == (name == "components/Dockerfile")
    assert "libgomp1" in text


@pytest.mark.parametrize("name", DOCKERFILES)
def test_layers_of_dependencies_know_nothing_of_our_code(name: str) -> None:
    stages = [line.split()[-1] for line in (ROOT / name).read_text().splitlines() if line.startswith("FROM ")]
    below = [stage for stage in stages if stage in ("base", "requirements") or stage.startswith("dependencies")]
    assert len(below) >= 3
    ours = {file for stage in below for file in copied(ROOT / name, stage)}
    assert ours == {"constraints.txt", "pyproject.toml", "components/requirements.py"}


def test_every_build_names_a_stage_of_its_dockerfile() -> None:
    for build in (*BUILDS, GPU_BUILD, SPARK_BUILD):
        assert f"AS {build.target}\n" in (ROOT / build.dockerfile).read_text()


def test_what_an_image_copies_is_sent_to_the_engine() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in DOCKERFILES:
        for file in copied(ROOT / name, "wheel"):
            assert file.split("/")[0] in sent, f"{name} copies {file}, which .dockerignore keeps away"


def test_requirements_are_those_of_the_project_and_its_extras_once(tmp_path: Path) -> None:
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text(
        '[project]\ndependencies = ["numpy"]\n'
        '[project.optional-dependencies]\na = ["torch==2", "numpy"]\nb = ["rich"]\n'
    )
    assert requirements_of(pyproject, ["a"]) == ["numpy", "torch==2"]
    assert requirements_of(pyproject, ["a", "b"]) == ["numpy", "rich", "torch==2"]
    with pytest.raises(KeyError, match="c"):
        requirements_of(pyproject, ["c"])
