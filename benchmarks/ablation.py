"""`make bench-ablation`: what each part of the flagship is worth, with intervals over users; no test item is read.

    python -m benchmarks.ablation DATA_FOLDER [--sets beauty,ml-1m,journey,ml-100k,fashions,reseller] [--seeds 17,18] [--members] [--parts gated,width] [--set dial=…]
        [--checkpoints FOLDER]

Each user's last item is taken away, and everything happens one item earlier than in `make bench-quality`: what it holds out for
validation is judged here, and the item before that holds a fit's validation. The flagship is fitted once a seed; then each part is
left out and the gate fitted anew; without a part of its transformers that `--parts` names by its dial, the whole flagship is fitted
again, and its first transformer is judged alone too. `--members` trains one transformer, and one without each of its own parts (or
of those that `--parts` names), instead. A user's gain is the mean over the seeds. In a folder for checkpoints a killed fit goes on.
Rows of a set are written when all its seeds are done: a killed run leaves those of the run before.
"""

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import PACKAGED, SETS, as_judged
from recommender.engine.context import FitContext
from recommender.engine.machine import machine
from recommender.errors import RecommenderError, SettingsError
from recommender.evaluation.leave_one_out import judge, scored
from recommender.models.next_item.fusion import MEMBER_FIELDS, Fusion, FusionConfig
from recommender.models.next_item.fusion.gate_fit import fit_gate
from recommender.models.next_item.ranker import ItemRanker
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.sequences import LeaveOneOut, Sequences
from recommender.storage.manifest import write_text
from recommender.training.next_items import checkpoints_of, dial, numbers, paired

OUTPUT = Path("reports/bench/ablation.json")
WHOLE, ALONE = "the flagship", "one transformer alone"
NAMES = {"rules": "rules", "broad": "broad rules", "latent": "latent factors", "trend": "the trend"}
NAMES |= {"habit": "habits", "content": "content", "popularity": "popularity"}
OWN_PARTS: dict[str, dict[str, Any]] = {
    "a plain transformer": {"relative": False, "timed": False, "gated": False, "attributes": False},
    "without the distance bias": {"relative": False},
    "without the gate of channels": {"gated": False},
    "without attributes": {"attributes": False},
    "without times": {"timed": False},
    "with label smoothing": {"smoothing": 0.1},
}


