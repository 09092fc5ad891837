"""Fit of the gate on held-out items: several forms are fitted, and the one that ranks best on other users is taken.

The forms:

- linear weights, fitted by the cross entropy of the held-out item among the candidates;
- the expert that ranks best, alone; where it gives two items the same, all experts decide. Its weight is the one under
  which the held-out items are likeliest;
- a hidden layer over the best candidates of the linear weights;
- a hidden layer over the best candidates of weights that were fitted by ranks.

The weights that the fit started with stay only where no form comes near them.

Shapes: U users · K experts · X facts about a user · C candidates · F forms.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recommender.engine.loop import seed_of
from recommender.models.next_item.fusion.candidates import Candidates, ExpertLogs, candidates_of
from recommender.models.next_item.fusion.gate import (
    CANDIDATES,
    CELLS_AT_ONCE,
    EXCLUDED,
    Gate,
    HiddenLayer,
    best_columns,
    centred,
)
from recommender.sequences import Sequences
from recommender.sequences.ranks import MIN_USERS_A_BATCH, ndcg

MOST_USERS = 20_000
"""Users that a fit looks at, drawn at random. Enough for some hundred weights. With 700 candidates of 8 experts each
they take 0.45 GB."""
FEWEST_USERS = 20
"""With fewer users the weights stay as they started: half of them could not tell one form from another.
Chosen by hand."""
PRIOR_USERS = 20.0
"""Prior of the linear form: as if this many users had shown that the weights stay and do not depend on the user.
Chosen by hand."""
TIE_WEIGHT = 1e-3
"""Weight of the other experts where one expert counts alone. Too small to reorder items that it distinguishes."""
MOST_DEVIATIONS = 3.0
"""Standardised facts are cut there, so that a few unusual users cannot turn the weights. Chosen by
hand: beyond three deviations lie few users."""
LEAST_SCALE = 1e-3
"""Least divisor of facts and of log-probabilities that hardly vary. Chosen by hand."""
MOST_ITERATIONS = 60
"""Most iterations of L-BFGS, enough for some dozens of weights."""
WEIGHTINGS = (0.25, 0.5, 1, 2, 4)
"""Factors of an expert's weight that are tried where it counts alone. Chosen by hand: steps of two around 1."""
EPOCHS, STEPS = 12, 300
"""Epochs of the hidden layer, chosen by hand. With few users there are more, enough for STEPS steps."""
BATCH, RATE, DECAY = 128, 0.003, 0.1
"""Batch size, first learning rate (it falls to zero) and weight decay of the hidden layer's AdamW. Chosen by hand."""


