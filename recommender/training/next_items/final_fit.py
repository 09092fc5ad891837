"""Fits a next-item ranker for use: once to choose and to judge, once more on every event, and keeps that one."""

from dataclasses import dataclass, replace
from typing import Any

from recommender.engine.cost import Stopwatch
from recommender.engine.guard import enough_memory
from recommender.errors import SettingsError
from recommender.evaluation.leave_one_out import Ranks, judge
from recommender.evaluation.sequence_counts import sequence_counts
from recommender.sequences import LeaveOneOut
from recommender.training.next_items.fitting import fit_ranker
from recommender.training.next_items.keep import fit_and_keep
from recommender.training.next_items.outputs import Outputs
from recommender.training.next_items.request import FitRequest


@dataclass(frozen=True, eq=False)
class FitReport:
    """Results of a fit for use.

    Attributes:
        held_out: Ranks of the users' last items by the first fit, which did not learn from them. They also chose when
            to stop and how to mix, so expect slightly lower figures for new users.
        chosen: Hyperparameters that the held-out items chose.
        counts: Users, items, events (see `sequence_counts`).
        cost: CPU-seconds and seconds of both fits and the judgement.
        largest_difference: Of the program's scores from the ranker's. None without a program.
    """

    held_out: Ranks
    chosen: dict[str, Any]
    counts: dict[str, int]
    cost: dict[str, float]
    largest_difference: float | None


def fit_for_use(request: FitRequest, outputs: Outputs) -> FitReport:
    """Fit without each user's last item to choose and to judge, then on every event, and write the bundle.

    Raises:
        SettingsError: A hyperparameter, a path or the export is not possible. Nothing was fitted.
        SourceError, ContractError: A file cannot be used; names file, column and row.
        TrainingError, DeviceError: As `fit_ranker`.
    """
    if outputs.bundle is None:
        raise SettingsError("a fit for use needs a folder for its bundle")
    outputs.check(request)
    request.check()
    sequences = request.read()
    context = request.context(request.checkpoints(outputs.checkpoints, sequences, "for use"))
    stopwatch = Stopwatch(context)
    context = replace(context, progress=stopwatch.on_progress)
    split = LeaveOneOut.of(sequences)
    first = fit_ranker(
        split.train_and_validation,
        request.ranker,
        held_out_U=split.test_U,
        hyperparameters=request.hyperparameters,
        context=context,
    )
    with enough_memory(request.ranker, request.device):
        held_out = judge(first, split.train_and_validation, split.test_U)
    chosen = first.chosen()
    lineage = {
        "data": request.file_hashes(),
        "config": dict(request.hyperparameters),
        "seed": request.seed,
        "train_on": "every event",
        "code_version": request.code_version(),
        "held_out": held_out.summary(),
    }
    difference = fit_and_keep(
        sequences,
        request.ranker,
        hyperparameters={**request.hyperparameters, **chosen},
        context=context,
        outputs=outputs,
        lineage=lineage,
    )
    return FitReport(held_out, chosen, sequence_counts(sequences), stopwatch.seconds(), difference)
