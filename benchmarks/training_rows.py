"""The rows of the training benchmark: what each one tries, and its timings, each in its own process."""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import reference
from benchmarks.environments import PEERS, answer_of, python_of
from benchmarks.training_data import Request, read_events, timed
from recommender.engine.precision import cpu_has_units
from recommender.errors import RecommenderError

PEER_FILES = Path(__file__).with_name("peers")
CHECKOUT = Path(__file__).resolve().parents[1]
"""The repository, one folder above this one: children run from there."""
OURS = {"ours": "fp32", "ours_bf16": "bf16"}
"""Our rows and their precision. The goals are for `ours`, whose loss is that of the plain formula to 1e-4."""
WARM_UP_USERS = 64
"""The warm-up takes the steps of so many users, and at least two, as for peers. Chosen by hand."""


@dataclass(frozen=True)
class Variant:
    """One variant of a row: batch size, precision, and one further option."""

    batch_size: int
    """Sequences of a batch. For `ours`, which packs sequences, targets of a batch."""
    precision: str = "fp32"
    option: str = ""


@dataclass(frozen=True)
class RowPlan:
    """The variants that a row tries, and how many targets a trial and a measurement train."""

    variants: tuple[Variant, ...]
    trial: int
    measured: int


ROWS = {
    "ours": RowPlan(tuple(Variant(tokens) for tokens in (1024, 2048, 4096)), 20_000, 100_000),
    "ours_bf16": RowPlan(tuple(Variant(tokens, "bf16") for tokens in (1024, 2048, 4096)), 20_000, 100_000),
    "reference": RowPlan(
        tuple(Variant(size, precision) for precision in reference.PRECISIONS for size in reference.BATCH_SIZES),
        20_000,
        100_000,
    ),
    "replay": RowPlan(
        tuple(Variant(size, option=option) for option in ("", "buckets") for size in (16, 32, 128)), 10_000, 50_000
    ),
    "rectools": RowPlan(tuple(Variant(size) for size in (16, 32, 128)), 10_000, 30_000),
    "recbole": RowPlan(tuple(Variant(size) for size in (64, 256)), 500, 2_000),
}
"""Slower rows train fewer targets, so that each timing takes some seconds to half a minute. Chosen by hand."""


def measure(request: Request) -> dict[str, Any]:
    """One timing of `ours` or `reference`, in this process."""
    import torch

    torch.set_num_threads(1)
    if request.row in OURS:
        from benchmarks import ours

        return ours.measure(request)
    events = read_events(request.events)
    epoch = reference.batches(events, length=request.shape.length, size=request.batch_size, seed=request.seed)
    steps = reference.steps(request.shape, epoch, precision=request.precision, seed=request.seed)
    return {**timed(steps, warm_up=request.warm_up, targets=request.targets), "classes": request.shape.num_items}


def measure_in_child(request: Request, python: Path) -> dict[str, Any]:
    """One timing in a fresh process with one thread: targets, CPU-seconds, steps, classes of the softmax, rate.

    Raises:
        RecommenderError: It failed; the message is its last line.
    """
    words = json.dumps(request.json())
    if request.row in PEERS:
        with tempfile.TemporaryDirectory() as folder:  # a peer may write files where it runs
            command = [str(python), "-P", str(PEER_FILES / f"{request.row}.py"), words]
            result = answer_of(command, Path(folder))
    else:
        result = answer_of([str(python), "-m", "benchmarks.training", "--request", words], CHECKOUT)
    return {**result, "rate": result["targets"] / result["cpu_seconds"]}


def measure_rows(
    shape: reference.Shape, events: Path, names: list[str], *, repeats: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Measure the rows `names`: try all variants of each, then time the best ones in turns.

    Turns alternate between the rows, so whatever else the machine does hits all alike. The best turn is the row's rate.

    Args:
        shape: The network, the same for every row.
        events: The CSV of a `Request`.
        names: Rows of `ROWS`.
        repeats: Turns.
        say: Called with one line per timing.

    Returns:
        By row its trials, its turns and its rate, or "error" where it cannot be measured.
    """
    found: dict[str, dict[str, Any]] = {}
    best: dict[str, tuple[Request, Path]] = {}
    for name in names:
        tried: list[dict[str, Any]] = []
        try:
            python = python_of(name) if name in PEERS else Path(sys.executable)
            for one in ROWS[name].variants:
                request = _request(name, one, shape, events, ROWS[name].trial)
                tried.append({**asdict(one), "rate": measure_in_child(request, python)["rate"]})
                say(f"{name:10s} {one.batch_size:5d} {one.precision} {one.option:8s} {tried[-1]['rate']:9,.0f}")
        except RecommenderError as error:
            found[name] = {"error": str(error), "tried": tried}
            say(f"{name}: {error}")
            continue
        chosen = ROWS[name].variants[int(np.argmax([one["rate"] for one in tried]))]
        best[name] = _request(name, chosen, shape, events, ROWS[name].measured), python
        found[name] = {**asdict(chosen), "tried": tried, "turns": []}
    for turn in range(repeats):
        for name, (request, python) in best.items():
            found[name]["turns"].append(measure_in_child(replace(request, seed=turn), python))
            say(f"{name:10s} turn {turn + 1}: {found[name]['turns'][-1]['rate']:9,.0f} targets per CPU-second")
    for row in (found[name] for name in best):
        row["targets_per_cpu_second"] = max(turn["rate"] for turn in row["turns"])
    return found


def _request(name: str, variant: Variant, shape: reference.Shape, events: Path, targets: int) -> Request:
    # bf16 on a CPU without units for it is ten times slower, so fewer targets show its rate.
    share = 1 if variant.precision == "fp32" or cpu_has_units() else 4
    # At least two steps: memory is allocated in the first one.
    warm_up = 2 if name in PEERS else max(2, WARM_UP_USERS // variant.batch_size)
    return Request(name, str(events), shape, warm_up=warm_up, targets=targets // share, **asdict(variant))
