"""What one extra of pyproject.toml installs, and Python with only that: as in the image that is built from it."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
HIDE = """
import json, sys

hidden = set(json.load(sys.stdin))

class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden)
"""


def closure(texts: Iterable[str]) -> set[str]:
    """Distributions that pip would install for these requirements, as far as they are installed here."""
    found: set[tuple[str, str]] = set()
    ask = [(Requirement(text), "") for text in texts]
    while ask:
        requirement, of = ask.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in found:
                continue
            found.add((name, extra))
            try:
                ask += [(Requirement(text), extra) for text in requires(name) or ()]
            except PackageNotFoundError:
                continue
    return {name for name, _ in found}


def modules_outside(extra: str) -> list[str]:
    """Top-level modules that are installed here, but not where only `extra` is. Our own packages are everywhere."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = closure([*project["dependencies"], *project["optional-dependencies"][extra]])
    installed.add(canonicalize_name(project["name"]))
    ours = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    return [
        module
        for module, names in packages_distributions().items()
        if installed.isdisjoint(map(canonicalize_name, names)) and module not in ours
    ]


def run_with_only(
    extra: str, program: str, *arguments: str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """The Python text `program` in a separate process, where the modules outside `extra` cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", HIDE + program, *arguments],
        input=json.dumps(modules_outside(extra)),
        env={"OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
