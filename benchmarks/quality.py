"""`make bench-quality`: next-item rankers on ML-1M and Amazon Beauty, all seeds, every reading of a test logged.

    python -m benchmarks.quality DATA_FOLDER [--rankers a,b] [--sets beauty,ml-1m,journey,ml-100k,fashions,reseller] [--seeds 1,2] [--train-on …] [--set dial=…] [--cold]
        [--checkpoints FOLDER] [--device cuda]

Rows of an earlier call stay in reports/bench/quality.json unless the same row is measured again, so the table may be filled in several calls.
The paired difference of the flagship to the rules, to SASRec and to a peer is over users, and over seeds where there are several.
`replay` as a ranker is a peer: RePlay's SasRec in an environment of its own (`peer_quality`). Rows that a GPU trained stand in a table of
their own, reports/bench/quality-cuda.json.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp, ttest_ind

from benchmarks.generated import fashions, reseller
from benchmarks.journey import journey
from benchmarks.measured_on import measured_on, note_reading
from benchmarks.ml_100k import ml_100k
from benchmarks.movielens import movielens_attributes
from benchmarks.options import whole_numbers
from benchmarks.peer_quality import PEERS, run_peer
from recommender.datasets.interactions import read_interactions
from recommender.engine.assignments import parse_assignments
from recommender.engine.context import FitContext
from recommender.engine.loop import require_device
from recommender.errors import RecommenderError, SettingsError
from recommender.evaluation.means import mean_interval95, paired_difference
from recommender.evaluation.sequence_counts import sequence_counts
from recommender.models.next_item import item_ranker_class
from recommender.sequences import Sequences
from recommender.sequences.ranks import ndcg
from recommender.storage.manifest import write_text
from recommender.training.next_items import TrainOn
from recommender.training.next_items.fits import checkpoint_folder, fit_and_judge, judge_cold_items

SETS = {"beauty": "amazon-beauty/Beauty.parquet", "ml-1m": "ml-1m/sequences.parquet"}
ATTRIBUTES = {"beauty": "amazon-beauty/Beauty_attributes.parquet"}
PACKAGED: dict[str, Callable[[Path], tuple[Path, Path | None]]] = {
    "journey": journey,
    "ml-100k": ml_100k,
    "fashions": fashions,
    "reseller": reseller,
}
"""Sets that lie in a package or are generated: no data folder is needed."""
GOALS = {("beauty", "train"): 0.064, ("beauty", "train+validation"): 0.069, ("ml-1m", "train"): 0.205}
SEEDLESS = ("rules", "content_rules", "item_popularity", "user_cf", "item_cf", "content")
OUTPUT = Path("reports/bench/quality.json")
AGAINST = ("rules", "sasrec", *PEERS)
TOPS, BEYOND = " 123456789A.", 11
"""A user's rank as one letter: 1 … 9, A for 10, a dot beyond."""


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
) -> dict[str, Any]:
    """One row: fit, judge, note the reading. `tops` are the users' ranks, for paired differences."""
    own = checkpoints and checkpoint_folder(checkpoints, sequences, ranker, train_on, seed, config, device=device)
    context = FitContext(seed=seed, checkpoints=own, device=device)
    result = fit_and_judge(sequences, ranker, train_on=train_on, context=context, hyperparameters=config)
    note_reading(data, ranker, train_on, seed)
    return {
        "set": data,
        **result.test.summary(),
        **result.facts,
        "validation": None if result.validation is None else result.validation.summary(),
        "interval95": mean_interval95(result.test.ndcg_U()),
        "counts": sequence_counts(sequences),
        "tops": "".join(TOPS[min(rank, BEYOND)] for rank in result.test.ranks.tolist()),
        **measured_on(device),
    }


def measure_peer(
    sequences: Sequences, data: str, peer: str, train_on: TrainOn, seed: int, config: dict[str, Any]
) -> dict[str, Any]:
    """One row of a peer, trained without the validation item.

    Raises:
        SettingsError: it was to learn from the validation item too.
    """
    if train_on != "train":
        raise SettingsError(f"{peer}: a peer is trained without the validation item, which stops it")
    ranks, facts = run_peer(sequences, peer, seed=seed, config=config)
    note_reading(data, peer, train_on, seed)
    row = {"set": data, "ranker": peer, "train_on": train_on, "seed": seed, "config": config, "validation": None}
    tops = "".join(TOPS[min(rank, BEYOND)] for rank in ranks.ranks.tolist())
    return {
        **row,
        **ranks.summary(),
        **facts,
        "interval95": mean_interval95(ranks.ndcg_U()),
        "tops": tops,
        **measured_on(),
    }


