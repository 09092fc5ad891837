"""Training of a network in epochs, stopped early by the users' held-out items.

Shapes: U users · M rows of a batch.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recommender.engine.context import FitContext
from recommender.engine.loop import Divisible, EarlyStop, Part, Schedule, Sum, run_phase, seed_of
from recommender.errors import TrainingError
from recommender.models.next_item.network import Network, NeuralConfig
from recommender.sequences import Sequences
from recommender.sequences.ranks import full_ranks, ndcg, users_at_once

WARM_UP = 100
"""Most steps over which the learning rate rises, but at most a tenth of all steps. Chosen by hand."""
CLIP = 5.0
"""Largest norm of a gradient: a guard against single steps that are far too large. Chosen by hand."""
BETAS = (0.9, 0.98)
"""Decay of Adam's moments, as in Vaswani et al. (NeurIPS 2017) and in the code that SASRec was published with."""


class _Epochs:
    """Batches by step, made an epoch at a time. All epochs take as many steps as the first."""

    def __init__(self, make: Callable[[np.random.Generator], list[NDArray[np.int64]]], seed: int, phase: str) -> None:
        self._make, self._seed, self._phase = make, seed, phase
        self._epoch = 0
        self._batches = self._of(0)
        self.steps = len(self._batches)

    def _of(self, epoch: int) -> list[NDArray[np.int64]]:
        return self._make(np.random.default_rng(seed_of(self._seed, f"{self._phase} batches", epoch)))

    def at(self, step: int) -> NDArray[np.int64]:
        """The batch of this step."""
        epoch, place = divmod(step, self.steps)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._of(epoch)
        return self._batches[place % len(self._batches)]


def fit_epochs(
    model: Network[Any],
    sequences: Sequences,
    held_out_U: NDArray[np.int32] | None,
    *,
    loss_of_batch: Callable[[NDArray[np.int64], np.random.Generator], Sum],
    config: NeuralConfig,
    context: FitContext,
    phase: str,
) -> dict[str, Any]:
    """Train `model` for at most `config.epochs`, or for the more that `config.min_steps` needs.

    With `held_out_U` the fit stops by NDCG over all ranks (cut at 10 it would be too noisy on small sets) and keeps the
    best weights.

    Returns:
        {"stop_at": share of all steps} where it was chosen or given, for a fit that has nothing held out.

    Raises:
        TrainingError: no batch can be made, or the loss is not finite.
    """
    epochs = _Epochs(lambda rng: model.batches(sequences, rng), context.seed, phase)
    if not epochs.steps:
        left = "" if held_out_U is None else " left after the last ones were held out"
        raise TrainingError(
            f"{phase}: no user has two events{left}, so there is no next item to learn from. "
            "The rankers rules, item_cf and als need no pairs of events."
        )
    number = max(config.epochs, math.ceil((config.min_steps or 0) / epochs.steps))
    steps = epochs.steps * number
    schedule = Schedule(
        steps=steps,
        rate=config.rate,
        weight_decay=config.weight_decay,
        warm_up=max(min(WARM_UP, steps // 10), 1),
        clip=CLIP,
        betas=BETAS,
        accumulate=config.accumulate,
        end=None if config.stop_at is None else max(round(config.stop_at * steps), 1),
    )

    def loss_at(step: int, part: Part) -> Sum:
        rows = part(epochs.at(step))
        rng = np.random.default_rng(seed_of(context.seed, f"{phase} draws {part.index} of {part.of}", step))
        return loss_of_batch(rows, rng) if len(rows) else Sum(torch.zeros(()), 0.0)

    users = _judged_users(sequences, held_out_U, config.judged_users, context.seed)
    if held_out_U is None or not len(users):
        run_phase(phase, model, Divisible(loss_at), schedule, context)
        return {} if config.stop_at is None else {"stop_at": config.stop_at}
    every = epochs.steps * math.ceil(config.judge_every * number / config.epochs)
    stop = EarlyStop(config.patience)
    judge = _judge(model.scores, sequences.take(users), held_out_U[users])
    judged = run_phase(phase, model, Divisible(loss_at), schedule, context, every=every, judge=judge, stop=stop)
    return {"stop_at": (stop.best(judged) + 1) * every / steps} if judged else {}


def _judged_users(
    sequences: Sequences, held_out_U: NDArray[np.int32] | None, most: int, seed: int
) -> NDArray[np.int64]:
    if held_out_U is None:
        return np.zeros(0, dtype=np.int64)
    users = np.flatnonzero((held_out_U > 0) & (sequences.lengths_U > 0))
    if len(users) <= most:
        return users
    return np.sort(np.random.default_rng(seed_of(seed, "judged", 0)).choice(users, most, replace=False))


def _judge(
    score: Callable[[Sequences], Tensor], histories: Sequences, target_U: NDArray[np.int32]
) -> Callable[[], float]:
    @torch.inference_mode()
    def judge() -> float:
        ranks, size = [], users_at_once(histories.items.num)
        for first in range(0, len(target_U), size):
            rows = np.arange(first, min(first + size, len(target_U)))
            batch = histories.take(rows)
            ranks.append(full_ranks(score(batch).float().cpu().numpy(), batch, target_U[rows]))
        return float(ndcg(np.concatenate(ranks), at=histories.items.num).mean())

    return judge
