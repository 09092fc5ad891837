"""A virtual environment with an image's wheel and some extras, and nothing else: an undeclared import fails in it.

Installing torch anew takes a minute and a gigabyte, so the declared distributions are linked from the environment that
runs the tests. pip then installs our wheel without an index: it refuses where a declared requirement is missing.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = "campaign-recommender"


def bare_environment(folder: Path, *, extras: tuple[str, ...], dockerfile: str, beside: Path | None = None) -> Path:
    """Make the environment in `folder`, and return its interpreter.

    `dockerfile`: the image whose wheel it is. The wheel holds what its stage `wheel` copies.
    `beside`: packages of another environment, which count as installed too.
    """
    with _found_too(beside):
        return _made(folder, extras, dockerfile)


@contextmanager
def _found_too(beside: Path | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if beside is not None:
            patch.setattr(sys, "path", [*sys.path, str(beside)])
        yield


def _made(folder: Path, extras: tuple[str, ...], dockerfile: str) -> Path:
    environment = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    wheel = _wheel(folder, copied(ROOT / dockerfile, "wheel"))
    (unpacked,) = Distribution.discover(path=[str(wheel)])
    wanted = [distribution(name) for name in set().union(*(declared(unpacked, extra) for extra in extras))]
    folders = Counter(folder for one in wanted for folder in {file.parts[0] for file in _files(one)})
    for one in wanted:
        _link(one, site, shared={folder for folder, owners in folders.items() if owners > 1})
    python = environment / "bin" / "python"
    _pip(
        "--python",
        str(python),
        "install",
        "--no-index",
        "--no-compile",
        f"{PROJECT}[{','.join(extras)}] @ {wheel.as_uri()}",
    )
    return python


def copied(dockerfile: Path, stage: str) -> list[str]:
    """What a stage of a Dockerfile copies from the checkout, without what lies in other stages."""
    found: list[str] = []
    within = False
    for line in dockerfile.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:1] == ["FROM"]:
            within = words[-1] == stage
        elif within and words[:1] == ["COPY"] and not words[1].startswith("--"):
            found += words[1:-1]
    return found


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


def _wheel(folder: Path, names: list[str]) -> Path:
    source = folder / "source"
    source.mkdir(parents=True)
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not name.endswith(".pth"):
            (source / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    _pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "wheels"), str(source))
    (wheel,) = (folder / "wheels").glob("*.whl")
    return wheel


def _link(installed: Distribution, site: Path, *, shared: set[str]) -> None:
    """Link a package with an `__init__.py` as one folder, and a folder of several ones (google/) file by file."""
    files = _files(installed)
    whole = {file.parts[0] for file in files if file.parts[1:] == ("__init__.py",)} - shared
    for place in {Path(file.parts[0]) if file.parts[0] in whole else Path(file) for file in files}:
        link = site / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(str(installed.locate_file(place))))


def _files(installed: Distribution) -> list[PackagePath]:
    """Its files without the commands of bin/ and without bytecode, which two distributions may both name."""
    return [file for file in installed.files or () if ".." not in file.parts and "__pycache__" not in file.parts]


def _pip(*arguments: str) -> None:
    # Without its configuration: an index or a folder of wheels named there could supply what was not declared.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment["PIP_CONFIG_FILE"] = os.devnull
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
