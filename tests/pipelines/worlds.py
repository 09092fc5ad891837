"""Runs of the whole compiled pipeline on synthetic worlds whose truth is known, with real training."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from components.check_settings.parameters import defaults
from pipelines.compile import compile_local
from pipelines.local import LocalRun, new_run_id, run_pipeline
from pipelines.memory import MemoryWatch
from pipelines.training_run import run_training
from recommender.settings import Settings, SourceSettings, TrainingSettings
from recommender.storage.home import Home

WORLD = {"num_users": 800, "num_items": 240, "num_campaigns": 24, "num_categories": 8, "views": False}
JUDGEMENT = """
[gate]
primary_metric = "log_loss"
margin = 0.0
bootstrap_samples = 300
min_campaigns = 3

[guardrails]
max_latency_ms = 500.0
max_ece = 0.1
max_ece_increase = 0.1
"""
BASELINES = ("rate_rule", "logistic")
"""The best of all baselines and one to choose from. Each takes 10 CPU-seconds."""
SMALL_TRANSFORMER: dict[str, Any] = {
    "width": 32,
    "blocks": 1,
    "members": 1,
    "min_product_lines": 20,
    "pretrain_epochs": 4,
    "tune_epochs": 2,
}


def world(home: Path, *, preference: str, training: TrainingSettings | None = None, **parameters: Any) -> Settings:
    """Settings of a small world of this preference, with a margin of zero: a challenger must be better."""
    home.mkdir(parents=True, exist_ok=True)
    judgement = home / "judgement.toml"
    judgement.write_text(JUDGEMENT)
    return Settings(
        home=home,
        judgement=judgement,
        source=SourceSettings(dataset="synthetic", synthetic={**WORLD, "preference": preference, **parameters}),
        training=training
        or TrainingSettings(threads=1, baselines=BASELINES, rankers={"transformer": SMALL_TRANSFORMER}),
    )


def run_with(settings: Settings, **parameters: Any) -> LocalRun:
    """One run of the pipeline that is compiled from these settings, with other values of its parameters."""
    home, run_id = Home.of(settings), new_run_id()
    compile_local(settings, home.run(run_id).specification, run=run_id)
    console = Console(file=io.StringIO(), width=120)
    with MemoryWatch() as memory:
        return run_pipeline(run_id, defaults(settings) | parameters, home=home, console=console, memory=memory)


def run(settings: Settings, *, caching: bool = True) -> tuple[LocalRun, str]:
    """One run and what it showed."""
    shown = io.StringIO()
    with MemoryWatch() as memory:
        made = run_training(settings, console=Console(file=shown, width=120), memory=memory, caching=caching)
    return made, shown.getvalue()