def fit_gate(
    experts: ExpertLogs,
    start: Gate,
    sequences: Sequences,
    held_out_U: NDArray[np.int32],
    *,
    seed: int,
    hidden: bool = True,
    names: tuple[str, ...] = (),
) -> Gate:
    """The gate that ranks the held-out items best among all items that a user may take.

    With too few users `start` stays.
    A user who had the held-out item before is left out, unless `start.repeats`.

    Args:
        experts: the experts' log-probabilities and facts for some histories.
        start: the weights to start from.
        sequences: the users' histories.
        held_out_U: each user's next item, 0: none.
        seed: draws users and candidates, and trains the hidden layer.
        hidden: whether a form may have a hidden layer.
        names: the experts' names, for the message of an error.

    Raises:
        TrainingError: as `candidates_of`.
    """
    asked_U = (held_out_U > 0) & (sequences.lengths_U > 0)
    if not start.repeats:
        rows_T = sequences.rows_T()
        asked_U &= np.bincount(rows_T, sequences.items_T == held_out_U[rows_T], sequences.num_users) == 0
    users = np.flatnonzero(asked_U)
    rng = np.random.default_rng(seed_of(seed, "gate", 0))
    users = rng.permutation(users)[:MOST_USERS]
    if len(users) < FEWEST_USERS:
        return start
    found = []
    batch = max(CELLS_AT_ONCE // (sequences.items.num + 1), MIN_USERS_A_BATCH)
    for first in range(0, len(users), batch):
        asked = users[first : first + batch]
        found.append(candidates_of(experts, start, sequences.take(asked), held_out_U[asked], rng, names))
    candidates = Candidates(*(np.concatenate(part) for part in zip(*found, strict=True)))
    return _best_form(candidates, start, seed, hidden=hidden)


def _best_form(candidates: Candidates, start: Gate, seed: int, *, hidden: bool) -> Gate:
    """The form that ranks best where it was fitted on the other half of the users, fitted again on all of them."""
    half_U = np.arange(len(candidates.facts_UX)) % 2 == 0
    # The start, and as many forms as `_forms` returns.
    gains_FU = np.zeros((5 if hidden else 3, len(half_U)))
    for learn_U in (half_U, ~half_U):
        forms = [start, *_forms(candidates.of(learn_U), start, seed, hidden=hidden)]
        gains_FU[:, ~learn_U] = [_ndcg(gate, candidates.of(~learn_U)) for gate in forms]
    start_U, best = gains_FU[0], int(gains_FU[1:].mean(axis=1).argmax())
    worse_U = start_U - gains_FU[1 + best]
    # One standard error: the start is kept only where it is better by more than chance.
    if worse_U.mean() > worse_U.std() / np.sqrt(len(worse_U)):
        return start
    return _forms(candidates, start, seed, hidden=hidden)[best]


def _forms(candidates: Candidates, start: Gate, seed: int, *, hidden: bool) -> list[Gate]:
    """Linear weights, the best expert alone and, with `hidden`, a hidden layer over each of two kinds of weights."""

    def gain(gate: Gate) -> float:
        return float(_ndcg(gate, candidates).mean())

    linear = _fit_linear(candidates, start)
    no_slope_XK = np.zeros_like(linear.slope_XK)
    alone_KK = np.eye(len(start.bias_K), dtype=np.float32) + np.float32(TIE_WEIGHT)
    alone = max((replace(linear, bias_K=weights_K, slope_XK=no_slope_XK) for weights_K in alone_KK), key=gain)
    weighted = [replace(alone, bias_K=alone.bias_K * np.float32(factor)) for factor in WEIGHTINGS]
    alone = min(
        weighted, key=lambda gate: float(_cross_entropy(torch.from_numpy(_linear(gate, candidates)), candidates))
    )
    if not hidden:
        return [linear, alone]
    better = max(linear, alone, key=gain)
    by_ranks = _fit_ranks(candidates, better)
    return [linear, alone, _fit_hidden(candidates, linear, seed), _fit_hidden(candidates, by_ranks, seed)]


def _ndcg(gate: Gate, candidates: Candidates) -> NDArray[np.float64]:
    """NDCG@10 of the held-out items among all items, [U], estimated from the candidates."""
    scores_UC, stands_for_UC = _linear(gate, candidates), candidates.stands_for_UC
    target_UC = np.zeros(scores_UC.shape, dtype=np.bool_)
    target_UC[:, 0] = True
    if gate.deep is not None:
        best_UC = best_columns(scores_UC, CANDIDATES)
        stands_for_UC, target_UC = np.take_along_axis(stands_for_UC, best_UC, axis=1), best_UC == 0
        with torch.inference_mode():
            excluded_UC = stands_for_UC <= EXCLUDED
            order_UC = gate.order(_logs_of(candidates, best_UC), candidates.facts_UX, excluded_UC).numpy()
        scores_UC = np.where(excluded_UC, -np.inf, order_UC)
    of_target_U = np.where(target_UC, scores_UC, -np.inf).max(axis=1)
    ahead_UC = (scores_UC >= of_target_U[:, None]) & ~target_UC
    return ndcg(1 + (np.exp(stands_for_UC) * ahead_UC).sum(axis=1))


def _linear(gate: Gate, candidates: Candidates) -> NDArray[np.float32]:
    """Scores of the linear form, [U, C], with -inf for items that are no candidates."""
    scores_UC = np.einsum("uck,uk->uc", candidates.logs_UCK, gate.weights(candidates.facts_UX))
    return np.where(candidates.stands_for_UC <= EXCLUDED, -np.inf, scores_UC).astype(np.float32)


def _logs_of(candidates: Candidates, best_UC: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.take_along_axis(candidates.logs_UCK, best_UC[:, :, None], axis=1)


def _fit_linear(candidates: Candidates, start: Gate) -> Gate:
    """Linear weights by the cross entropy of the held-out items."""
    facts_UX = candidates.facts_UX
    mean_X, scale_X = facts_UX.mean(axis=0), np.maximum(facts_UX.std(axis=0), LEAST_SCALE)
    z_UX = (facts_UX - mean_X) / scale_X
    low_X, high_X = np.clip([z_UX.min(axis=0), z_UX.max(axis=0)], -MOST_DEVIATIONS, MOST_DEVIATIONS)
    known = {"mean_X": mean_X, "scale_X": scale_X, "low_X": low_X, "high_X": high_X}
    with_facts = replace(start, **{name: value.astype(np.float32) for name, value in known.items()})
    return _descended(candidates, with_facts, lambda scores_UC: _cross_entropy(scores_UC, candidates))


def _cross_entropy(scores_UC: Tensor, candidates: Candidates) -> Tensor:
    return ((scores_UC + torch.from_numpy(candidates.stands_for_UC)).logsumexp(dim=1) - scores_UC[:, 0]).mean()


def _fit_ranks(candidates: Candidates, start: Gate) -> Gate:
    """Weights by a smooth NDCG, in which a sigmoid counts the items ahead (Qin et al., Information Retrieval 2010)."""
    number_UC = torch.from_numpy(candidates.stands_for_UC).exp()
    number_UC[:, 0] = 0

    def loss(scores_UC: Tensor) -> Tensor:
        rank_U = 1 + (number_UC * torch.sigmoid(scores_UC - scores_UC[:, :1])).sum(dim=1)
        return -(1 / torch.log2(1 + rank_U)).mean()

    return _descended(candidates, start, loss)


def _descended(candidates: Candidates, start: Gate, loss_of: Callable[[Tensor], Tensor]) -> Gate:
    """The gate with the weights of the least loss of the scores [U, C], held near `start` by a prior."""
    logs_UCK = torch.from_numpy(candidates.logs_UCK)
    z_UX = torch.from_numpy(start.standardised(candidates.facts_UX))
    at_start = torch.from_numpy(start.bias_K), torch.from_numpy(start.slope_XK)
    bias_K, slope_XK = (start_weights.clone().requires_grad_() for start_weights in at_start)
    optimiser = torch.optim.LBFGS([bias_K, slope_XK], max_iter=MOST_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        far = ((bias_K - at_start[0]) ** 2).sum() + ((slope_XK - at_start[1]) ** 2).sum()
        scores_UC = torch.einsum("uck,uk->uc", logs_UCK, bias_K + z_UX @ slope_XK)
        value = loss_of(scores_UC) + PRIOR_USERS / len(z_UX) * far
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return replace(start, bias_K=bias_K.detach().numpy(), slope_XK=slope_XK.detach().numpy())


def _fit_hidden(candidates: Candidates, linear: Gate, seed: int) -> Gate:
    """`linear` with a hidden layer, fitted on the users whose held-out item is among its best candidates."""
    best_UC = best_columns(_linear(linear, candidates), CANDIDATES)
    target_UC = best_UC == 0
    known_U = target_UC.any(axis=1)
    if not known_U.any():
        return linear
    learned, best_UC, target_UC = candidates.of(known_U), best_UC[known_U], target_UC[known_U]
    excluded_UC = np.take_along_axis(learned.stands_for_UC, best_UC, axis=1) <= EXCLUDED
    logs_UCK = torch.from_numpy(centred(_logs_of(learned, best_UC), excluded_UC))
    out_UC, places_U = torch.from_numpy(excluded_UC), torch.from_numpy(target_UC.argmax(axis=1))
    z_UX = torch.from_numpy(linear.standardised(learned.facts_UX))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "deep gate", 0))
        deep = HiddenLayer(logs_UCK.shape[2], z_UX.shape[1])
        deep.scale_K.copy_(logs_UCK.std(dim=(0, 1)).clamp(min=LEAST_SCALE))
        optimiser = torch.optim.AdamW(deep.parameters(), lr=RATE, weight_decay=DECAY)
        epochs = max(EPOCHS, math.ceil(STEPS / math.ceil(len(places_U) / BATCH)))
        for epoch in range(epochs):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - epoch / epochs)
            for users in torch.split(torch.randperm(len(places_U)), BATCH):
                optimiser.zero_grad()
                odds_UC = deep(logs_UCK[users], z_UX[users]).masked_fill(out_UC[users], EXCLUDED)
                functional.cross_entropy(odds_UC, places_U[users]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return replace(linear, deep=deep.eval().requires_grad_(False))
