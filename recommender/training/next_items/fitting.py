"""Fits of next-item rankers on sequences, judged by leave-one-out: every unseen item competes, every user is judged.

The last item of a user is the test and the one before it validation. Trained on "train", the validation item chooses
(when to stop, how to mix) and is never learned from. Trained on "train+validation", a first fit chooses and a second
one learns from the validation item as well.
"""

import hashlib
import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recommender.engine.context import FitContext
from recommender.engine.cost import Stopwatch
from recommender.engine.guard import enough_memory
from recommender.engine.hyperparameters import Hyperparameters
from recommender.engine.precision import cpu_has_units
from recommender.engine.torchrun import started
from recommender.evaluation.cold_items import cold_split, judge_cold
from recommender.evaluation.leave_one_out import Ranks, judge
from recommender.models.next_item import ItemRanker, item_ranker_class, item_ranker_module
from recommender.sequences import LeaveOneOut, Sequences
from recommender.storage.code_identity import code_identity
from recommender.storage.manifest import NAME_DIGITS, digest

TrainOn = Literal["train", "train+validation"]
KIB_A_MIB = 1024
"""`ru_maxrss` is in KiB on Linux."""


@dataclass(frozen=True, eq=False)
class JudgedFit:
    """A fitted ranker, its quality, and the cost of the fit.

    Attributes:
        ranker: The fitted ranker.
        validation: Ranks of the validation items. None where the ranker learned from them.
        test: Ranks of the test items.
        chosen: What the first fit chose by the validation items, as hyperparameters of another fit.
        facts: The request and its cost as JSON values: ranker, train_on, seed, config, chosen, seconds, memory.
    """

    ranker: ItemRanker[Any]
    validation: Ranks | None
    test: Ranks
    chosen: dict[str, Any]
    facts: dict[str, Any]


def hyperparameters_of(ranker: str, given: Mapping[str, Any]) -> Hyperparameters:
    """The configuration of `ranker` with the values `given` and its defaults for the rest.

    Raises:
        BundleError: No ranker has this name.
        SettingsError: A hyperparameter is unknown, or its value is not allowed.
    """
    return item_ranker_class(ranker).Config.parse(given, owner=ranker)


def fit_ranker(
    sequences: Sequences,
    ranker: str,
    *,
    held_out_U: NDArray[np.int32] | None,
    hyperparameters: Mapping[str, Any],
    context: FitContext,
    place: str = "",
) -> ItemRanker[Any]:
    """Fit `ranker` on all events of `sequences`.

    Args:
        sequences: The training data.
        ranker: The ranker's name.
        held_out_U: Each user's next item, which is used only to choose. 0: none. None: `hyperparameters` contains what
            an earlier fit chose, or the defaults hold.
        hyperparameters: Those that differ from the ranker's defaults.
        context: Seed, device, checkpoints, progress.
        place: A folder below the context's checkpoints, for a fit beside another one.

    Raises:
        TrainingError: Loss or gradient is not finite, or memory does not suffice.
        DeviceError: The machine lacks the device.
    """
    if context.checkpoints is not None:
        context = replace(context, checkpoints=context.checkpoints / place)
    config = hyperparameters_of(ranker, hyperparameters)
    with enough_memory(ranker, context.device):
        return item_ranker_class(ranker).fit(sequences, held_out_U=held_out_U, config=config, context=context)


def fit_and_judge(
    sequences: Sequences,
    ranker: str,
    *,
    train_on: TrainOn = "train",
    context: FitContext | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> JudgedFit:
    """Fit `ranker` without each user's test item, and judge it by these.

    The cost covers all fits, and fits that were killed and left checkpoints. Where `torchrun` started several
    processes it is that of the first one.

    Raises:
        BundleError: No ranker has this name.
        SettingsError: A hyperparameter is unknown, or its value is not allowed.
        TrainingError, DeviceError: As `fit_ranker`; also where memory does not suffice to judge.
    """
    context, given = context or FitContext(), dict(hyperparameters or {})
    hyperparameters_of(ranker, given)  # refused before anything is split or fitted
    split, stopwatch = LeaveOneOut.of(sequences), Stopwatch(context)
    context = replace(context, progress=stopwatch.on_progress)
    fitted = fit_ranker(split.train, ranker, held_out_U=split.validation_U, hyperparameters=given, context=context)
    chosen = fitted.chosen()
    if train_on == "train+validation":
        again = {**given, **chosen}
        fitted = fit_ranker(
            split.train_and_validation, ranker, held_out_U=None, hyperparameters=again, context=context, place="again"
        )
    cost = stopwatch.seconds()
    with enough_memory(ranker, context.device):
        validation = judge(fitted, split.train, split.validation_U) if train_on == "train" else None
        before = time.process_time()
        test = judge(fitted, split.train_and_validation, split.test_U)
    facts = {
        "ranker": ranker,
        "train_on": train_on,
        "seed": context.seed,
        "config": given,
        "chosen": chosen,
        **cost,
        "processes": started(),
        "score_cpu_seconds": round(time.process_time() - before, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_A_MIB, 1),
    }
    return JudgedFit(fitted, validation, test, chosen, facts)


def judge_cold_items(
    sequences: Sequences,
    ranker: str,
    *,
    context: FitContext | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fit `ranker` without 5 % of the items, drawn by the context's seed, and rank these by their content alone.

    Returns:
        NDCG@10 and recall@10 of the held-out items among all unseen ones and among each other, as
        `ColdRanks.summary`.

    Raises:
        PeriodError: There are too few items or users for held-out items to be anyone's last one.
        SettingsError, TrainingError, DeviceError: As `fit_and_judge`.
    """
    context, given = context or FitContext(), dict(hyperparameters or {})
    hyperparameters_of(ranker, given)  # refused before anything is split or fitted
    split = cold_split(sequences, seed=context.seed)
    fitted = fit_ranker(
        split.train, ranker, held_out_U=split.validation_U, hyperparameters=given, context=context, place="cold"
    )
    with enough_memory(ranker, context.device):
        return judge_cold(fitted, split).summary()


def fitting_code(ranker: str) -> str:
    """Identity of the code that can change how `ranker` is fitted and judged on given sequences.

    Raises:
        BundleError: No ranker has this name.
    """
    return code_identity("recommender.training.next_items.fitting", item_ranker_module(ranker))


def checkpoint_folder(folder: Path, sequences: Sequences, ranker: str, *identity: Any, device: str = "cpu") -> Path:
    """The folder below `folder` for the checkpoints of one fit, so that no fit resumes another one's.

    Its name is a hash of the sequences, of `ranker`, of `identity` (seed, hyperparameters, …), of the code, of the
    device and of how this CPU multiplies.
    """
    items = sequences.items
    arrays = (sequences.offsets, sequences.items_T, sequences.times_T, items.attribute_offsets, items.attributes_P)
    hashes = [None if one is None else hashlib.sha256(one.tobytes()).hexdigest() for one in arrays]
    where = (device, cpu_has_units())
    return folder / digest(hashes, items.ids, items.texts, ranker, *identity, where, fitting_code(ranker))[:NAME_DIGITS]
