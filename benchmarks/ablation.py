"""`make bench-ablation`: what each part of `fusion` is worth, with intervals over users; no test item is read.

    python -m benchmarks.ablation DATA_FOLDER [--sets beauty,ml-1m,journey,ml-100k,fashions,reseller] [--seeds 17,18]
        [--members] [--parts gated,width] [--set name=…] [--checkpoints FOLDER]

Each user's last item is removed, and everything happens one item earlier than in `make bench-quality`: its validation
item is judged here, and the item before that stops and mixes the fit. `fusion` is fitted once per seed. Then each
expert is left out and only the gate is fitted again.

`--parts` names hyperparameters of the transformers: for each one all of `fusion` is fitted again without it, and its
first transformer is judged alone as well. `--members` instead trains one transformer, and one without each of its
parts (or of those that `--parts` names).

A user's gain is the mean over the seeds. With `--checkpoints` a killed fit resumes. The rows of a set are written when
all its seeds are done, so a killed run leaves the rows of the run before.

Shapes: U users.
"""

import argparse
import json
import sys
<<<<<<< HEAD
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from dataclasses import replace
=======
from collections.abc import Mapping
>>>>>>> refs/heads/next-items
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ablation_variants import OWN_PARTS, left_out
from benchmarks.measured_on import measured_on
from benchmarks.options import whole_numbers
from benchmarks.sets import PACKAGED, SETS, as_judged
from recommender.engine.assignments import parse_assignments
from recommender.errors import RecommenderError, SettingsError
from recommender.evaluation.means import paired_difference
<<<<<<< HEAD
from recommender.models.next_item.fusion import MEMBER_FIELDS, Fusion, FusionConfig
from recommender.models.next_item.fusion.gate_fit import fit_gate
from recommender.models.next_item.ranker import ItemRanker
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.sequences import LeaveOneOut, Sequences
=======
from recommender.models.next_item.fusion import FusionConfig
>>>>>>> refs/heads/next-items
from recommender.storage.manifest import write_text

OUTPUT = Path("reports/bench/ablation.json")
<<<<<<< HEAD
WHOLE, ALONE = "the flagship", "one transformer alone"
"""Names of the rows that others are compared with, in the report and in docs/benchmarks.md."""
NAMES = {"rules": "rules", "broad": "broad rules", "latent": "latent factors", "trend": "the trend"}
NAMES |= {"habit": "habits", "content": "content", "popularity": "popularity"}
"""Expert of `fusion` -> its name in a row."""
OWN_PARTS: dict[str, dict[str, Any]] = {
    "a plain transformer": {"relative": False, "timed": False, "gated": False, "attributes": False},
    "without the distance bias": {"relative": False},
    "without the gate of channels": {"gated": False},
    "without attributes": {"attributes": False},
    "without times": {"timed": False},
    "with label smoothing": {"smoothing": 0.1},
}
"""Variant of one transformer -> hyperparameters that make it.

0.1 is the usual label smoothing (Szegedy et al., CVPR 2016).
"""