def measure_cold(
    sequences: Sequences, data: str, ranker: str, seed: int, config: dict[str, Any], device: str = "cpu"
) -> dict[str, Any]:
    """One row of cold items, drawn by `seed`: NDCG@10 among the cold ones, and among all."""
    found = judge_cold_items(sequences, ranker, context=FitContext(seed=seed, device=device), hyperparameters=config)
    note_reading(f"{data}, cold items", ranker, "train", seed)
    facts = {"set": data, "ranker": ranker, "train_on": "train", "seed": seed, "config": config}
    return {**facts, "ndcg@10": found["among_cold"]["ndcg@10"], **found, **measured_on(device)}


def difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean difference of NDCG@10; its 95 % interval over users (each user's mean over seeds), and over seeds (Welch; None where a
    side that draws has one seed only); how many seeds each side has, and the commits that the rows were measured at."""
    mine, other = _by_user(ours), _by_user(theirs)
    sure = len(theirs) > 1 or theirs[0]["ranker"] in SEEDLESS
    return {
        **paired_difference(mine.mean(axis=0), other.mean(axis=0)),
        "interval95_seeds": over_seeds(mine.mean(axis=1), other.mean(axis=1)) if sure else None,
        "seeds": [len(ours), len(theirs)],
        "commits": sorted({str(row["commit"]) for row in (*ours, *theirs)}),
    }


def over_seeds(ours_S: NDArray[np.float64], theirs_S: NDArray[np.float64]) -> list[float] | None:
    """95 % interval of the difference of two means over seeds (Welch, 1947; one of theirs is a constant). None: one of ours tells nothing."""
    if len(ours_S) < 2:
        return None
    if len(theirs_S) > 1:
        found = ttest_ind(ours_S, theirs_S, equal_var=False)
    else:
        found = ttest_1samp(ours_S - theirs_S[0], 0.0)
    return [float(edge) for edge in found.confidence_interval(0.95)]


def _by_user(rows: list[dict[str, Any]]) -> NDArray[np.float64]:
    return ndcg(np.array([[TOPS.index(letter) for letter in row["tops"]] for row in rows], dtype=np.int64))


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The flagship against the rules and SASRec, on each set and each way of training that has both."""
    out = []
    for data, train_on, config in sorted({(*_key(row)[:2], _key(row)[4]) for row in rows if row["ranker"] == "fusion"}):
        ours = [row for row in rows if (*_key(row)[:3], _key(row)[4]) == (data, train_on, "fusion", config)]
        for other in AGAINST:
            theirs = [row for row in rows if (*_key(row)[:3], _key(row)[4]) == (data, train_on, other, "{}")]
            if theirs:
                facts = {"set": data, "train_on": train_on, "config": ours[0]["config"], "against": other}
                out.append({**facts, **difference(ours, theirs)})
    return out


def _key(row: dict[str, Any]) -> tuple[str, str, str, int, str]:
    return row["set"], row["train_on"], row["ranker"], row["seed"], json.dumps(row["config"], sort_keys=True)


def as_judged(folder: Path, data: str) -> Sequences:
    """The set as it is judged: Beauty with its attributes, ML-1M with nothing but the order of its events, Complete Journey
    with attributes and times, MovieLens-100K and the fashions with times.

    Raises:
        SourceError: a file is missing.
    """
    if data in PACKAGED:
        with TemporaryDirectory() as place:
            return read_interactions(*PACKAGED[data](Path(place)))
    if data not in SETS:
        raise SettingsError(f"{data!r} is no set; there are {', '.join((*SETS, *PACKAGED))}")
    return read_interactions(folder / SETS[data], folder / ATTRIBUTES[data] if data in ATTRIBUTES else None)


def with_content(folder: Path, data: str) -> Sequences:
    """The set with what its folder says of the items: Beauty's attributes, MovieLens' genres and titles.

    Raises:
        SourceError: a file is missing.
    """
    if data != "ml-1m":
        return as_judged(folder, data)
    with TemporaryDirectory() as place:
        attributes = movielens_attributes(folder / "ml-1m", Path(place) / "attributes.parquet")
        return read_interactions(folder / SETS[data], attributes)


