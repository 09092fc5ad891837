"""`make bench-ablation`: what each part of the flagship is worth, on the validation item, with intervals over users.

    python -m recommender.benchmarks.ablation DATA_FOLDER [--sets beauty,ml-1m,journey] [--seeds 17,18] [--members] [--set dial=…] [--checkpoints FOLDER]

The flagship is fitted once a seed; then each part is left out, the gate is fitted anew on one half of the users and judged on the
other, and the other way round. `--members` trains one transformer, and one without each of its own parts, instead. A user's gain is
the mean over the seeds. No test item is read. In a folder for checkpoints a killed fit goes on, and a flagship that `make bench-quality`
fitted with it is taken as it is. Rows of a set are written when all its seeds are done: a killed run leaves those of the run before.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recommender.benchmarks.cost import Spent
from recommender.benchmarks.machine import machine
from recommender.benchmarks.quality import SETS, as_judged
from recommender.benchmarks.sequences import checkpoints_of, dial, paired, seeds
from recommender.errors import RecommenderError
from recommender.evaluation.leave_one_out import USERS_A_BATCH, judge
from recommender.manifest import write_text
from recommender.models.next_item.fusion import DEFAULTS, MEMBER_DIALS, Fusion, by_size
from recommender.models.next_item.gate import fit_gate
from recommender.models.next_item.ranker import ItemRanker
from recommender.models.next_item.sasrec import SASRec
from recommender.models.ranker import FitContext
from recommender.ranks import ndcg
from recommender.sequences import LeaveOneOut, Sequences

Ranker = TypeVar("Ranker", bound=ItemRanker)
OUTPUT = Path("reports/bench/ablation.json")
OWN_PARTS: dict[str, dict[str, Any]] = {
    "a plain transformer": {"relative": False, "timed": False, "gated": False, "attributes": False},
    "without the distance bias": {"relative": False},
    "without the gate of channels": {"gated": False},
    "without attributes": {"attributes": False},
    "without times": {"timed": False},
    "without averages of the weights": {"average": 0.0},
}


def remembered(ranker: Ranker, sequences: Sequences) -> Ranker:
    """Its twin that says again what it said of every user once: each variant asks it twice."""
    blocks = np.array_split(np.arange(sequences.num_users), max(sequences.num_users // USERS_A_BATCH, 1))
    said_UV = np.concatenate([ranker.score(sequences.take(some)) for some in blocks])
    twin = copy(ranker)
    twin.score = lambda asked: said_UV[asked.users_U]  # type: ignore[method-assign, assignment]
    return twin


def parts(split: LeaveOneOut, fusion: Fusion, *, seed: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Each variant and its users' NDCG@10 of the validation item."""

    def judged(some: Fusion, form: str = "") -> NDArray[np.float64]:
        users, gain_U = np.flatnonzero(split.validation_U > 0), np.zeros(len(split.validation_U))
        half_U = np.arange(len(users)) % 2
        for half in (0, 1):
            learn, ask = users[half_U != half], users[half_U == half]
            some.gate = start = some.only().gate
            if form != "even":
                histories = split.train.take(learn)
                some.gate = fit_gate(some.experts, start, histories, split.validation_U[learn], seed=seed)
            if form == "linear":
                some.gate = replace(some.gate, deep=None)
            gain_U[ask] = ndcg(judge(some, split.train.take(ask), split.validation_U[ask]).ranks)
        return gain_U[users]

    fusion = fusion.only()
    fusion.members = [remembered(one, split.train) for one in fusion.members]
    fusion.rules = [remembered(one, split.train) for one in fusion.rules]
    fusion.latent = fusion.latent and remembered(fusion.latent, split.train)
    fusion.content = fusion.content and remembered(fusion.content, split.train)
    yield "the flagship", judged(fusion.only())
    yield "weights linear, no hidden layer", judged(fusion.only(), "linear")
    yield "even weights", judged(fusion.only(), "even")
    yield "without the rules", judged(fusion.only(rules=()))
    for kind, named in enumerate(("broad", "near", "last-item")):
        yield f"without the {named} rules", judged(fusion.only(rules=[one for one in range(3) if one != kind]))
    yield "without latent factors", judged(fusion.only(latent=False))
    yield "without popularity", judged(fusion.only(popularity=False))
    if fusion.content is not None:
        yield "without content", judged(fusion.only(content=False))
    for members in range(1, len(fusion.members)):
        yield f"transformers: {members} of {len(fusion.members)}", judged(fusion.only(members=members))


