"""Whether a busy machine decides the latency check: a ranker is measured as things are and beside ten busy processes.

The ranker is a transformer of the default size that was trained for one epoch, since only its speed matters.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decision.rows import Row
from recommender.evaluation.latency import measure, one_thread
from recommender.features.training_set import TrainingSet
from recommender.models.campaign.ranker import Ranker

BUSY = 10
"""Processes that compute without end beside the measurement."""
REQUESTS = 20
"""As `evaluation.evaluate` measures."""


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Let processes compute until the block ends."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(10_000))"]) for _ in range(count)]
    try:
        time.sleep(1)  # until they compute
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def before(ranker: Ranker[Any], requests: list[Callable[[], Any]]) -> float:
    """95th percentile as it was measured: CPU time of the process, the best of three rounds of 40 calls."""
    rounds = []
    with one_thread():
        for _ in range(3):
            times_ms = []
            for call in range(40):
                start = time.process_time_ns()
                ranker.score(requests[call % len(requests)]())
                times_ms.append((time.process_time_ns() - start) / 1e6)
            rounds.append(float(np.quantile(times_ms, 0.95)))
    return min(rounds)


def small_training_set(folder: Path) -> TrainingSet:
    """The training set of a small synthetic shop."""
    import pyarrow.parquet as pq

    from recommender import features
    from recommender.datasets.periods import resolve
    from recommender.datasets.synthetic import World, generate
    from recommender.features.training_set import write_training_set
    from recommender.matching.catalogue import Catalogue
    from recommender.settings import Settings

    tables = generate(World.small(num_users=200), folder / "tables")
    as_of = resolve(Settings(home=folder / "var"), tables).as_of
    built = features.build(tables, folder / "features", as_of=as_of, threads=1)
    users, pairs = (pq.read_table(built / name) for name in ("users.parquet", "pairs.parquet"))
    catalogue = Catalogue.load(built / "catalogue")
    return TrainingSet.open(write_training_set(users, pairs, catalogue, tables, folder / "set", as_of=as_of))


def rows(say: Callable[[str], None]) -> list[Row]:
    """The figure of the check on an idle and on a busy machine."""
    from recommender.engine.context import FitContext
    from recommender.models.campaign import ranker_class
    from recommender.training.train import fit_at

    with tempfile.TemporaryDirectory() as folder:
        data = small_training_set(Path(folder))
        kind = ranker_class("transformer")
        config = kind.Config.parse({"pretrain_epochs": 1, "tune_epochs": 0}, owner="transformer")
        ranker = fit_at(kind, data, data.as_of, config, FitContext())
        requests, num_campaigns = data.requests(data.as_of, REQUESTS)
        measured: list[float] = []
        facts: dict[str, Any] = {}
        for name, processes in (("quiet", 0), ("busy", BUSY)):
            say(f"latency beside {processes} busy processes")
            with busy_processes(processes):
                found = measure(ranker, requests, num_campaigns)
                old_ms = before(ranker, requests)
            if found is None:
                raise RuntimeError("no campaign is live in the synthetic shop")
            measured.append(found.p95_ms)
            facts[name] = {**found.model_dump(), "before_p95_ms": old_ms, "load": os.getloadavg()[0]}
    name = f"latency check, p95 beside {BUSY} busy processes over p95 without"
    return [Row.at_most(name, max(measured) / min(measured), 1.2, **facts)]