def own_parts(split: LeaveOneOut, config: FusionConfig, only: Collection[str]) -> dict[str, dict[str, Any]]:
    """The variants of a transformer without one of the parts that it has.

    Args:
        split: The data; a part that needs attributes or times is absent where there are none.
        config: The resolved configuration of `fusion`.
        only: Hyperparameters. A variant that changes any other one is left out.

    Raises:
        SettingsError: `only` names some, and the transformers have none of these parts.
    """
    absent = {"without attributes": not split.train.items.num_attributes, "without times": not config.timed}
    every = {"half as wide": {"width": config.width // 2}, **OWN_PARTS}
    found = {name: without for name, without in every.items() if not absent.get(name) and set(without) <= set(only)}
    if only and not found:
        raise SettingsError(
            f"--parts {','.join(only)}: the transformers of this set have none of these parts; name others"
        )
    return found


def with_cached_scores(fusion: Fusion, histories: Sequences) -> Fusion:
    """A copy whose experts score all `histories` once and look the scores up afterwards."""

    def cached(expert: Any) -> Any:
        everyone = np.arange(histories.num_users)
        scores_UV = np.concatenate([part_UV for _, _, part_UV in scored_in_batches(expert, histories, everyone)])
        twin = copy(expert)
        twin.score = lambda asked: scores_UV[asked.users_U]
        return twin

    fusion = fusion.only()
    fusion.experts = replace(
        fusion.experts,
        transformers=list(map(cached, fusion.experts.transformers)),
        others={name: cached(expert) for name, expert in fusion.experts.others.items()},
    )
    return fusion


def parts(split: LeaveOneOut, fusion: Fusion, *, seed: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """`fusion` and its variants without an expert, with fewer transformers or a simpler gate, and users' NDCG@10."""
    variants: dict[str, dict[str, Any]] = {WHOLE: {}}
    names, transformers = fusion.experts.names(), len(fusion.experts.transformers)
    if len(names) > 1:
        variants |= {f"without {NAMES[name]}": {"without": {name}} for name in names if name in NAMES}
    for number in range(1, transformers):
        variants[f"transformers: {number} of {transformers}"] = {"transformers": number}

    learning, gates = with_cached_scores(fusion, split.train), {}
    for name, kept in variants.items():
        variant = learning.only(**kept)
        gates[name] = fit_gate(variant.experts, variant.gate, split.train, split.validation_U, seed=seed)
    variant = learning.only()
    gates["no hidden layer"] = fit_gate(
        variant.experts, variant.gate, split.train, split.validation_U, seed=seed, hidden=False
    )
    gates["even weights"] = variant.gate
    del learning, variant  # frees the scores of all users before the next ones are made
    judged = with_cached_scores(fusion, split.train_and_validation)
    for name, gate in gates.items():
        variant = judged.only(**variants.get(name, {}))
        variant.gate = gate
        yield name, judge(variant, split.train_and_validation, split.test_U).ndcg_U()


def left_out(
    sequences: Sequences,
    config: dict[str, Any],
    *,
    members: bool,
    seed: int,
    only: Collection[str] = (),
    checkpoints: Path | None = None,
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Each variant of `fusion`, or of one of its transformers, and its users' NDCG@10.

    Args:
        sequences: The set's events. The last item of each user is not read.
        config: Hyperparameters of `fusion` that differ from its defaults.
        members: Train one transformer and its variants instead of `fusion` and its `parts`.
        seed: Seed of every fit.
        only: Hyperparameters of the transformers: fit again without each one. With `members` and none: without each
            part.
        checkpoints: Folder where a killed fit resumes.
    """
    sequences = LeaveOneOut.of(sequences).train_and_validation
    split = LeaveOneOut.of(sequences)

    def context_of(name: str, given: dict[str, Any]) -> FitContext:
        own = checkpoints and checkpoint_folder(checkpoints, sequences, name, "train", seed, given)
        return FitContext(seed=seed, checkpoints=own)

    def flagship_of(given: dict[str, Any]) -> Fusion:
        parsed, context = FusionConfig.parse(given, owner="fusion"), context_of("fusion", given)
        return Fusion.fit(split.train, held_out_U=split.validation_U, config=parsed, context=context)

    def transformer_of(given: dict[str, Any]) -> SASRec:
        parsed, context = SASRecConfig.parse(given, owner="sasrec"), context_of("sasrec", given)
        return SASRec.fit(split.train, held_out_U=split.validation_U, config=parsed, context=context)

    def ndcg_of(ranker: ItemRanker[Any]) -> NDArray[np.float64]:
        return judge(ranker, split.train_and_validation, split.test_U).ndcg_U()

    resolved = Fusion.resolved(FusionConfig.parse(config, owner="fusion"), split.train)
    without = own_parts(split, resolved, MEMBER_FIELDS if members and not only else only)
    if members:
        whole = resolved.model_dump(include=MEMBER_FIELDS)
        for name, changed in {ALONE: {}, **without}.items():
            yield name, ndcg_of(transformer_of(whole | changed))
        return
    flagship = flagship_of(config)
    yield from parts(split, flagship, seed=seed)
    if without:
        yield ALONE, ndcg_of(flagship.experts.transformers[0])
    for name, changed in without.items():
        lesser = flagship_of(config | changed)
        yield name, ndcg_of(lesser)
        yield f"{ALONE}: {name}", ndcg_of(lesser.experts.transformers[0])
=======
>>>>>>> refs/heads/next-items


def rows_of(gains: Mapping[str, list[NDArray[np.float64]]], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per variant, compared with the first one (`whole: part` with `whole`); gains are means over the seeds."""
    mean_U = {name: np.mean(of_seeds, axis=0) for name, of_seeds in gains.items()}
    rows = []
    for name, gain_U in mean_U.items():
        whole = name.partition(": ")[0]
        against = whole if whole in mean_U and whole != name else next(iter(mean_U))
        row = {**facts, "variant": name, "ndcg@10": float(gain_U.mean())}
        row |= {"by_seed": [float(one_U.mean()) for one_U in gains[name]], "against": against}
        rows.append(row | paired_difference(gain_U, mean_U[against]))
    return rows


def _requested_parts(words: str) -> list[str]:
    """The hyperparameters that --parts names.

    Raises:
        SettingsError: One of them is not a part that can be left out.
    """
    only = [part.strip() for part in words.split(",") if part.strip()]
    known = {name for without in OWN_PARTS.values() for name in without} | {"width"}
    if unknown := [name for name in only if name not in known]:
        raise SettingsError(f"--parts: unknown part {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return only


def _replaced(row: dict[str, Any], found: list[dict[str, Any]], *, keep: bool) -> bool:
    """Whether an earlier row is replaced by the rows `found` of the same set.

    With `keep`, a row of the same seeds, hyperparameters and commit stays, unless it was measured again.
    """
    if (row["set"], row["of"]) != (found[0]["set"], found[0]["of"]):
        return False
    alike = all(row[one] == found[0][one] for one in ("seeds", "config", "commit"))
    return not (keep and alike) or row["variant"] in [one["variant"] for one in found]


def main(words: list[str] | None = None) -> int:
    """Measure, print, and write the report with the rows of other sets; exit code 2 on an error."""
    parser = argparse.ArgumentParser(prog="make bench-ablation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder with ml-1m/ and amazon-beauty/")
    parser.add_argument("--sets", default=",".join(SETS), help=f"of {', '.join((*SETS, *PACKAGED))}")
    parser.add_argument("--seeds", type=whole_numbers, default="17", help="such as 17,18")
    parser.add_argument("--members", action="store_true", help="train one transformer, and one without each part")
    parser.add_argument("--parts", default="", help="hyperparameters of the transformers: gated,relative")
    parser.add_argument(
        "--set", action="append", default=[], dest="hyperparameters", help="a hyperparameter of fusion: epochs=20"
    )
    parser.add_argument("--checkpoints", type=Path, help="folder where a killed fit resumes")
    given = parser.parse_args(words)
    if given.data is None and not set(given.sets.split(",")) <= set(PACKAGED):
        print("bench-ablation: nothing was measured, because no data folder was given: make bench-ablation SHARED=…")
        return 0
    rows = json.loads(OUTPUT.read_text(encoding="utf-8"))["rows"] if OUTPUT.is_file() else []
    try:
        config, only = parse_assignments(given.hyperparameters), _requested_parts(given.parts)
        FusionConfig.parse(config, owner="fusion")  # refused before anything is fitted
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
            found = rows_of(gains, {**facts, "config": config, **measured_on()})
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
