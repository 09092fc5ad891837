"""Keeps a ranker for use: one more fit on every event, written as a bundle and, if wanted, as a program."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from recommender.engine.context import FitContext
from recommender.engine.provenance import provenance
from recommender.engine.torchrun import is_first
from recommender.models.next_item import ItemRanker
from recommender.models.next_item.export import export
from recommender.registry.bundle import save_items
from recommender.sequences import Sequences
from recommender.training.next_items.fitting import fit_ranker
from recommender.training.next_items.outputs import Outputs

USERS_COMPARED = 256
"""On so many users an exported program is compared with its ranker: a few seconds' work. Chosen by hand."""


def fit_and_keep(
    sequences: Sequences,
    ranker: str,
    *,
    hyperparameters: Mapping[str, Any],
    context: FitContext,
    outputs: Outputs,
    lineage: Mapping[str, Any],
) -> float | None:
    """Fit `ranker` on every event, and write its bundle and program.

    Args:
        sequences: All events; nothing is held out.
        ranker: The ranker's name.
        hyperparameters: Those of an earlier fit, with what its held-out items chose.
        context: Seed, device, checkpoints, progress.
        outputs: Where the bundle and the program go. Without either nothing is fitted.
        lineage: Facts about data and fit for the bundle.

    Returns:
        The largest difference between the program's scores and the ranker's, as a share of the largest score. None
        without a program.

    Raises:
        TrainingError, DeviceError: As `fit_ranker`.
        BundleError: The program does not score as the ranker does.
    """
    if outputs.bundle is None and outputs.program is None:
        return None
    kept = fit_ranker(
        sequences, ranker, held_out_U=None, hyperparameters=hyperparameters, context=context, place="kept"
    )
    if not is_first():
        return None
    if outputs.bundle is not None:
        save_items(kept, sequences.items, outputs.bundle, lineage={**lineage, **provenance(context.device)})
    return None if outputs.program is None else export_program(kept, sequences, outputs)


def export_program(ranker: ItemRanker[Any], sequences: Sequences, outputs: Outputs) -> float:
    """Write `ranker` as a program, compare both on some users, and return the largest difference of a score."""
    assert outputs.program is not None
    some = sequences.take(np.arange(min(USERS_COMPARED, sequences.num_users)))
    return export(ranker, replace(some, users_U=None), outputs.program, compiled=outputs.compiled)
