"""Prints the requirements of extras, for the layers of an image that lie below our own code.

    python requirements.py pyproject.toml pipeline,data,text

The images install them before our wheel, so that a change of the code leaves the layers of dependencies as they are. It
runs in the base image, with the standard library alone.
"""

import sys
import tomllib
from pathlib import Path


def requirements_of(pyproject: Path, extras: list[str]) -> list[str]:
    """Requirements of the project and of `extras`, each once, sorted.

    Raises:
        KeyError: the project has no such extra.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = set(project["dependencies"])
    for extra in extras:
        found |= set(project["optional-dependencies"][extra])
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(requirements_of(Path(sys.argv[1]), sys.argv[2].split(","))))
