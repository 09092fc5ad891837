"""The gate of a product of experts: how much each expert counts, for this user and this item.

Three forms, fitted on held-out items:
- linear: a weight for each expert, linear in what is known of the user; the score is the weighted sum of log-probabilities. Fitted by
  the cross entropy of the held-out item among the best of every expert and a sample of all others, each of which stands for many;
- deep: beside such weights a hidden layer over the experts' opinions of an item and the facts about the user, as in mixtures of
  experts for ranking (Ma et al., KDD 2018). It puts the linear form's best candidates in a new order, within the mass that they have;
  those of the weights above, or of weights that were fitted by the ranks;
- alone: the expert that ranks best; where it says the same of two items, all of them; as loud as
  the held-out items are likeliest.
What ranks best on users that it was not fitted on stays: the weights that the fit began with only where no form comes near them.

Shapes: U users · V items, rows 1 … V · K experts · X facts about a user · C candidates · H hidden · F forms · T events.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recommender.engine.loop import seed_of
from recommender.errors import TrainingError
from recommender.sequences import Sequences
from recommender.sequences.ranks import ndcg

CANDIDATES = 200
OF_EACH, OTHERS = 50, 100
"""A fit looks at CANDIDATES of the even product, OF_EACH more of each expert, and OTHERS of the rest."""
MOST_USERS = 20_000
FEWEST_USERS = 20
STAY = 20.0
"""Prior of the linear form: as if this many users had said that the weights stay, and do not depend on the user."""
OF_TIES = 1e-3
"""Weight of every expert beside one that is heard alone."""
FAR = 3.0
"""Standardised facts are cut there."""
LEAST = float(np.finfo(np.float32).min)
HIDDEN, EPOCHS, STEPS, BATCH, RATE, DECAY = 32, 12, 300, 128, 0.003, 0.1
"""The hidden layer is trained for EPOCHS, of few users for more: at least STEPS."""
Experts = Callable[[Sequences], tuple[NDArray[np.float32], NDArray[np.float32]]]


class Deep(nn.Module):
    """[U, C, K] centred log-probabilities and [U, X] standardised facts -> log-odds among the candidates, [U, C]."""

    scale_K: Tensor

    def __init__(self, experts: int, facts: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.weights = nn.Linear(facts, experts)
        self.opinions, self.facts = nn.Linear(experts, hidden, bias=False), nn.Linear(facts, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)
        self.register_buffer("scale_K", torch.ones(experts))
        nn.init.zeros_(self.weights.weight)
        nn.init.constant_(self.weights.bias, 0.5)
        nn.init.zeros_(self.out.weight)

    def forward(self, logs_UCK: Tensor, z_UX: Tensor) -> Tensor:
        x_UCK = logs_UCK / self.scale_K
        linear_UC = (x_UCK * self.weights(z_UX)[:, None]).sum(dim=2)
        hidden_UCH = functional.gelu(self.opinions(x_UCK) + self.facts(z_UX)[:, None])
        out_UC: Tensor = linear_UC + self.out(hidden_UCH)[:, :, 0]
        return out_UC


@dataclass(frozen=True, eq=False)
class Gate:
    """Linear weights [U, K] = bias_K + standardised facts @ slope_XK; `repeats`: what a user had is a candidate too."""

    bias_K: NDArray[np.float32]
    slope_XK: NDArray[np.float32]
    mean_X: NDArray[np.float32]
    scale_X: NDArray[np.float32]
    low_X: NDArray[np.float32]
    high_X: NDArray[np.float32]
    """Of standardised facts, as far as the fit saw some: beyond, nothing is known."""
    repeats: bool = False
    deep: Deep | None = None

    @classmethod
    def even(cls, weights_K: NDArray[np.float32], facts: int, *, repeats: bool = False) -> Self:
        """These weights, whoever the user is."""
        slope_XK = np.zeros((facts, len(weights_K)), dtype=np.float32)
        zero_X = np.zeros(facts, dtype=np.float32)
        return cls(weights_K, slope_XK, zero_X, zero_X + 1, zero_X, zero_X, repeats)

    def standardised(self, facts_UX: NDArray[np.float32]) -> NDArray[np.float32]:
        z_UX = np.clip((facts_UX - self.mean_X) / self.scale_X, self.low_X, self.high_X)
        return np.asarray(z_UX, dtype=np.float32)

    def weights(self, facts_UX: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the linear form: [U, K]."""
        return np.asarray(self.bias_K + self.standardised(facts_UX) @ self.slope_XK)

    def __call__(
        self, logs_KUV: NDArray[np.float32], facts_UX: NDArray[np.float32], histories: Sequences
    ) -> NDArray[np.float32]:
        """The product's logarithm, not normalised: float32 [U, V + 1]. `histories`: what the users had, which the hidden layer does not
        put in order unless it `repeats`."""
        total_UV = _product(logs_KUV, self.weights(facts_UX))
        if self.deep is not None:
            open_UV = total_UV.copy()
            open_UV[no_candidate(histories, repeats=self.repeats)] = -np.inf
            best_UC = _best(open_UV, CANDIDATES)
            held_UC = torch.from_numpy(np.take_along_axis(total_UV, best_UC, axis=1))
            taken_UC = torch.from_numpy(np.isneginf(np.take_along_axis(open_UV, best_UC, axis=1)))
            with torch.inference_mode():
                logs_UCK = np.take_along_axis(logs_KUV, best_UC[None], axis=2).transpose(1, 2, 0)
                odds_UC = self.order(logs_UCK, facts_UX, taken_UC.numpy())
                mass_U1 = held_UC.masked_fill(taken_UC, LEAST).logsumexp(dim=1, keepdim=True)
                new_UC = odds_UC.masked_fill(taken_UC, LEAST).log_softmax(dim=1) + mass_U1
                np.put_along_axis(total_UV, best_UC, torch.where(taken_UC, held_UC, new_UC).numpy(), axis=1)
        return total_UV

    def order(self, logs_UCK: NDArray[np.float32], facts_UX: NDArray[np.float32], none_UC: NDArray[np.bool_]) -> Tensor:
        """What the hidden layer says of the best candidates: [U, C]."""
        assert self.deep is not None
        z_UX = torch.from_numpy(self.standardised(facts_UX))
        odds_UC: Tensor = self.deep(torch.from_numpy(_centred(logs_UCK, none_UC)), z_UX)
        return odds_UC

    def as_json(self) -> dict[str, Any]:
        named = {name: value for name, value in vars(self).items() if name not in ("deep", "repeats")}
        arrays = {name: value.tolist() for name, value in named.items()}
        state = None if self.deep is None else {name: one.tolist() for name, one in self.deep.state_dict().items()}
        return {**arrays, "repeats": self.repeats, "deep": state}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        named = {name: value for name, value in content.items() if name not in ("deep", "repeats")}
        arrays = {name: np.array(value, dtype=np.float32) for name, value in named.items()}
        deep = None
        if content["deep"] is not None:
            with torch.random.fork_rng(devices=[]):
                deep = Deep(len(arrays["bias_K"]), len(arrays["mean_X"]))
            deep.load_state_dict({name: torch.tensor(value) for name, value in content["deep"].items()})
            deep.eval().requires_grad_(False)
        return cls(**arrays, repeats=bool(content["repeats"]), deep=deep)


