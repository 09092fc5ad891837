"""`make bench-quality`: NDCG@10 of next-item rankers on public sets, by leave-one-out and full ranking.

    python -m benchmarks.quality DATA_FOLDER [--rankers a,b] [--sets beauty,ml-1m,journey,ml-100k,fashions,reseller]
        [--seeds 1,2] [--train-on train+validation] [--set name=…] [--cold] [--checkpoints FOLDER] [--device cuda]

Rows of earlier calls stay in reports/bench/quality.json unless the same row is measured again, so the table may be
filled in several calls. `fusion` is compared with the rules, with `sasrec` and with a peer. The peer `replay` is
RePlay's SasRec in a separate environment (`peer_quality`). Rows that a GPU trained go to
reports/bench/quality-cuda.json. Each reading of a test is logged.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measured_on import measured_on, note_reading
from benchmarks.options import whole_numbers
from benchmarks.peer_quality import PEERS, run_peer
from benchmarks.quality_differences import SEEDLESS, Row, compared, key_of, letters_of
from benchmarks.sets import PACKAGED, SETS, as_judged, with_content
from recommender.engine.assignments import parse_assignments
from recommender.engine.context import FitContext
from recommender.engine.loop import require_device
from recommender.errors import RecommenderError, SettingsError
from recommender.evaluation.means import mean_interval95
from recommender.evaluation.sequence_counts import sequence_counts
from recommender.models.next_item import item_ranker_class
from recommender.sequences import Sequences
from recommender.storage.manifest import write_text
from recommender.training.next_items.fitting import TrainOn, checkpoint_folder, fit_and_judge, judge_cold_items

GOALS = {("beauty", "train"): 0.064, ("beauty", "train+validation"): 0.069, ("ml-1m", "train"): 0.205}
"""Goals for NDCG@10 of `fusion`, as in the README."""
OUTPUT = Path("reports/bench/quality.json")


def measure(
    sequences: Sequences,
    data: str,
    ranker: str,
    train_on: TrainOn,
    seed: int,
    config: dict[str, Any],
    checkpoints: Path | None = None,
    *,
    device: str = "cpu",
) -> Row:
    """One row: fit, judge, note the reading. `tops` are the users' ranks, for differences to other rows."""
    own = checkpoints and checkpoint_folder(checkpoints, sequences, ranker, train_on, seed, config, device=device)
    context = FitContext(seed=seed, checkpoints=own, device=device)
    fit = fit_and_judge(sequences, ranker, train_on=train_on, context=context, hyperparameters=config)
    note_reading(data, ranker, train_on, seed)
    return {
        "set": data,
        **fit.test.summary(),
        **fit.facts,
        "validation": None if fit.validation is None else fit.validation.summary(),
        "interval95": mean_interval95(fit.test.ndcg_U()),
        "counts": sequence_counts(sequences),
        "tops": letters_of(fit.test),
        **measured_on(device),
    }


def measure_peer(
    sequences: Sequences, data: str, peer: str, train_on: TrainOn, seed: int, config: dict[str, Any]
) -> Row:
    """One row of a peer, trained without the validation item.

    Raises:
        SettingsError: It was to learn from the validation item as well.
    """
    if train_on != "train":
        raise SettingsError(
            f"{peer}: a peer needs the validation items to stop, so it cannot learn from them; leave out --train-on"
        )
    ranks, facts = run_peer(sequences, peer, seed=seed, config=config)
    note_reading(data, peer, train_on, seed)
    row = {"set": data, "ranker": peer, "train_on": train_on, "seed": seed, "config": config, "validation": None}
    interval = mean_interval95(ranks.ndcg_U())
    return {**row, **ranks.summary(), **facts, "interval95": interval, "tops": letters_of(ranks), **measured_on()}


def measure_cold(
    sequences: Sequences, data: str, ranker: str, seed: int, config: dict[str, Any], device: str = "cpu"
) -> Row:
    """One row of cold items, drawn by `seed`: NDCG@10 of them among each other, and among all items."""
    context = FitContext(seed=seed, device=device)
    found = judge_cold_items(sequences, ranker, context=context, hyperparameters=config)
    note_reading(f"{data}, cold items", ranker, "train", seed)
    facts = {"set": data, "ranker": ranker, "train_on": "train", "seed": seed, "config": config}
    return {**facts, "ndcg@10": found["among_cold"]["ndcg@10"], **found, **measured_on(device)}


