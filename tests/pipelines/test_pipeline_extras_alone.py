"""An environment with what the steps' extras install, and nothing else, runs every step of the training pipeline."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from bare_environment import bare_environment

from components.check_settings.parameters import defaults
from pipelines.compile import compile_local
from recommender.registry import Registry
from recommender.settings import Settings, SourceSettings, TrainingSettings
from recommender.storage.home import Home, source_name
from recommender.storage.manifest import MANIFEST

SHOP = {"num_users": 300, "num_items": 100, "num_campaigns": 20, "num_categories": 6, "days": 240}


@pytest.mark.slow
def test_the_extras_of_the_steps_alone_run_the_training_pipeline(tmp_path: Path) -> None:
    judgement = tmp_path / "judgement.toml"
    judgement.write_text("[gate]\nbootstrap_samples = 200\nmin_positives = 5\n")
    settings = Settings(
        home=tmp_path / "home",
        judgement=judgement,
        source=SourceSettings(dataset="synthetic", synthetic=SHOP),
        training=TrainingSettings(challenger="lightgbm", baselines=("logistic",), threads=1),
    )
    specification, arguments, root = (tmp_path / name for name in ("training.yaml", "arguments.json", "artifacts"))
    compile_local(settings, specification, run="run-1")
    arguments.write_text(json.dumps(defaults(settings)))
    python = bare_environment(
        tmp_path / "bare", extras=("pipeline", "data", "text"), dockerfile="components/Dockerfile"
    )
    ran = subprocess.run(
        [str(python), "-m", "pipelines.execute", str(specification), str(arguments), str(root)],
        cwd=tmp_path,  # not the checkout, whose packages would be imported instead of the wheel's
        env={"OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    # A second task of one component has a number at its end.
    ran_steps = {re.sub(r"-\d+$", "", written.parent.name) for written in root.rglob("executor_output.json")}
    assert {
        "check-settings",
        "ingest",
        "validate-data",
        "build-features",
        "materialise",
        "build-training-set",
    } <= ran_steps
    assert {"train-ranker", "register", "evaluate", "gate", "publish-training-set", "publish-evaluation"} <= ran_steps
    assert ran_steps & {"deploy", "hold"}
    assert Registry(settings.home).status().champion is not None
    assert (Home.of(settings).validated(source_name(settings)) / MANIFEST).is_file()