def own_parts(split: LeaveOneOut, config: FusionConfig, only: Collection[str]) -> dict[str, dict[str, Any]]:
    """What leaves out each part that the transformers of a resolved configuration have; `only`: those of no other parts.

    Raises:
        SettingsError: there are none.
    """
    absent = {"without attributes": not split.train.items.num_attributes, "without times": not config.timed}
    every = {"half as wide": {"width": config.width // 2}, **OWN_PARTS}
    found = {name: without for name, without in every.items() if not absent.get(name) and set(without) <= set(only)}
    if only and not found:
        raise SettingsError(f"--parts {','.join(only)}: the transformers of this set have none of these")
    return found


def remembered(fusion: Fusion, histories: Sequences) -> Fusion:
    """A copy whose experts score every history once and look the scores up from then on, as all variants ask for the same."""

    def looked_up(expert: Any) -> Any:
        everyone = np.arange(histories.num_users)
        known_UV = np.concatenate([scores_UV for _, _, scores_UV in scored(expert, histories, everyone)])
        twin = copy(expert)
        twin.score = lambda asked: known_UV[asked.users_U]
        return twin

    fusion = fusion.only()
    fusion.experts = replace(
        fusion.experts,
        transformers=list(map(looked_up, fusion.experts.transformers)),
        others={name: looked_up(one) for name, one in fusion.experts.others.items()},
    )
    return fusion


def parts(split: LeaveOneOut, fusion: Fusion, *, seed: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Each variant and its users' NDCG@10."""
    variants: dict[str, dict[str, Any]] = {WHOLE: {}}
    names, transformers = fusion.experts.names(), len(fusion.experts.transformers)
    if len(names) > 1:
        variants |= {f"without {NAMES[name]}": {"without": {name}} for name in names if name in NAMES}
    for number in range(1, transformers):
        variants[f"transformers: {number} of {transformers}"] = {"transformers": number}

    learning, gates = remembered(fusion, split.train), {}
    for name, kept in variants.items():
        some = learning.only(**kept)
        gates[name] = fit_gate(some.experts, some.gate, split.train, split.validation_U, seed=seed)
    some = learning.only()
    gates["no hidden layer"] = fit_gate(
        some.experts, some.gate, split.train, split.validation_U, seed=seed, hidden=False
    )
    gates["even weights"] = some.gate
    del learning, some
    judged = remembered(fusion, split.train_and_validation)
    for name, gate in gates.items():
        some = judged.only(**variants.get(name, {}))
        some.gate = gate
        yield name, judge(some, split.train_and_validation, split.test_U).ndcg_U()


def left_out(
    sequences: Sequences,
    config: dict[str, Any],
    *,
    members: bool,
    seed: int,
    only: Collection[str] = (),
    checkpoints: Path | None = None,
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Of the flagship with these dials its `parts`, and it without each of `only`, its transformers' dials; with `members` one of its
    transformers, and one without each of `only`, or of all if there are none. Each with its users' NDCG@10."""
    sequences = LeaveOneOut.of(sequences).train_and_validation
    split = LeaveOneOut.of(sequences)

    def context_of(name: str, given: dict[str, Any]) -> FitContext:
        own = checkpoints and checkpoints_of(checkpoints, sequences, name, "train", seed, given)
        return FitContext(seed=seed, checkpoints=own)

    def flagship_of(given: dict[str, Any]) -> Fusion:
        parsed, context = FusionConfig.parse(given, owner="fusion"), context_of("fusion", given)
        return Fusion.fit(split.train, held_out_U=split.validation_U, config=parsed, context=context)

    def transformer_of(given: dict[str, Any]) -> SASRec:
        parsed, context = SASRecConfig.parse(given, owner="sasrec"), context_of("sasrec", given)
        return SASRec.fit(split.train, held_out_U=split.validation_U, config=parsed, context=context)

    def gained(ranker: ItemRanker[Any]) -> NDArray[np.float64]:
        return judge(ranker, split.train_and_validation, split.test_U).ndcg_U()

    resolved = Fusion.resolved(FusionConfig.parse(config, owner="fusion"), split.train)
    without = own_parts(split, resolved, MEMBER_FIELDS if members and not only else only)
    if members:
        whole = resolved.model_dump(include=MEMBER_FIELDS)
        for name, changed in {ALONE: {}, **without}.items():
            yield name, gained(transformer_of(whole | changed))
        return
    flagship = flagship_of(config)
    yield from parts(split, flagship, seed=seed)
    if without:
        yield ALONE, gained(flagship.experts.transformers[0])
    for name, changed in without.items():
        lesser = flagship_of(config | changed)
        yield name, gained(lesser)
        yield f"{ALONE}: {name}", gained(lesser.experts.transformers[0])


def rows_of(gains: Mapping[str, list[NDArray[np.float64]]], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Each variant beside the first one, `whole: part` beside `whole`, users' gains averaged over the seeds."""
    mean_U = {name: np.mean(of_seeds, axis=0) for name, of_seeds in gains.items()}
    rows = []
    for name, gain_U in mean_U.items():
        whole = name.partition(": ")[0]
        against = whole if whole in mean_U and whole != name else next(iter(mean_U))
        row = {**facts, "variant": name, "ndcg@10": float(gain_U.mean())}
        row |= {"by_seed": [float(one_U.mean()) for one_U in gains[name]], "against": against}
        rows.append(row | paired(gain_U, mean_U[against]))
    return rows


def _replaced(row: dict[str, Any], found: list[dict[str, Any]], *, keep: bool) -> bool:
    """Whether an earlier row gives way: it is of the same table, and with `keep` none that stands beside the new ones."""
    if (row["set"], row["of"]) != (found[0]["set"], found[0]["of"]):
        return False
    alike = all(row[one] == found[0][one] for one in ("seeds", "config", "commit"))
    return not (keep and alike) or row["variant"] in [one["variant"] for one in found]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-ablation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder that holds ml-1m/ and amazon-beauty/")
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join((*SETS, *PACKAGED))}")
    parser.add_argument("--seeds", type=numbers, default="17", help="17,18")
    parser.add_argument("--members", action="store_true", help="train a transformer without each of its parts instead")
    parser.add_argument("--parts", default="", help="of gated,relative,…: the transformers' parts")
    parser.add_argument("--set", action="append", default=[], dest="dials", help="a dial of the flagship: epochs=20")
    parser.add_argument("--checkpoints", type=Path, help="folder where a killed fit goes on")
    given = parser.parse_args(words)
    if given.data is None and not set(given.sets.split(",")) <= set(PACKAGED):
        print("bench-ablation: no data folder was given (make bench-ablation SHARED=…): nothing was measured.")
        return 0
    rows = json.loads(OUTPUT.read_text(encoding="utf-8"))["rows"] if OUTPUT.is_file() else []
    try:
        config, only = dict(map(dial, given.dials)), [part.strip() for part in given.parts.split(",") if part.strip()]
        FusionConfig.parse(config, owner="fusion")
        known = {name for without in OWN_PARTS.values() for name in without} | {"width"}
        if not set(only) <= known:
            raise SettingsError(f"--parts are some of {', '.join(sorted(known))}; not {given.parts!r}")
        for data in given.sets.split(","):
            sequences = as_judged(given.data or Path(), data)
            facts = {"set": data, "of": "transformer" if given.members else "flagship", "seeds": given.seeds}
            gains: dict[str, list[NDArray[np.float64]]] = {}
            for seed in given.seeds:
                of = {"members": given.members, "only": only, "seed": seed, "checkpoints": given.checkpoints}
                variants = left_out(sequences, config, **of)
                for name, gain_U in variants:
                    gains.setdefault(name, []).append(gain_U)
                    print(f"{data}, seed {seed}, {name}: {gain_U.mean():.4f}", flush=True)
            found = rows_of(gains, {**facts, "config": config, **machine()})
            rows = [row for row in rows if not _replaced(row, found, keep=bool(only))] + found
            OUTPUT.parent.mkdir(parents=True, exist_ok=True)
            write_text(OUTPUT, json.dumps({"rows": rows}, indent=1))
            for row in found:
                low, high = row["interval95"]
                beside = f"{row['mean']:+.4f} [{low:+.4f}, {high:+.4f}] against {row['against']}"
                print(f"{data}, {row['variant']}: {row['ndcg@10']:.4f}, {beside}")
    except RecommenderError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
