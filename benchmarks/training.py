"""`make bench-training`: full-softmax targets per CPU-second, one thread, one run: ours, the reference, RePlay, RecTools, RecBole.

Every row trains SASRec in one shape on the same users of MovieLens-1M, in a process of its own. First each row's batch sizes and
precisions are tried shortly; then the best of each is timed in turns, so that whatever else the machine does hits all alike, and the
best of the turns counts. `python -m benchmarks.training DATA_FOLDER` writes reports/bench/training.json; see
docs/benchmarks.md for the method.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import reference, softmax_memory
from benchmarks.environments import PEERS, answer_of, python_of
from benchmarks.measured_on import measured_on, report_path
from benchmarks.training_data import (
    EVERY,
    Request,
    as_sequences,
    measured_users,
    num_targets,
    read_events,
    timed,
    write_events,
)
from recommender.engine.precision import cpu_has_units
from recommender.errors import RecommenderError
from recommender.report.terminal import wide
from recommender.storage.manifest import write_text

GOAL, LOSS_GOAL = 1.25, 1e-4
REPORT, CACHE = Path("reports/bench/training.json"), Path("var/peers")
PEER_FILES = Path(__file__).with_name("peers")
OURS = {"ours": "fp32", "ours_bf16": "bf16"}
"""Our rows and their precision: a goal is reached by `ours`, whose loss is the plain formula's to 1e-4; bf16 is as near as it is."""
SYNTHETIC = reference.Shape(num_items=3416)


@dataclass(frozen=True)
class Way:
    """One way of running a row."""

    batch_size: int
    """Sequences of a batch; of `ours`, which packs, targets."""
    precision: str = "fp32"
    option: str = ""


@dataclass(frozen=True)
class Plan:
    """What a row tries, and how many targets a trial and a measurement train."""

    ways: tuple[Way, ...]
    trial: int
    measured: int


ROWS = {
    "ours": Plan(tuple(Way(tokens) for tokens in (1024, 2048, 4096)), 20_000, 100_000),
    "ours_bf16": Plan(tuple(Way(tokens, "bf16") for tokens in (1024, 2048, 4096)), 20_000, 100_000),
    "reference": Plan(
        tuple(Way(size, precision) for precision in reference.PRECISIONS for size in reference.BATCH_SIZES),
        20_000,
        100_000,
    ),
    "replay": Plan(tuple(Way(size, option=way) for way in ("", "buckets") for size in (16, 32, 128)), 10_000, 50_000),
    "rectools": Plan(tuple(Way(size) for size in (16, 32, 128)), 10_000, 30_000),
    "recbole": Plan(tuple(Way(size) for size in (64, 256)), 500, 2_000),
}


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


def child(request: Request, python: Path) -> dict[str, Any]:
    """One timing in a fresh process with one thread: targets, CPU seconds, steps, classes of the softmax, rate.

    Raises:
        RecommenderError: it failed; the message is its last line.
    """
    script = ["-m", __name__ if __name__ != "__main__" else "benchmarks.training", "--request"]
    if request.row in PEERS:
        script = ["-P", str(PEER_FILES / f"{request.row}.py")]
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if request.row in PEERS else root
        result = answer_of([str(python), *script, json.dumps(request.json())], folder)
    return {**result, "rate": result["targets"] / result["cpu_seconds"]}