def show(rows: list[dict[str, Any]], differences: list[dict[str, Any]], colds: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from recommender.report.terminal import wide

    table = Table(title="NDCG@10 of the test item: full ranking, every user, all seeds")
    for name in ("set", "trained on", "ranker", "seed", "NDCG@10", "recall@10", "validation", "CPU-s", "goal"):
        table.add_column(name)
    for row in sorted(rows, key=lambda row: (row["set"], row["train_on"], -row["ndcg@10"])):
        goal = GOALS.get((row["set"], row["train_on"])) if row["ranker"] == "fusion" else None
        met = "" if goal is None else f"{goal}: {'met' if row['ndcg@10'] >= goal else 'missed'}"
        chosen = "" if row["validation"] is None else f"{row['validation']['ndcg@10']:.4f}"
        figures = (f"{row['ndcg@10']:.4f}", f"{row['recall@10']:.4f}", chosen, f"{row['fit_cpu_seconds']:.0f}", met)
        name = row["ranker"] + "".join(f" {dial}={value}" for dial, value in row["config"].items())
        table.add_row(row["set"], row["train_on"], name, str(row["seed"]), *figures)
    console = wide()
    console.print(table)
    for row in sorted(colds, key=_key):
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
            f"{one['set']}, {one['train_on']}: fusion {one['config'] or ''} ({seeds} seeds) - {one['against']} ({others}) "
            f"{one['mean']:+.4f}, over users [{low:+.4f}, {high:+.4f}]"
            + f", commits {', '.join(one['commits'])}"
            + (f", over seeds [{over[0]:+.4f}, {over[1]:+.4f}]" if over else "")
        )


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-quality", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder that holds ml-1m/ and amazon-beauty/")
    parser.add_argument("--rankers", default="rules,sasrec,fusion")
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join((*SETS, *PACKAGED))}")
    parser.add_argument("--seeds", type=whole_numbers, default="17", help="17,18")
    parser.add_argument("--train-on", default="train", choices=["train", "train+validation"])
    parser.add_argument("--set", action="append", default=[], dest="dials", help="a dial of the rankers: epochs=20")
    parser.add_argument("--checkpoints", type=Path, help="folder where a killed fit goes on; not for --cold and peers")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, which peers do not train on")
    parser.add_argument("--cold", action="store_true", help="cold items only: one fit without them a ranker and seed")
    given = parser.parse_args(words)
    if given.data is None and not set(given.sets.split(",")) <= set(PACKAGED):
        print("bench-quality: no data folder was given (make bench-quality SHARED=…): nothing was measured.")
        return 0
    output = OUTPUT if given.device == "cpu" else OUTPUT.with_name(f"{OUTPUT.stem}-{given.device}.json")
    found = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    rows, colds = found.get("rows", []), found.get("cold", [])
    try:
        config = parse_assignments(given.dials)
        for ranker in given.rankers.split(","):
            if ranker not in PEERS:
                require_device(item_ranker_class(ranker), given.device)
            elif given.device != "cpu":
                raise SettingsError(f"{ranker}: a peer is trained on the CPU")
        for data in given.sets.split(","):
            sequences = (with_content if given.cold else as_judged)(given.data or Path(), data)
            for ranker in given.rankers.split(","):
                for seed in given.seeds[:1] if ranker in SEEDLESS and not given.cold else given.seeds:
                    if given.cold:
                        row = measure_cold(sequences, data, ranker, seed, config, given.device)
                        colds = [one for one in colds if _key(one) != _key(row)] + [row]
                    else:
                        if ranker in PEERS:
                            row = measure_peer(sequences, data, ranker, given.train_on, seed, config)
                        else:
                            kept = {"checkpoints": given.checkpoints, "device": given.device}
                            row = measure(sequences, data, ranker, given.train_on, seed, config, **kept)
                        rows = [one for one in rows if _key(one) != _key(row)] + [row]
                    output.parent.mkdir(parents=True, exist_ok=True)
                    content = {"rows": rows, "differences": compared(rows), "cold": colds}
                    write_text(output, json.dumps(content))
                    print(f"{data} {ranker} seed {seed}: NDCG@10 {row['ndcg@10']:.4f}", flush=True)
    except RecommenderError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    show(rows, compared(rows), colds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
