"""The engine and the two images. `make test-images` names the engine; without one these tests are skipped.

ENGINE      docker, podman, or a program that takes their arguments
BUILD_ARGS  more arguments for `build`, such as --pull=never
PUSH_ARGS   more arguments for `push`, such as --tls-verify=false
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine

from benchmarks.decision.rows import Row, merge
from benchmarks.measured_on import measured_on
from components.images import REGISTRY

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def engine() -> Engine:
    program = os.environ.get("ENGINE", "")
    if not program:
        pytest.skip("needs docker or podman: `make test-images` finds it, or takes ENGINE=/path/to/engine")
    return Engine(program, os.environ.get("BUILD_ARGS", ""))


@pytest.fixture(scope="session")
def built(engine: Engine) -> Engine:
    """The engine, once it has built both images from this checkout."""
    engine.build_images(ROOT, REGISTRY, python=sys.executable)
    return engine


@pytest.fixture(scope="session")
def figures() -> Iterator[list[Row]]:
    """Figures with goals, which tests add. They are written at the end."""
    rows: list[Row] = []
    yield rows
    if rows and (file := os.environ.get("FIGURES")):
        merge(rows, measured_on(), Path(file))