def transformers(
    split: LeaveOneOut, hyper: dict[str, Any], context_of: Callable[[str, dict[str, Any]], FitContext]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """One transformer, and one without each of its parts."""
    absent = {"without attributes": not split.train.items.num_attributes, "without times": not hyper["timed"]}
    half = {"width": int(hyper["width"]) // 2}
    for name, without in {"one transformer alone": {}, "half as wide": half, **OWN_PARTS}.items():
        if absent.get(name):
            continue
        dials = {one: hyper[one] for one in MEMBER_DIALS} | without
        made = SASRec.fit(
            split.train, held_out_U=split.validation_U, config=dials, context=context_of("transformer", dials)
        )
        users = np.flatnonzero(split.validation_U > 0)
        yield name, ndcg(judge(made, split.train.take(users), split.validation_U[users]).ranks)


def left_out(
    sequences: Sequences, config: dict[str, Any], *, members: bool, seed: int, checkpoints: Path | None = None
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Of the flagship with these dials: its `parts`, or with `members` those of one of its `transformers`."""

    def context_of(name: str, dials: dict[str, Any]) -> FitContext:
        # As `quality.measure` names it.
        own = checkpoints and checkpoints_of(checkpoints, sequences, name, "train", seed, dials)
        return FitContext(seed=seed, checkpoints=own)

    split = LeaveOneOut.of(sequences)
    if members:
        return transformers(split, by_size(split.train, {**DEFAULTS, **config}), context_of)
    context = context_of("fusion", config)
    spent = Spent(context)
    told = replace(context, progress=spent.told)
    fusion = Fusion.fit(split.train, held_out_U=split.validation_U, config=config, context=told)
    spent.seconds()
    return parts(split, fusion, seed=seed)


def rows_of(gains: Mapping[str, list[NDArray[np.float64]]], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Each variant beside the first one, users' gains averaged over the seeds."""
    whole_U = np.mean(next(iter(gains.values())), axis=0)
    rows = []
    for name, of_seeds in gains.items():
        gain_U = np.mean(of_seeds, axis=0)
        against = paired(gain_U, whole_U)
        by_seed = [float(gain_U.mean()) for gain_U in of_seeds]
        rows.append({**facts, "variant": name, "ndcg@10": float(gain_U.mean()), "by_seed": by_seed, **against})
    return rows


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-ablation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder that holds ml-1m/ and amazon-beauty/")
    parser.add_argument("--sets", default=",".join(SETS), help="of beauty, ml-1m, journey")
    parser.add_argument("--seeds", type=seeds, default="17", help="17,18")
    parser.add_argument("--members", action="store_true", help="train a transformer without each of its parts instead")
    parser.add_argument("--set", action="append", default=[], dest="dials", help="a dial of the flagship: epochs=20")
    parser.add_argument("--checkpoints", type=Path, help="folder where a killed fit goes on")
    given = parser.parse_args(words)
    if given.data is None and given.sets != "journey":
        print("bench-ablation: no data folder was given (make bench-ablation SHARED=…): nothing was measured.")
        return 0
    rows = json.loads(OUTPUT.read_text(encoding="utf-8"))["rows"] if OUTPUT.is_file() else []
    try:
        config = dict(map(dial, given.dials))
        for data in given.sets.split(","):
            sequences = as_judged(given.data or Path(), data)
            facts = {"set": data, "of": "transformer" if given.members else "flagship", "seeds": given.seeds}
            gains: dict[str, list[NDArray[np.float64]]] = {}
            for seed in given.seeds:
                variants = left_out(sequences, config, members=given.members, seed=seed, checkpoints=given.checkpoints)
                for name, gain_U in variants:
                    gains.setdefault(name, []).append(gain_U)
                    print(f"{data}, seed {seed}, {name}: {gain_U.mean():.4f}", flush=True)
            found = rows_of(gains, {**facts, "config": config, **machine()})
            rows = [row for row in rows if (row["set"], row["of"]) != (data, facts["of"])] + found
            OUTPUT.parent.mkdir(parents=True, exist_ok=True)
            write_text(OUTPUT, json.dumps({"rows": rows}, indent=1))
            for row in found:
                low, high = row["interval95"]
                print(f"{data}, {row['variant']}: {row['ndcg@10']:.4f}, {row['mean']:+.4f} [{low:+.4f}, {high:+.4f}]")
    except RecommenderError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