def show(rows: list[Row], differences: list[Row], colds: list[Row]) -> None:
    """Print the rows as a table, then cold items and differences as lines."""
    from rich.table import Table

    from recommender.report.terminal import wide

    table = Table(title="NDCG@10 of the test item: full ranking, every user, all seeds")
    for name in ("set", "trained on", "ranker", "seed", "NDCG@10", "recall@10", "validation", "CPU-s", "goal"):
        table.add_column(name)
    for row in sorted(rows, key=lambda row: (row["set"], row["train_on"], -row["ndcg@10"])):
        goal = GOALS.get((row["set"], row["train_on"])) if row["ranker"] == "fusion" else None
        met = "" if goal is None else f"{goal}: {'met' if row['ndcg@10'] >= goal else 'missed'}"
        validation = "" if row["validation"] is None else f"{row['validation']['ndcg@10']:.4f}"
        figures = (f"{row['ndcg@10']:.4f}", f"{row['recall@10']:.4f}", validation, f"{row['fit_cpu_seconds']:.0f}", met)
        name = row["ranker"] + "".join(f" {key}={value}" for key, value in row["config"].items())
        table.add_row(row["set"], row["train_on"], name, str(row["seed"]), *figures)
    console = wide()
    console.print(table)
    for row in sorted(colds, key=key_of):
        among_all = row["among_all"]["ndcg@10"]
        console.print(
            f"{row['set']}, cold items, {row['ranker']} {row['config'] or ''} seed {row['seed']}: "
            f"{row['ndcg@10']:.4f} among {row['cold_items']} cold ones, {among_all:.4f} among all, {row['users']} users"
        )
    for one in differences:
        low, high = one["interval95"]
        seeds, others = one["seeds"]
        over = one["interval95_seeds"]
        console.print(
            f"{one['set']}, {one['train_on']}: fusion {one['config'] or ''} ({seeds} seeds) - {one['against']} "
            f"({others}) {one['mean']:+.4f}, over users [{low:+.4f}, {high:+.4f}]"
            + f", commits {', '.join(one['commits'])}"
            + (f", over seeds [{over[0]:+.4f}, {over[1]:+.4f}]" if over else "")
        )


def main(words: list[str] | None = None) -> int:
    """Measure, write the report with the rows of earlier calls, and print it. The exit code is 2 on an error."""
    given = _options().parse_args(words)
    if given.data is None and not set(given.sets.split(",")) <= set(PACKAGED):
        print("bench-quality: nothing was measured, because no data folder was given: make bench-quality SHARED=…")
        return 0
    output = OUTPUT if given.device == "cpu" else OUTPUT.with_name(f"{OUTPUT.stem}-{given.device}.json")
    found = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    tables: dict[str, list[Row]] = {"rows": found.get("rows", []), "cold": found.get("cold", [])}
    table = "cold" if given.cold else "rows"
    try:
        _require_trainable(given.rankers.split(","), given.device)
        for row in _measured(given, parse_assignments(given.hyperparameters)):
            tables[table] = [one for one in tables[table] if key_of(one) != key_of(row)] + [row]
            output.parent.mkdir(parents=True, exist_ok=True)
            content = {"rows": tables["rows"], "differences": compared(tables["rows"]), "cold": tables["cold"]}
            write_text(output, json.dumps(content))
            print(f"{row['set']} {row['ranker']} seed {row['seed']}: NDCG@10 {row['ndcg@10']:.4f}", flush=True)
    except RecommenderError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    show(tables["rows"], compared(tables["rows"]), tables["cold"])
    return 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-quality", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder with ml-1m/ and amazon-beauty/")
    parser.add_argument("--rankers", default="rules,sasrec,fusion", help="with commas between")
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join((*SETS, *PACKAGED))}")
    parser.add_argument("--seeds", type=whole_numbers, default="17", help="such as 17,18")
    parser.add_argument("--train-on", default="train", choices=["train", "train+validation"])
    parser.add_argument(
        "--set", action="append", default=[], dest="hyperparameters", help="a hyperparameter of the rankers: epochs=20"
    )
    parser.add_argument("--checkpoints", type=Path, help="folder where a killed fit resumes; not for --cold and peers")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; peers train on the CPU only")
    parser.add_argument("--cold", action="store_true", help="only cold items: one fit without them per ranker and seed")
    return parser


def _require_trainable(rankers: list[str], device: str) -> None:
    """Refuse rankers that do not train on the device, before anything is fitted."""
    for ranker in rankers:
        if ranker not in PEERS:
            require_device(item_ranker_class(ranker), device)
        elif device != "cpu":
            raise SettingsError(f"{ranker}: a peer is trained on the CPU; leave it out or leave out --device {device}")


def _measured(given: argparse.Namespace, config: dict[str, Any]) -> Iterator[Row]:
    """The rows that the options ask for, one after the other."""
    for data in given.sets.split(","):
        sequences = (with_content if given.cold else as_judged)(given.data or Path(), data)
        for ranker in given.rankers.split(","):
            for seed in given.seeds[:1] if ranker in SEEDLESS and not given.cold else given.seeds:
                if given.cold:
                    yield measure_cold(sequences, data, ranker, seed, config, given.device)
                elif ranker in PEERS:
                    yield measure_peer(sequences, data, ranker, given.train_on, seed, config)
                else:
                    kept = {"checkpoints": given.checkpoints, "device": given.device}
                    yield measure(sequences, data, ranker, given.train_on, seed, config, **kept)


if __name__ == "__main__":
    sys.exit(main())
