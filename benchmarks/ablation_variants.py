"""The variants of `fusion` and of its transformers that the ablation judges, each without one part.

Shapes: U users · V items.
"""

from collections.abc import Collection, Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recommender.allocation.next_item_scores import scored_in_batches
from recommender.engine.context import FitContext
from recommender.errors import SettingsError
from recommender.evaluation.leave_one_out import judge
from recommender.models.next_item.fusion import MEMBER_FIELDS, Fusion, FusionConfig
from recommender.models.next_item.fusion.gate_fit import fit_gate
from recommender.models.next_item.ranker import ItemRanker
from recommender.models.next_item.sasrec import SASRec, SASRecConfig
from recommender.sequences import LeaveOneOut, Sequences
from recommender.training.next_items.fitting import checkpoint_folder

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
