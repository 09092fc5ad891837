"""A policy head: top-K off-policy-corrected policy gradient on decisions that another policy took with known propensities.

Chen, Beutel, Covington, Jain, Belletti & Chi, "Top-K off-policy correction for a REINFORCE recommender system", WSDM 2019: the
gradient of a logged row is w · λ_K · (r - b) · ∇ log π(a|x), with

    w   = min(π(a|x) / β(a|x), cap)         weight capping (their eq. 8; Ionides, 2008); β is the logged propensity
    λ_K = K (1 - π(a|x))^(K - 1)            top-K correction (their eq. 6 and 7); 1 for K = 1

and neither w nor λ_K is differentiated. b is a constant that the gradient's mean does not depend on (Williams, 1992).

Shapes: N decisions · B a batch · X columns of a context · A actions · H hidden.
"""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.context import FitContext
from recommender.engine.loop import Divisible, Part, Schedule, Sum, reproducible, run_phase, seed_of
from recommender.errors import ContractError, SettingsError
from recommender.policies.off_policy import require_propensities, require_rows

DEFAULTS: dict[str, Any] = {
    "top_k": 1,
    "cap": 20.0,
    "baseline": True,
    "hidden": 0,
    "steps": 1200,
    "batch": 2048,
    "rate": 0.08,
    "weight_decay": 0.001,
    "floor": 0.001,
}
"""top_k: how many actions are shown together · cap: largest importance weight · baseline: subtract the mean reward (top_k 1 only:
λ_K depends on the action, so a constant would no longer cancel) · hidden: width of a hidden layer, 0 for a linear head ·
steps, batch, rate, weight_decay: of AdamW · floor: propensities below it are refused."""


class Head(nn.Module):
    """Contexts -> one number an action: linear, or with one hidden layer; starts at zero, which is the uniform policy."""

    def __init__(self, num_columns: int, num_actions: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_columns, hidden) if hidden else None
        self.out = nn.Linear(hidden or num_columns, num_actions)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_BX: Tensor) -> Tensor:
        """float32 [B, X] -> logits, float32 [B, A]."""
        logits_BA: Tensor = self.out(functional.gelu(self.hidden(x_BX)) if self.hidden is not None else x_BX)
        return logits_BA


def top_k_multiplier(pi_B: Tensor, top_k: int) -> Tensor:
    """λ_K = K (1 - π)^(K - 1): how much one more mention of an action adds to its chance to be among K draws."""
    return top_k * (1 - pi_B) ** (top_k - 1)


def corrected_loss(
    log_pi_B: Tensor, propensities_B: Tensor, rewards_B: Tensor, *, cap: float, top_k: int = 1, baseline: float = 0.0
) -> Tensor:
    """The mean over rows of -w · λ_K · (r - b) · log π(a|x), whose gradient is the off-policy-corrected policy gradient.

    `log_pi_B`: log π of the actions that were shown.
    """
    pi_B = log_pi_B.detach().exp()
    weights_B = (pi_B / propensities_B).clamp(max=cap)
    return -(weights_B * top_k_multiplier(pi_B, top_k) * (rewards_B - baseline) * log_pi_B).mean()


