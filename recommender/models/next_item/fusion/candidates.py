"""Data for a fit of the gate: the experts' ratings of a few candidates per user, including the held-out item.

Looking at all items would need too much memory. So a fit looks at the best items of the product and of each expert, and
at a sample of the rest, each of which stands for many.

Shapes: U users · V items, rows 1 … V · K experts · X facts about a user · C candidates.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recommender.errors import TrainingError
from recommender.models.next_item.fusion.gate import CANDIDATES, EXCLUDED, Gate, best_columns, excluded, product
from recommender.sequences import Sequences

OF_EACH, OTHERS = 50, 100
"""Best items of each expert, and items sampled from the rest. Without the first, an expert that starts with weight 0
could not show its worth; without the second, the fit would lift items that it never saw. Numbers chosen by hand."""

ExpertLogs = Callable[[Sequences], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Histories -> the experts' log-probabilities of all items, [K, U, V + 1], and facts about the users, [U, X]."""


class Candidates(NamedTuple):
    """Some users' candidates as the experts rate them. The first one is the held-out item."""

    logs_UCK: NDArray[np.float32]
    facts_UX: NDArray[np.float32]
    stands_for_UC: NDArray[np.float32]
    """The logarithm of how many items a candidate stands for. `EXCLUDED` if it is no candidate."""

    def of(self, users: NDArray[Any]) -> "Candidates":
        """Those of some users."""
        return Candidates(*(part[users] for part in self))


def candidates_of(
    experts: ExpertLogs,
    start: Gate,
    histories: Sequences,
    target_U: NDArray[np.int32],
    rng: np.random.Generator,
    names: tuple[str, ...] = (),
) -> Candidates:
    """Each user's held-out item, the best of the product and of each expert, and a sample of the rest.

    The product has the weights of `start`.

    Raises:
        TrainingError: an expert's log-probability, or a fact, is NaN or infinite.
    """
    logs_KUV, facts_UX = experts(histories)
    _require_finite(logs_KUV, facts_UX, names)
    rows = np.arange(len(target_U))[:, None]
    taken_UV = np.zeros(logs_KUV.shape[1:], dtype=np.bool_)
    taken_UV[excluded(histories, repeats=start.repeats)] = True
    taken_UV[rows[:, 0], target_U] = True
    columns = [target_U[:, None].astype(np.int64)]
    stands_for = [np.zeros(columns[0].shape, np.float32)]

    def add(scores_UV: NDArray[np.float32], number: int) -> None:
        best_UC = best_columns(np.where(taken_UV, -np.inf, scores_UV), number)
        columns.append(best_UC)
        stands_for.append(np.where(taken_UV[rows, best_UC], EXCLUDED, 0.0).astype(np.float32))
        taken_UV[rows, best_UC] = True

    start_UK = np.broadcast_to(start.bias_K, (len(target_U), len(start.bias_K)))
    add(product(logs_KUV, start_UK), CANDIDATES)
    for log_UV in logs_KUV:
        add(log_UV, OF_EACH)
    left_U = (~taken_UV).sum(axis=1)
    add(rng.random(taken_UV.shape, dtype=np.float32), OTHERS)
    weight_U = np.log(np.maximum(left_U / OTHERS, 1.0)).astype(np.float32)
    stands_for[-1] = np.where(stands_for[-1] < 0, EXCLUDED, weight_U[:, None])
    all_UC = np.concatenate(columns, axis=1)
    logs_UCK = np.take_along_axis(logs_KUV, all_UC[None], axis=2).transpose(1, 2, 0)
    return Candidates(np.ascontiguousarray(logs_UCK), facts_UX, np.concatenate(stands_for, axis=1))


def _require_finite(logs_KUV: NDArray[np.float32], facts_UX: NDArray[np.float32], names: tuple[str, ...]) -> None:
    for expert, log_UV in enumerate(logs_KUV):
        if not np.isfinite(log_UV).all():
            which = repr(names[expert]) if names else f"number {expert}"
            raise TrainingError(f"fusion, gate: expert {which} returned NaN or Inf, so its fit diverged")
    if not np.isfinite(facts_UX).all():
        raise TrainingError("fusion, gate: a fact about a user is NaN or Inf")
