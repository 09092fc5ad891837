"""Small files of events, and the commands for next items in one call with their options as words."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recommender.allocation.next_item_answers import AnswerReport, AnswerRequest, answer
from recommender.training.next_items import Benchmark, FitRequest, Outputs

OUTPUTS = ("readings", "checkpoints", "study", "bundle", "program", "compiled")
SMALL: dict[str, dict[str, Any]] = {
    "fusion": {"members": 1, "width": 16, "epochs": 2},
    "als": {"width": 8},
    "rules": {},
    "neural_cf": {"epochs": 1},
}
"""Rankers of four kinds with hyperparameters that fit in a second."""


def circle_walks(path: Path, users: int = 40, items: int = 12) -> Path:
    """Write events of users who each walk round the items from a drawn start."""
    starts = np.random.default_rng(3).integers(items, size=users)
    rows = [(f"u{user}", f"i{(start + pos) % items}", pos) for user, start in enumerate(starts) for pos in range(5)]
    pd.DataFrame(rows, columns=["user", "item", "pos"]).to_parquet(path)
    return path


def benchmark_file(interactions: Path, attributes: Path | None = None, **more: Any) -> dict[str, Any]:
    """The report of one benchmark, by default of `rules` with seed 1, written beside the interactions."""
    words: dict[str, Any] = {"ranker": "rules", "seed": 1, "output": interactions.with_name("out.json"), **more}
    outputs = Outputs(report=words.pop("output"), **{name: words.pop(name) for name in OUTPUTS if name in words})
    own = {name: words.pop(name) for name in ("train_on", "trials", "cold") if name in words}
    request = FitRequest(
        interactions=interactions, attributes=attributes, hyperparameters=words.pop("config", {}), **words
    )
    return Benchmark(request=request, outputs=outputs, **own).run()


def benchmark(folder: Path, **more: Any) -> dict[str, Any]:
    """The report of a benchmark of `circle_walks` in `folder`."""
    return benchmark_file(circle_walks(folder / "events.parquet"), **{"output": folder / "out.json", **more})


def ask(bundle: Path, interactions: Path, output: Path, **more: Any) -> AnswerReport:
    """What `next-items ask` does."""
    return answer(AnswerRequest(bundle=bundle, interactions=interactions, output=output, **more))
