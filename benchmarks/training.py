"""`make bench-training`: how many targets a full-softmax SASRec trains per CPU-second, on one thread.

Compared are our training, a plain reference, RePlay, RecTools and RecBole: the same network on the same users of
MovieLens-1M. `python -m benchmarks.training DATA_FOLDER` writes reports/bench/training.json. Without the folder only
the loss and the memory of the softmax are measured. docs/benchmarks.md has the method.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import reference, softmax_memory
from benchmarks.environments import PEERS
from benchmarks.measured_on import measured_on, report_path
from benchmarks.training_data import (
    EVERY,
    Request,
    as_sequences,
    measured_users,
    num_targets,
    read_events,
    write_events,
)
from benchmarks.training_rows import OURS, ROWS, measure, measure_rows
from recommender.errors import RecommenderError
from recommender.report.terminal import wide
from recommender.storage.manifest import write_text

GOAL, LOSS_GOAL = 1.25, 1e-4
"""Our rate over the reference's, and the largest difference of our loss from the plain formula: goals of the task that
the training was written for."""
REPORT = Path("reports/bench/training.json")
SYNTHETIC = reference.Shape(num_items=3416)
"""The shape without a data folder: as many items as MovieLens-1M has."""


def main() -> int:
    """Measure, print, write the report. The exit code is 1 when a goal is missed, 2 when nothing could be measured."""
    parser = argparse.ArgumentParser(prog="make bench-training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder with ml-1m/sequences.parquet")
    parser.add_argument("--rows", default=",".join(ROWS), help="only these rows, with commas between")
    # Three turns, by hand: the best one is seldom disturbed by what else the machine does.
    parser.add_argument("--repeats", type=int, default=3, help="turns of each row; the best one counts")
    parser.add_argument("--request", help="one timing, as JSON: what the benchmark calls itself with")
    words = parser.parse_args()
    if words.request:
        print(json.dumps(measure(Request.of(json.loads(words.request)))))
        return 0
    console = wide()
    try:
        names = words.rows.split(",")
        if unknown := [name for name in names if name not in ROWS]:
            raise RecommenderError(f"--rows: unknown row {unknown[0]!r}; there are {', '.join(ROWS)}")
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
    """Everything that reports/bench/training.json has."""
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
            found = measure_rows(
                shape, path, names, repeats=repeats, say=lambda text: console.print(text, markup=False)
            )
            report["rows"] = found
            reached |= _speed_goals(found, report)
        report["loss_difference"] = _loss_differences(shape, None if data is None else path)
    reached["same loss as the plain formula"] = report["loss_difference"]["ours"] <= LOSS_GOAL
    report["softmax_memory"] = softmax_memory.table()
    reached["memory of the softmax"] = bool(report["softmax_memory"]["reached"])
    report["reached"] = reached
    return report


def _speed_goals(found: dict[str, dict[str, Any]], report: dict[str, Any]) -> dict[str, bool]:
    """Which goals of speed are reached. The ratios go into the report."""
    speed = {name: row["targets_per_cpu_second"] for name, row in found.items() if "targets_per_cpu_second" in row}
    peers = {name: value for name, value in speed.items() if name in PEERS}
    reached = {}
    if {"ours", "reference"} <= set(speed):
        report["ours_over_reference"] = speed["ours"] / speed["reference"]
        reached["faster than the reference"] = report["ours_over_reference"] >= GOAL
    if "ours" in speed and peers:
        fastest = max(peers, key=lambda name: peers[name])
        report["fastest_peer"], report["ours_over_fastest_peer"] = fastest, speed["ours"] / peers[fastest]
        reached["faster than the fastest peer"] = report["ours_over_fastest_peer"] > 1
    return reached


def _loss_differences(shape: reference.Shape, path: Path | None) -> dict[str, float]:
    """The largest difference of each row's loss from the plain formula, for our rows."""
    import torch

    from benchmarks import ours

    if path is not None:
        events = read_events(str(path))
    else:
        rng = np.random.default_rng(0)
        # 128 users of 2 to 200 events, the length that the network reads: as many as `ours.loss_difference` compares.
        events = [rng.integers(1, shape.num_items + 1, size=size) for size in rng.integers(2, 201, size=128)]
    torch.set_num_threads(1)
    sequences = as_sequences(events, shape.num_items)
    return {row: ours.loss_difference(shape, sequences, precision=precision) for row, precision in OURS.items()}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table and a few lines."""
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
    own, half, theirs = (report["softmax_memory"][method] for method in ("ours", "ours_bf16", "plain"))
    differences = ", ".join(f"{row} {value:.1e}" for row, value in report["loss_difference"].items())
    console.print(
        f"largest difference of the loss from the plain formula: {differences} (goal for ours {LOSS_GOAL:.0e})"
    )
    console.print(
        f"memory of the softmax, {own['targets']:,} targets x {own['items']:,} items: {own['ratio']:.3f} x the "
        f"gradient buffers ({own['peak_mib']:,.0f} MiB), in bfloat16 {half['ratio']:.3f} x; F.cross_entropy at "
        f"{theirs['targets']} targets {theirs['peak_mib']:,.0f} MiB, scaled {theirs['scaled_peak_mib']:,.0f} MiB"
    )
    for goal, is_reached in report["reached"].items():
        console.print(f"{'reached' if is_reached else 'MISSED '}  {goal}", style="green" if is_reached else "red")


if __name__ == "__main__":
    sys.exit(main())
