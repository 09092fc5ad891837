"""The supervised counterpart of the policy head: the probability that a shown campaign is taken up, fitted by log loss.

It is a logistic regression, or a network with a hidden layer, with one output an action, fitted to the actions that
were shown. Its expected rewards also serve the doubly robust estimate.

Shapes: N decisions · X columns of a context · A actions.
"""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recommender.engine.context import FitContext
from recommender.engine.loop import reproducible, run_phase, seed_of
from recommender.policies.logged_fit import Head, HeadConfig, batches_of, require_log, scale_of, scaled, schedule_of


class RewardModel:
    """P(taken up | context, action shown), made by `fit`, never by its constructor."""

    Config = HeadConfig

    def __init__(self, head: Head, scale_2X: NDArray[np.float32]) -> None:
        self._head, self._scale_2X = head, scale_2X

    @classmethod
    def fit(
        cls,
        contexts_NX: NDArray[np.float32],
        actions_N: NDArray[np.int64],
        taken_N: NDArray[Any],
        *,
        num_actions: int,
        config: HeadConfig,
        context: FitContext,
    ) -> Self:
        """Learn from N logged decisions.

        Args:
            contexts_NX: Features of each decision, float32 [N, X].
            actions_N: Action that was shown, 0 … A - 1.
            taken_N: 1 where the shown action was taken up, else 0.
            num_actions: A.
            config: Hyperparameters.
            context: Seed, device, checkpoints and progress.

        Raises:
            ContractError: As `require_log`.
            TrainingError: The loss stopped being finite.
            DeviceError: This machine lacks the context's device.
        """
        require_log(contexts_NX, actions_N, num_actions, rows=len(contexts_NX), taken=taken_N)
        scale_2X = scale_of(contexts_NX)
        with reproducible(context) as device:
            torch.manual_seed(seed_of(context.seed, "reward", 0))
            head = Head(contexts_NX.shape[1], num_actions, config.hidden).to(device)
            x_NX = torch.from_numpy(scaled(contexts_NX, scale_2X)).to(device)
            a_N = torch.from_numpy(np.asarray(actions_N, dtype=np.int64)).to(device)
            y_N = torch.from_numpy(np.asarray(taken_N, dtype=np.float32)).to(device)

            def loss_of(rows_B: Tensor) -> Tensor:
                rows_B = rows_B.to(device)
                shown_B = head(x_NX[rows_B]).gather(1, a_N[rows_B, None])[:, 0]
                return functional.binary_cross_entropy_with_logits(shown_B, y_N[rows_B])

            batches = batches_of("reward", loss_of, len(x_NX), config.batch, context.seed)
            run_phase("reward", head, batches, schedule_of(config), context)
        return cls(head.cpu(), scale_2X)

    def take_up(self, contexts_NX: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability that each action is taken up if shown, float64 [N, A]."""
        with torch.no_grad():
            logits_NA = self._head(torch.from_numpy(scaled(contexts_NX, self._scale_2X)))
        return torch.sigmoid(logits_NA.double()).numpy()
