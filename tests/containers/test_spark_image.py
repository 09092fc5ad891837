"""The Spark image builds, and its entrypoint runs the program of the SparkApplication in it, without a network."""

import subprocess
import sys
from pathlib import Path

import pytest
from engine import Engine
from equal_feature_sets import assert_equal_sets

from components.images import PIPELINE_SPARK_IMAGE, REGISTRY
from recommender.datasets import ingest
from recommender.features import build_as_set
from recommender.settings import LookSettings, Settings, SourceSettings

ROOT = Path(__file__).parents[2]
SHOP = {"num_users": 120, "num_items": 60, "num_campaigns": 12, "num_categories": 5, "days": 200}
PROGRAM = "local:///venv/lib/python3.11/site-packages/components/spark/build.py"


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    command = [sys.executable, "-m", "components.build_images", REGISTRY, "--engine", engine.program, "--spark"]
    command.append(f"--build-args={engine.build_args}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return PIPELINE_SPARK_IMAGE


def test_the_driver_s_command_builds_what_duckdb_builds_with_a_read_only_root(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    # The text encoder's package is no part of the image.
    source = SourceSettings(dataset="synthetic", synthetic=SHOP)
    settings = Settings(home=tmp_path / "here", source=source, looks=LookSettings(encoder=False))
    tables = ingest(settings.source, tmp_path / "tables")
    as_of = build_as_set(tables, tmp_path / "expected", settings)
    tmp_path.chmod(0o777)
    variables = {
        "SPARK_DRIVER_BIND_ADDRESS": "127.0.0.1",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "RECOMMENDER__FEATURES__ENGINE": "spark",
        "RECOMMENDER__LOOKS__ENCODER": "false",
        "RECOMMENDER__TIME__AS_OF": as_of.isoformat(),
        "RECOMMENDER__HOME": f"{tmp_path}/home",
    }
    engine.output(
        *("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("-v", f"{tmp_path}:{tmp_path}"),
        *(word for name, value in variables.items() for word in ("-e", f"{name}={value}")),
        image,
        *("driver", "--master", "local[2]", "--conf", "spark.local.dir=/tmp/spark", PROGRAM),
        *(f"--tables={tmp_path}/tables", f"--output={tmp_path}/features"),
    )
    assert_equal_sets(tmp_path / "features", tmp_path / "expected")


def test_the_image_holds_nothing_but_declared_packages(engine: Engine, image: str) -> None:
    words = ("run", "--rm", "--network", "none", image, "python", "-m", "pip", "check")
    assert "No broken requirements" in engine.output(*words)
