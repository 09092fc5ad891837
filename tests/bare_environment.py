"""A virtual environment with our wheel and one extra, and no other distribution: an undeclared import fails in it.

Installing torch anew takes a minute and a gigabyte, so the declared distributions are linked from the environment that
runs the tests. pip then installs our wheel without an index: it refuses where a declared requirement is missing.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = "campaign-recommender"


def bare_environment(folder: Path, *, extra: str, packages: tuple[str, ...]) -> Path:
    """Make the environment in `folder`, and return its interpreter.

    `packages`: our own packages that the wheel holds, as the image copies them.
    """
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    wheel = _wheel(folder, packages)
    (unpacked,) = Distribution.discover(path=[str(wheel)])
    for name in declared(unpacked, extra):
        _link(distribution(name), site)
    python = environment / "bin" / "python"
    _pip("--python", str(python), "install", "--no-index", "--no-compile", f"{PROJECT}[{extra}] @ {wheel.as_uri()}")
    return python


def declared(project: Distribution, extra: str) -> set[str]:
    """Names of the distributions that `extra` of `project` requires, as far as they are installed here."""
    found: set[tuple[str, str]] = set()
    to_visit = [(Requirement(text), extra) for text in project.requires or ()]
    while to_visit:
        requirement, of = to_visit.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras} - {known for other, known in found if other == name}:
            found.add((name, wanted))
            try:
                to_visit += [(Requirement(text), wanted) for text in distribution(name).requires or ()]
            except PackageNotFoundError:
                found.discard((name, wanted))
                break
    return {name for name, _ in found}


def _wheel(folder: Path, packages: tuple[str, ...]) -> Path:
    source = folder / "source"
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in packages:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    _pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "wheels"), str(source))
    (wheel,) = (folder / "wheels").glob("*.whl")
    return wheel


def _link(installed: Distribution, site: Path) -> None:
    """Link a package with an `__init__.py` as one folder, and a shared namespace (google/) file by file."""
    files = [file for file in installed.files or () if ".." not in file.parts]  # without the commands of bin/
    whole = {file.parts[0] for file in files if file.parts[1:] == ("__init__.py",)}
    for place in {Path(file.parts[0]) if file.parts[0] in whole else Path(file) for file in files}:
        link = site / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(str(installed.locate_file(place))))


def _pip(*arguments: str) -> None:
    # Without its configuration: an index or a folder of wheels named there could supply what was not declared.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment["PIP_CONFIG_FILE"] = os.devnull
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