class PolicyHead:
    """A trained policy over A actions. Construction is by `fit` or `restore`, never by hand."""

    name = "policy"

    def __init__(self, head: Head, scale_2X: NDArray[np.float32], hyper: Mapping[str, Any]) -> None:
        self._head, self._scale_2X, self._hyper = head, scale_2X, dict(hyper)

    @classmethod
    def fit(
        cls,
        contexts_NX: NDArray[np.float32],
        actions_N: NDArray[np.int64],
        propensities_N: NDArray[np.float64],
        rewards_N: NDArray[np.float64],
        *,
        num_actions: int,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        """Learn from N logged decisions, resumable as every fit here is.

        Raises:
            PropensityError: a propensity is missing, zero, below `floor` or above 1; names the row.
            ContractError: no rows, columns of unequal length, a value that is not finite, or an action that is none; names column and row.
            SettingsError: an unknown dial, or one that cannot be.
            TrainingError: the loss stopped being finite.
            DeviceError: the context's device is absent.
        """
        hyper = _hyper(config)
        known_N = require_propensities(propensities_N, floor=float(hyper["floor"]))
        require_log(contexts_NX, actions_N, num_actions, rows=len(known_N), reward=rewards_N)
        top_k, cap = int(hyper["top_k"]), float(hyper["cap"])
        baseline = float(np.mean(rewards_N)) if hyper["baseline"] and top_k == 1 else 0.0
        scale_2X = scale_of(contexts_NX)
        with reproducible(context) as device:
            torch.manual_seed(seed_of(context.seed, "policy", 0))
            head = Head(contexts_NX.shape[1], num_actions, int(hyper["hidden"])).to(device)
            x_NX = torch.from_numpy(scaled(contexts_NX, scale_2X)).to(device)
            a_N = torch.from_numpy(np.asarray(actions_N, dtype=np.int64)).to(device)
            beta_N = torch.from_numpy(known_N.astype(np.float32)).to(device)
            r_N = torch.from_numpy(np.asarray(rewards_N, dtype=np.float32)).to(device)

            def loss_of(rows_B: Tensor) -> Tensor:
                rows_B = rows_B.to(device)
                log_pi_BA = functional.log_softmax(head(x_NX[rows_B]), dim=1)
                log_pi_B = log_pi_BA.gather(1, a_N[rows_B, None])[:, 0]
                return corrected_loss(log_pi_B, beta_N[rows_B], r_N[rows_B], cap=cap, top_k=top_k, baseline=baseline)

            batches = batches_of("policy", loss_of, len(x_NX), int(hyper["batch"]), context.seed)
            run_phase("policy", head, batches, schedule_of(hyper), context)
        return cls(head.cpu(), scale_2X, {**hyper, "num_actions": num_actions})

    def probabilities(self, contexts_NX: NDArray[np.float32]) -> NDArray[np.float64]:
        """π(a|x) of every action, float64 [N, A]; rows add up to 1."""
        with torch.no_grad():
            logits_NA = self._head(torch.from_numpy(scaled(contexts_NX, self._scale_2X)))
        return functional.softmax(logits_NA.double(), dim=1).numpy()

    def top(self, contexts_NX: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """The k most probable actions, best first, int64 [N, k]."""
        return top_of(self.probabilities(contexts_NX), k)

    def tensors(self) -> dict[str, NDArray[Any]]:
        return {"scale": self._scale_2X, **{name: value.numpy() for name, value in self._head.state_dict().items()}}

    def config(self) -> dict[str, Any]:
        return dict(self._hyper)

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        head = Head(tensors["scale"].shape[1], int(config["num_actions"]), int(config["hidden"]))
        head.load_state_dict({name: torch.from_numpy(tensors[name]) for name in head.state_dict()})
        return cls(head.eval(), tensors["scale"], config)


def top_of(scores_NA: NDArray[np.floating[Any]], k: int) -> NDArray[np.int64]:
    """The k highest of each row, best first, ties by place, int64 [N, k]."""
    return np.argsort(-scores_NA, axis=1, kind="stable")[:, :k]


def scale_of(contexts_NX: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean and standard deviation of each column (1 where it is constant), float32 [2, X]."""
    deviation_X = contexts_NX.std(axis=0)
    return np.stack([contexts_NX.mean(axis=0), np.where(deviation_X > 0, deviation_X, 1)]).astype(np.float32)


def scaled(contexts_NX: NDArray[np.float32], scale_2X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Contexts, standardised by `scale_of`."""
    return np.asarray((contexts_NX - scale_2X[0]) / scale_2X[1], dtype=np.float32)


def batches_of(phase: str, loss_of: Callable[[Tensor], Tensor], num_rows: int, batch: int, seed: int) -> Divisible:
    """Batches by (seed, phase, step) alone; `loss_of`: the mean loss of some rows. A part weighs as much as its share of the batch, so
    that a whole one's loss is its mean to the bit."""

    def loss_at(step: int, part: Part) -> Sum:
        generator = torch.Generator().manual_seed(seed_of(seed, f"{phase} rows", step))
        rows_B = torch.randint(num_rows, (min(batch, num_rows),), generator=generator)
        some = torch.from_numpy(part(rows_B.numpy()))
        share = len(some) / len(rows_B)
        return Sum(loss_of(some) * share if len(some) else torch.zeros(()), share)

    return Divisible(loss_at)


def schedule_of(hyper: Mapping[str, Any]) -> Schedule:
    return Schedule(steps=int(hyper["steps"]), rate=float(hyper["rate"]), weight_decay=float(hyper["weight_decay"]))


def _hyper(config: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(config) - set(DEFAULTS)):
        raise SettingsError(f"policy: no dial is called {unknown[0]!r}; there are {', '.join(DEFAULTS)}")
    hyper = {**DEFAULTS, **config}
    if int(hyper["top_k"]) < 1 or float(hyper["cap"]) <= 0:
        raise SettingsError(f"policy: top_k is 1 or more and cap above 0, not {hyper['top_k']} and {hyper['cap']}")
    return hyper


def require_log(
    contexts_NX: NDArray[Any], actions_N: NDArray[Any], num_actions: int, *, rows: int, **outcome_N: NDArray[Any]
) -> None:
    """`outcome_N`: what came of the decisions, by its column's name.

    Raises:
        ContractError: as `PolicyHead.fit` says.
    """
    contexts_NX = np.asarray(contexts_NX)
    columns = {f"context {place}": contexts_NX[:, place] for place in range(contexts_NX.shape[1])}
    actions, *_ = require_rows(rows, action=actions_N, **outcome_N, **columns)
    wrong_N = (actions < 0) | (actions >= num_actions) | (actions % 1 != 0)
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        problem = f"{actions[row]:g} is none of the {num_actions} actions, 0 … {num_actions - 1}"
        raise ContractError("decisions", problem, column="action", row=f"row {row}")