def rows(
    shape: reference.Shape, events: Path, names: list[str], *, repeats: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """All rows: the best of each one's ways, timed `repeats` times in turns. A row that cannot be measured says why."""
    found: dict[str, dict[str, Any]] = {}
    best: dict[str, tuple[Request, Path]] = {}
    for name in names:
        tried: list[dict[str, Any]] = []
        try:
            python = python_of(name, CACHE.resolve()) if name in PEERS else Path(sys.executable)
            for way in ROWS[name].ways:
                request = _request(name, way, shape, events, ROWS[name].trial)
                tried.append({**asdict(way), "rate": child(request, python)["rate"]})
                say(f"{name:10s} {way.batch_size:5d} {way.precision} {way.option:8s} {tried[-1]['rate']:9,.0f}")
        except RecommenderError as error:
            found[name] = {"error": str(error), "tried": tried}
            say(f"{name}: {error}")
            continue
        way = ROWS[name].ways[int(np.argmax([one["rate"] for one in tried]))]
        best[name] = _request(name, way, shape, events, ROWS[name].measured), python
        found[name] = {**asdict(way), "tried": tried, "turns": []}
    for turn in range(repeats):
        for name, (request, python) in best.items():
            found[name]["turns"].append(child(replace(request, seed=turn), python))
            say(f"{name:10s} turn {turn + 1}: {found[name]['turns'][-1]['rate']:9,.0f} targets per CPU-second")
    for row in (found[name] for name in best):
        row["targets_per_cpu_second"] = max(turn["rate"] for turn in row["turns"])
    return found


def _request(name: str, way: Way, shape: reference.Shape, events: Path, targets: int) -> Request:
    # bf16 without units for it is an order slower: fewer targets show it.
    share = 1 if way.precision == "fp32" or cpu_has_units() else 4
    warm_up = 2 if name in PEERS else max(2, 64 // way.batch_size)
    return Request(name, str(events), shape, warm_up=warm_up, targets=targets // share, **asdict(way))


def main() -> int:
    """Measure, print, write the report; exit code 1 when a goal is missed, 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, help="folder with ml-1m/sequences.parquet")
    parser.add_argument("--rows", default=",".join(ROWS), help="some rows only, with commas between")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--request", help="one timing, as JSON (what the benchmark calls itself with)")
    words = parser.parse_args()
    if words.request:
        print(json.dumps(measure(Request.of(json.loads(words.request)))))
        return 0
    console = wide()
    try:
        names = words.rows.split(",")
        report = report_of(words.data, names, words.repeats, console)
    except RecommenderError as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 2
    output = report_path(REPORT, is_complete=words.data is not None and set(names) == set(ROWS))
    write_text(output, json.dumps(report, indent=1) + "\n")
    show(report, console)
    console.print(f"all figures: {output}", markup=False)
    return 0 if all(report["reached"].values()) else 1


def report_of(data: Path | None, names: list[str], repeats: int, console: Console) -> dict[str, Any]:
    """Everything that reports/bench/training.json holds."""
    report: dict[str, Any] = {**measured_on(), "goals": {"ours_over_reference": GOAL, "loss_difference": LOSS_GOAL}}
    reached: dict[str, bool] = {}
    shape = SYNTHETIC
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            report["left_out"] = "all rows of speed: no data folder was given; the loss was compared on synthetic users"
            console.print(report["left_out"], markup=False)
        else:
            users, path = measured_users(data), Path(folder) / "events.csv"
            shape = reference.Shape(num_items=users.items.num)
            write_events(users, path, length=shape.length)
            report["shape"] = asdict(shape)
            report["data"] = {
                "set": "ml-1m",
                "users": f"one in {EVERY} by number of events: {users.num_users}",
                "targets_of_an_epoch": num_targets(users, length=shape.length),
                "items": users.items.num,
            }
            found = rows(shape, path, names, repeats=repeats, say=lambda text: console.print(text, markup=False))
            report["rows"] = found
            reached |= _verdict(found, report)
        report["loss_difference"] = _loss_differences(shape, None if data is None else path)
    reached["same loss as the plain formula"] = report["loss_difference"]["ours"] <= LOSS_GOAL
    report["softmax_memory"] = softmax_memory.table()
    reached["memory of the softmax"] = bool(report["softmax_memory"]["reached"])
    report["reached"] = reached
    return report


def _verdict(found: dict[str, dict[str, Any]], report: dict[str, Any]) -> dict[str, bool]:
    speed = {name: row["targets_per_cpu_second"] for name, row in found.items() if "targets_per_cpu_second" in row}
    peers = {name: value for name, value in speed.items() if name in PEERS}
    out = {}
    if {"ours", "reference"} <= set(speed):
        report["ours_over_reference"] = speed["ours"] / speed["reference"]
        out["faster than the reference"] = report["ours_over_reference"] >= GOAL
    if "ours" in speed and peers:
        fastest = max(peers, key=lambda name: peers[name])
        report["fastest_peer"], report["ours_over_fastest_peer"] = fastest, speed["ours"] / peers[fastest]
        out["faster than the fastest peer"] = report["ours_over_fastest_peer"] > 1
    return out


def _loss_differences(shape: reference.Shape, path: Path | None) -> dict[str, float]:
    import torch

    from benchmarks import ours

    if path is not None:
        events = read_events(str(path))
    else:
        rng = np.random.default_rng(0)
        events = [rng.integers(1, shape.num_items + 1, size=size) for size in rng.integers(2, 201, size=128)]
    torch.set_num_threads(1)
    sequences = as_sequences(events, shape.num_items)
    return {row: ours.loss_difference(shape, sequences, precision=precision) for row, precision in OURS.items()}


def show(report: dict[str, Any], console: Console) -> None:
    """The report as a table and a few lines."""
    table = Table(title="Full-softmax training, ML-1M, d 64, 2 blocks, length 200, one thread")
    for column in ("row", "targets per CPU-second", "x reference", "batch", "precision", "turns"):
        table.add_column(column, justify="left" if column == "row" else "right")
    base = report.get("rows", {}).get("reference", {}).get("targets_per_cpu_second")
    for name, row in report.get("rows", {}).items():
        if "error" in row:
            table.add_row(name, f"not measured: {row['error']}")
            continue
        rate = row["targets_per_cpu_second"]
        turns = " ".join(f"{turn['rate']:,.0f}" for turn in row["turns"])
        batch = f"{row['batch_size']:,} {'targets' if name in OURS else 'users'} {row['option']}".strip()
        table.add_row(name, f"{rate:,.0f}", f"{rate / base:.2f}" if base else "", batch, row["precision"], turns)
    if table.row_count:
        console.print(table)
    own, half, theirs = (report["softmax_memory"][way] for way in ("ours", "ours_bf16", "plain"))
    away = ", ".join(f"{row} {value:.1e}" for row, value in report["loss_difference"].items())
    console.print(f"loss, at most from the plain formula: {away} (goal for ours {LOSS_GOAL:.0e})")
    console.print(
        f"memory of the softmax, {own['targets']:,} targets x {own['items']:,} items: {own['ratio']:.3f} x the gradient buffers "
        f"({own['peak_mib']:,.0f} MiB), in bfloat16 {half['ratio']:.3f} x; F.cross_entropy at {theirs['targets']} targets {theirs['peak_mib']:,.0f} MiB, "
        f"scaled {theirs['scaled_peak_mib']:,.0f} MiB"
    )
    for goal, is_reached in report["reached"].items():
        console.print(f"{'reached' if is_reached else 'MISSED '}  {goal}", style="green" if is_reached else "red")


if __name__ == "__main__":
    sys.exit(main())