def no_candidate(histories: Sequences, *, repeats: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells of [U, V + 1] that are none: row 0, and without `repeats` what a user had."""
    users = np.arange(histories.num_users)
    rows, items = (users[:0], users[:0]) if repeats else (histories.rows_T(), histories.items_T.astype(np.int64))
    return np.concatenate([users, rows]), np.concatenate([np.zeros_like(users), items])


def _product(logs_KUV: NDArray[np.float32], weights_UK: NDArray[np.float32]) -> NDArray[np.float32]:
    total_UV: NDArray[np.float32] = logs_KUV[0] * weights_UK[:, :1]
    for expert in range(1, len(logs_KUV)):
        total_UV += logs_KUV[expert] * weights_UK[:, expert : expert + 1]
    return total_UV


def _best(scores_UV: NDArray[np.float32], number: int) -> NDArray[np.int64]:
    """Columns of the largest scores, [U, C], in no order."""
    number = min(number, scores_UV.shape[1])
    return np.argpartition(-scores_UV, number - 1, axis=1)[:, :number]


def _centred(logs_UCK: NDArray[np.float32], none_UC: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Less each expert's mean over the candidates that are some."""
    mean_UK = np.einsum("uck,uc->uk", logs_UCK, ~none_UC) / np.maximum((~none_UC).sum(axis=1), 1)[:, None]
    return np.ascontiguousarray(logs_UCK - mean_UK[:, None], dtype=np.float32)


class Heard(NamedTuple):
    """What the experts say of some users' candidates; the first one is the held-out item."""

    logs_UCK: NDArray[np.float32]
    facts_UX: NDArray[np.float32]
    stands_for_UC: NDArray[np.float32]
    """The logarithm of how many items a candidate stands for; LEAST: none."""

    def of(self, some: NDArray[Any]) -> "Heard":
        return Heard(*(part[some] for part in self))


def hear(
    experts: Experts, start: Gate, histories: Sequences, target_U: NDArray[np.int32], rng: np.random.Generator
) -> Heard:
    """Each user's held-out item, the best of the even product and of each expert, and a sample of the rest.

    Raises:
        TrainingError: what an expert says is no number.
    """
    logs_KUV, facts_UX = experts(histories)
    if not (np.isfinite(logs_KUV).all() and np.isfinite(facts_UX).all()):
        raise TrainingError("fusion, the gate: what an expert says of an item is no number; its fit is broken")
    rows = np.arange(len(target_U))[:, None]
    none = no_candidate(histories, repeats=start.repeats)
    taken_UV = np.zeros(logs_KUV.shape[1:], dtype=np.bool_)
    taken_UV[none] = True
    taken_UV[rows[:, 0], target_U] = True
    columns = [target_U[:, None].astype(np.int64)]
    stands_for = [np.zeros(columns[0].shape, np.float32)]

    def add(scores_UV: NDArray[np.float32], number: int) -> None:
        best_UC = _best(np.where(taken_UV, -np.inf, scores_UV), number)
        columns.append(best_UC)
        stands_for.append(np.where(taken_UV[rows, best_UC], LEAST, 0.0).astype(np.float32))
        taken_UV[rows, best_UC] = True

    even_UK = np.broadcast_to(start.bias_K, (len(target_U), len(start.bias_K)))
    add(_product(logs_KUV, even_UK), CANDIDATES)
    for log_UV in logs_KUV:
        add(log_UV, OF_EACH)
    left_U = (~taken_UV).sum(axis=1)
    add(rng.random(taken_UV.shape, dtype=np.float32), OTHERS)
    weight_U = np.log(np.maximum(left_U / OTHERS, 1.0)).astype(np.float32)
    stands_for[-1] = np.where(stands_for[-1] < 0, LEAST, weight_U[:, None])
    all_UC = np.concatenate(columns, axis=1)
    logs_UCK = np.take_along_axis(logs_KUV, all_UC[None], axis=2).transpose(1, 2, 0)
    return Heard(np.ascontiguousarray(logs_UCK), facts_UX, np.concatenate(stands_for, axis=1))


def fit_gate(
    experts: Experts,
    start: Gate,
    sequences: Sequences,
    held_out_U: NDArray[np.int32],
    *,
    seed: int,
    hidden: bool = True,
) -> Gate:
    """The gate that ranks the held-out items best among all that a user may take; with too few users `start` stays. `hidden`: whether
    a form may have a hidden layer.

    A user who had the held-out item before says nothing, unless `start` `repeats`.

    Raises:
        TrainingError: as `hear`.
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
    batch = max(2**24 // (sequences.items.num + 1), 16)
    for first in range(0, len(users), batch):
        some = users[first : first + batch]
        found.append(hear(experts, start, sequences.take(some), held_out_U[some], rng))
    heard = Heard(*(np.concatenate(part) for part in zip(*found, strict=True)))
    half_U = np.arange(len(heard.facts_UX)) % 2 == 0
    gains_FU = np.zeros((5 if hidden else 3, len(half_U)))
    for learn_U in (half_U, ~half_U):
        forms = [start, *_forms(heard.of(learn_U), start, seed, hidden=hidden)]
        gains_FU[:, ~learn_U] = [_ndcg(gate, heard.of(~learn_U)) for gate in forms]
    even_U, best = gains_FU[0], int(gains_FU[1:].mean(axis=1).argmax())
    worse_U = even_U - gains_FU[1 + best]
    if worse_U.mean() > worse_U.std() / np.sqrt(len(worse_U)):
        return start
    return _forms(heard, start, seed, hidden=hidden)[best]


def _forms(heard: Heard, start: Gate, seed: int, *, hidden: bool) -> list[Gate]:
    """The linear form, the best expert alone, and a hidden layer over the best candidates of the linear form or of one by ranks, which
    begins with the better of the first two."""

    def gain(gate: Gate) -> float:
        return float(_ndcg(gate, heard).mean())

    linear = _fit_linear(heard, start)
    no_slope_XK = np.zeros_like(linear.slope_XK)
    alone_KK = np.eye(len(start.bias_K), dtype=np.float32) + np.float32(OF_TIES)
    alone = max((replace(linear, bias_K=one_K, slope_XK=no_slope_XK) for one_K in alone_KK), key=gain)
    louder = [replace(alone, bias_K=alone.bias_K * np.float32(times)) for times in (0.25, 0.5, 1, 2, 4)]
    alone = min(louder, key=lambda gate: float(_cross_entropy(torch.from_numpy(_linear(gate, heard)), heard)))
    if not hidden:
        return [linear, alone]
    better = max(linear, alone, key=gain)
    return [linear, alone, _fit_deep(heard, linear, seed), _fit_deep(heard, _fit_ranks(heard, better), seed)]


def _ndcg(gate: Gate, heard: Heard) -> NDArray[np.float64]:
    """NDCG@10 of the held-out items, [U], as far as the candidates tell."""
    scores_UC, stands_for_UC = _linear(gate, heard), heard.stands_for_UC
    target_UC = np.zeros(scores_UC.shape, dtype=np.bool_)
    target_UC[:, 0] = True
    if gate.deep is not None:
        best_UC = _best(scores_UC, CANDIDATES)
        stands_for_UC, target_UC = np.take_along_axis(stands_for_UC, best_UC, axis=1), best_UC == 0
        with torch.inference_mode():
            none_UC = stands_for_UC <= LEAST
            order_UC = gate.order(_of(heard.logs_UCK, best_UC), heard.facts_UX, none_UC).numpy()
        scores_UC = np.where(none_UC, -np.inf, order_UC)
    of_target_U = np.where(target_UC, scores_UC, -np.inf).max(axis=1)
    ahead_UC = (scores_UC >= of_target_U[:, None]) & ~target_UC
    return ndcg(1 + (np.exp(stands_for_UC) * ahead_UC).sum(axis=1))


def _linear(gate: Gate, heard: Heard) -> NDArray[np.float32]:
    scores_UC = np.einsum("uck,uk->uc", heard.logs_UCK, gate.weights(heard.facts_UX))
    return np.where(heard.stands_for_UC <= LEAST, -np.inf, scores_UC).astype(np.float32)


def _of(logs_UCK: NDArray[np.float32], best_UC: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.take_along_axis(logs_UCK, best_UC[:, :, None], axis=1)


def _fit_linear(heard: Heard, start: Gate) -> Gate:
    """By the cross entropy of the held-out items."""
    mean_X, scale_X = heard.facts_UX.mean(axis=0), np.maximum(heard.facts_UX.std(axis=0), 1e-3)
    z_UX = (heard.facts_UX - mean_X) / scale_X
    low_X, high_X = np.clip([z_UX.min(axis=0), z_UX.max(axis=0)], -FAR, FAR)
    known = {"mean_X": mean_X, "scale_X": scale_X, "low_X": low_X, "high_X": high_X}
    knowing = replace(start, **{name: one.astype(np.float32) for name, one in known.items()})
    return _descended(heard, knowing, lambda scores_UC: _cross_entropy(scores_UC, heard))


def _cross_entropy(scores_UC: Tensor, heard: Heard) -> Tensor:
    return ((scores_UC + torch.from_numpy(heard.stands_for_UC)).logsumexp(dim=1) - scores_UC[:, 0]).mean()


def _fit_ranks(heard: Heard, linear: Gate) -> Gate:
    """From `linear` on by NDCG, where a candidate is ahead as far as a sigmoid says (Qin et al., Information Retrieval 2010)."""
    number_UC = torch.from_numpy(heard.stands_for_UC).exp()
    number_UC[:, 0] = 0

    def lost(scores_UC: Tensor) -> Tensor:
        rank_U = 1 + (number_UC * torch.sigmoid(scores_UC - scores_UC[:, :1])).sum(dim=1)
        return -(1 / torch.log2(1 + rank_U)).mean()

    return _descended(heard, linear, lost)


def _descended(heard: Heard, start: Gate, loss_of: Callable[[Tensor], Tensor]) -> Gate:
    """Weights of the least loss, a function of the scores [U, C], not far from those of `start`."""
    logs_UCK, z_UX = torch.from_numpy(heard.logs_UCK), torch.from_numpy(start.standardised(heard.facts_UX))
    at_start = torch.from_numpy(start.bias_K), torch.from_numpy(start.slope_XK)
    bias_K, slope_XK = (one.clone().requires_grad_() for one in at_start)
    optimiser = torch.optim.LBFGS([bias_K, slope_XK], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        far = ((bias_K - at_start[0]) ** 2).sum() + ((slope_XK - at_start[1]) ** 2).sum()
        value = loss_of(torch.einsum("uck,uk->uc", logs_UCK, bias_K + z_UX @ slope_XK)) + STAY / len(z_UX) * far
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return replace(start, bias_K=bias_K.detach().numpy(), slope_XK=slope_XK.detach().numpy())


def _fit_deep(heard: Heard, linear: Gate, seed: int) -> Gate:
    """`linear` with a hidden layer, fitted on the users whose held-out item is among its best candidates."""
    best_UC = _best(_linear(linear, heard), CANDIDATES)
    target_UC = best_UC == 0
    known_U = target_UC.any(axis=1)
    if not known_U.any():
        return linear
    none_UC = np.take_along_axis(heard.stands_for_UC[known_U], best_UC[known_U], axis=1) <= LEAST
    logs_UCK = torch.from_numpy(_centred(_of(heard.logs_UCK[known_U], best_UC[known_U]), none_UC))
    none, places_U = torch.from_numpy(none_UC), torch.from_numpy(target_UC[known_U].argmax(axis=1))
    z_UX = torch.from_numpy(linear.standardised(heard.facts_UX[known_U]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "deep gate", 0))
        deep = Deep(logs_UCK.shape[2], z_UX.shape[1])
        deep.scale_K.copy_(logs_UCK.std(dim=(0, 1)).clamp(min=1e-3))
        optimiser = torch.optim.AdamW(deep.parameters(), lr=RATE, weight_decay=DECAY)
        epochs = max(EPOCHS, math.ceil(STEPS / math.ceil(len(places_U) / BATCH)))
        for epoch in range(epochs):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - epoch / epochs)
            for some in torch.split(torch.randperm(len(places_U)), BATCH):
                optimiser.zero_grad()
                odds_UC = deep(logs_UCK[some], z_UX[some]).masked_fill(none[some], LEAST)
                functional.cross_entropy(odds_UC, places_U[some]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return replace(linear, deep=deep.eval().requires_grad_(False))
