"""A policy head: top-K off-policy-corrected policy gradient on another policy's decisions with known propensities.

Chen, Beutel, Covington, Jain, Belletti & Chi, "Top-K off-policy correction for a REINFORCE recommender system", WSDM
2019. The gradient of a logged row is w · λ_K · (r - b) · ∇ log π(a|x), with

    w   = min(π(a|x) / β(a|x), cap)         weight capping (their eq. 8; Ionides, 2008); β is the logged propensity
    λ_K = K (1 - π(a|x))^(K - 1)            top-K correction (their eq. 6 and 7); 1 for K = 1

Neither w nor λ_K is differentiated. b is a constant that the gradient's mean does not depend on (Williams, 1992).

Shapes: N decisions · B a batch · X columns of a context · A actions.
"""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from recommender.engine.context import FitContext
from recommender.engine.loop import reproducible, run_phase, seed_of
from recommender.policies.logged_fit import Head, HeadConfig, batches_of, require_log, scale_of, scaled, schedule_of
from recommender.policies.off_policy import FLOOR, require_propensities


class PolicyHeadConfig(HeadConfig):
    """Hyperparameters of the policy head. Defaults were chosen on three worlds of `make bench-policy`, seeds 0 to 2."""

    top_k: int = Field(1, ge=1, description="Number of actions that are shown together.")
    cap: float = Field(20.0, gt=0, description="Largest importance weight.")
    baseline: bool = Field(
        True,
        description="Whether to subtract the mean reward. Only for `top_k` 1: else it does not cancel, as λ_K varies.",
    )
    steps: int = Field(1200, ge=1, description="Steps of training.")
    rate: float = Field(0.08, gt=0, description="Highest learning rate.")
    floor: float = Field(FLOOR, ge=0, le=1, description="Smallest logged propensity that is accepted.")


def top_k_multiplier(pi_B: Tensor, top_k: int) -> Tensor:
    """λ_K = K (1 - π)^(K - 1): slope of an action's chance to be among K draws, by its probability in one draw."""
    return top_k * (1 - pi_B) ** (top_k - 1)


def corrected_loss(
    log_pi_B: Tensor, propensities_B: Tensor, rewards_B: Tensor, *, cap: float, top_k: int = 1, baseline: float = 0.0
) -> Tensor:
    """Mean over rows of -w · λ_K · (r - b) · log π(a|x), whose gradient is the off-policy-corrected policy gradient.

    Args:
        log_pi_B: log π of the actions that were shown.
        propensities_B: β, their logged propensities.
        rewards_B: r, what the decisions earned.
        cap: Largest w.
        top_k: K, how many actions are shown together.
        baseline: b.
    """
    pi_B = log_pi_B.detach().exp()
    weights_B = (pi_B / propensities_B).clamp(max=cap)
    return -(weights_B * top_k_multiplier(pi_B, top_k) * (rewards_B - baseline) * log_pi_B).mean()


class PolicyHead:
    """A trained policy over A actions, made by `fit` or `restore`, never by its constructor."""

    name = "policy"
    Config = PolicyHeadConfig

    def __init__(self, head: Head, scale_2X: NDArray[np.float32]) -> None:
        self._head, self._scale_2X = head, scale_2X

    @classmethod
    def fit(
        cls,
        contexts_NX: NDArray[np.float32],
        actions_N: NDArray[np.int64],
        propensities_N: NDArray[np.float64],
        rewards_N: NDArray[np.float64],
        *,
        num_actions: int,
        config: PolicyHeadConfig,
        context: FitContext,
    ) -> Self:
        """Learn from N logged decisions. A fit that was killed resumes from the context's checkpoints.

        Args:
            contexts_NX: Features of each decision, float32 [N, X].
            actions_N: Action that was shown, 0 … A - 1.
            propensities_N: Probability with which the logging policy showed it.
            rewards_N: What the decision earned.
            num_actions: A.
            config: Hyperparameters.
            context: Seed, device, checkpoints and progress.

        Raises:
            PropensityError: A propensity is missing, zero, below `floor` or above 1. Names the row.
            ContractError: As `require_log`.
            TrainingError: The loss stopped being finite.
            DeviceError: This machine lacks the context's device.
        """
        known_N = require_propensities(propensities_N, floor=config.floor)
        require_log(contexts_NX, actions_N, num_actions, rows=len(known_N), reward=rewards_N)
        top_k, cap = config.top_k, config.cap
        baseline = float(np.mean(rewards_N)) if config.baseline and top_k == 1 else 0.0
        scale_2X = scale_of(contexts_NX)
        with reproducible(context) as device:
            torch.manual_seed(seed_of(context.seed, "policy", 0))
            head = Head(contexts_NX.shape[1], num_actions, config.hidden).to(device)
            x_NX = torch.from_numpy(scaled(contexts_NX, scale_2X)).to(device)
            a_N = torch.from_numpy(np.asarray(actions_N, dtype=np.int64)).to(device)
            beta_N = torch.from_numpy(known_N.astype(np.float32)).to(device)
            r_N = torch.from_numpy(np.asarray(rewards_N, dtype=np.float32)).to(device)

            def loss_of(rows_B: Tensor) -> Tensor:
                rows_B = rows_B.to(device)
                log_pi_BA = functional.log_softmax(head(x_NX[rows_B]), dim=1)
                log_pi_B = log_pi_BA.gather(1, a_N[rows_B, None])[:, 0]
                return corrected_loss(log_pi_B, beta_N[rows_B], r_N[rows_B], cap=cap, top_k=top_k, baseline=baseline)

            batches = batches_of("policy", loss_of, len(x_NX), config.batch, context.seed)
            run_phase("policy", head, batches, schedule_of(config), context)
        return cls(head.cpu(), scale_2X)

    def probabilities(self, contexts_NX: NDArray[np.float32]) -> NDArray[np.float64]:
        """π(a|x) of every action, float64 [N, A]. Rows add up to 1."""
        with torch.no_grad():
            logits_NA = self._head(torch.from_numpy(scaled(contexts_NX, self._scale_2X)))
        return functional.softmax(logits_NA.double(), dim=1).numpy()

    def top(self, contexts_NX: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Find the k most probable actions, best first, int64 [N, k]."""
        return top_of(self.probabilities(contexts_NX), k)


def top_of(scores_NA: NDArray[np.floating[Any]], k: int) -> NDArray[np.int64]:
    """Find the k highest of each row, best first, int64 [N, k]. Of equal scores the first action wins."""
    return np.argsort(-scores_NA, axis=1, kind="stable")[:, :k]
