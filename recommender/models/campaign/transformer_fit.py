"""Fitting the transformer: pretraining, the linear part, fine-tuning. Apart from scoring, so that a server never loads it.

Shapes: as in `transformer`; P pairs with a known outcome.
"""

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recommender.engine.context import FitContext
from recommender.engine.loop import Divisible, Part, Schedule, Sum, reproducible, run_phase, seed_of
from recommender.engine.precision import has_units
from recommender.matching.affinity import AXES
from recommender.matching.examples import Examples, Histories, Labels
from recommender.models.campaign.encoder import batch_of, chunks, next_basket_loss, to_device
from recommender.models.campaign.labels import known_redemptions
from recommender.models.campaign.logistic import MIN_MONEY_PAIRS, fit_logistic, fit_money
from recommender.models.campaign.preprocessing import Preprocessing
from recommender.models.campaign.tower import CampaignContent, sequence_features
from recommender.models.campaign.transformer_network import Network, last_baskets, recency
from recommender.models.campaign.vocabulary import Vocabulary

Parts = tuple[Network, Preprocessing, Vocabulary, tuple[str, ...], dict[str, Any], dict[str, Any]]


def fit(
    examples: Examples,
    labels: Labels,
    corpus: Histories,
    hyper: dict[str, Any],
    context: FitContext,
    *,
    earlier: tuple[Network, Vocabulary] | None,
) -> Parts:
    """Everything that a `TransformerRanker` is made of. `earlier`: network and vocabulary of a fit at an earlier boundary."""
    known_N = known_redemptions(labels)
    vocabulary = Vocabulary.of(
        examples.catalogue,
        corpus.items_T,
        min_lines=int(hyper["min_lines"]),
        min_product_lines=int(hyper["min_product_lines"]),
    )
    preprocessing = Preprocessing.fit(examples.features_NF[known_N], clip=float(hyper["clip"]))
    z_NE = preprocessing(examples.features_NF)
    with reproducible(context) as device:
        torch.manual_seed(seed_of(context.seed, "weights", 0))
        network = Network(vocabulary, z_NE.shape[1], hyper).to(device)
        epochs = int(hyper["pretrain_epochs"])
        if earlier is not None:
            _start_from(network, vocabulary, *earlier)
            epochs = int(hyper["continue_epochs"])
        axes_VA = torch.from_numpy(vocabulary.rows(examples.catalogue)).to(device)
        network.base_V.copy_(_shares(axes_VA, corpus, network))
        _pretrain(network, corpus, axes_VA, epochs, hyper, context, warm=earlier is not None)
        task = _Task(network, examples, labels, z_NE, axes_VA, hyper, device)
        task.fit_linear(known_N)
        notes = _fine_tune(task, known_N, hyper, context)
    return network.cpu(), preprocessing, vocabulary, examples.feature_names, hyper, notes


def _shares(axes_VA: Tensor, corpus: Histories, network: Network) -> Tensor:
    values_T = axes_VA[torch.from_numpy(corpus.items_T.astype(np.int64)), network.encoder.target]
    counts_V = torch.bincount(values_T, minlength=len(network.base_V)).float()
    counts_V[0] = 0.0
    return counts_V / counts_V.sum().clamp(min=1.0)


def _start_from(network: Network, vocabulary: Vocabulary, earlier: Network, known: Vocabulary) -> None:
    """Take the earlier encoder's weights; embeddings by value, since the vocabulary may have grown."""
    ours, theirs = network.encoder.state_dict(), earlier.encoder.state_dict()
    for name, value in theirs.items():
        if not name.startswith("axes.") and name != "bias_V" and ours[name].shape == value.shape:
            ours[name].copy_(value)
    for axis, values in enumerate(AXES):
        row_of = {value: row + 1 for row, value in enumerate(vocabulary.values[values])}
        shared = [(row_of[value], row + 1) for row, value in enumerate(known.values[values]) if value in row_of]
        if not shared:
            continue
        to, origin = (torch.tensor(rows) for rows in zip(*shared, strict=True))
        ours[f"axes.{axis}.weight"][to] = theirs[f"axes.{axis}.weight"][origin].to(ours["bias_V"].device)
        if axis == network.encoder.target == earlier.encoder.target:
            ours["bias_V"][to] = theirs["bias_V"][origin].to(ours["bias_V"].device)


def _pretrain(
    network: Network,
    corpus: Histories,
    axes_VA: Tensor,
    epochs: int,
    hyper: Mapping[str, Any],
    context: FitContext,
    *,
    warm: bool,
) -> None:
    """`epochs` over the corpus; from scratch at least `pretrain_min_steps` steps, so that a small shop is learned too."""
    encoder, size = network.encoder, int(hyper["pretrain_batch"])
    plans: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for epoch in count() if len(corpus.spend_B) else ():
        if epoch >= epochs and (warm or len(plans) >= int(hyper["pretrain_min_steps"])):
            break
        rng = np.random.default_rng(seed_of(context.seed, "chunks", epoch))
        starts, ends = chunks(corpus, encoder.baskets, rng)
        order = rng.permutation(len(starts))
        plans += [
            (starts[order[first : first + size]], ends[order[first : first + size]])
            for first in range(0, len(order), size)
        ]
    network.requires_grad_(False)
    encoder.requires_grad_(True)
    device = axes_VA.device

    def loss_at(step: int, part: Part) -> Sum:
        starts, ends = map(part, plans[step])
        if not len(starts):
            return Sum(torch.zeros(()), 0.0)
        batch = to_device(batch_of(corpus, starts, ends), device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda" and has_units(device)):
            loss, weight = next_basket_loss(encoder, batch, axes_VA)
        return Sum(loss, float(weight))

    def inputs_at(step: int) -> dict[str, NDArray[Any]]:
        baskets = np.concatenate([np.arange(start, end) for start, end in zip(*plans[step], strict=True)])
        return {"spend": corpus.spend_B[baskets], "age_days": corpus.age_days_B[baskets]}

    schedule = Schedule(steps=len(plans), rate=float(hyper["pretrain_rate"]))
    run_phase("pretrain", encoder, Divisible(loss_at, inputs_at), schedule, context)


class _Task:
    """The labelled pairs, laid out for the linear part and for fine-tuning."""

    def __init__(
        self,
        network: Network,
        examples: Examples,
        labels: Labels,
        z_NE: NDArray[np.float32],
        axes_VA: Tensor,
        hyper: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        self.network, self.examples, self.labels, self.hyper, self.device = network, examples, labels, hyper, device
        self.z_numpy_NE = z_NE
        self.z_NE = torch.from_numpy(z_NE).to(device)
        self.users_N = torch.from_numpy(examples.users_N.astype(np.int64)).to(device)
        rows, columns_N = np.unique(examples.campaigns_N, return_inverse=True)
        self.columns_N = torch.from_numpy(columns_N.astype(np.int64)).to(device)
        self.recency_U, self.baskets_U = (tensor.to(device) for tensor in recency(examples.histories))
        with torch.no_grad():
            network.eval()
            self.vectors_VD = network.encoder.item_vectors(axes_VA)
            self.content = CampaignContent.of(
                examples.catalogue, rows.tolist(), axes_VA, self.vectors_VD, network.encoder
            )
        folded = [np.arcsinh(target.astype(np.float64)) for target in (labels.spend_N, labels.excess_N)]
        targets_NH = np.stack([labels.redeemed_N, *folded], axis=1).astype(np.float32)
        self.targets_NH = torch.from_numpy(targets_NH).to(device)
        self.starts_U, self.ends_U = last_baskets(examples.histories, network.encoder.baskets)

    def states(self, users_U: NDArray[np.int64]) -> Tensor:
        """Some users' states, through the encoder as it is now: [U, D]."""
        batch = to_device(
            batch_of(self.examples.histories, self.starts_U[users_U], self.ends_U[users_U], whole=True), self.device
        )
        encoder = self.network.encoder
        states_BLD = encoder(encoder.pooled(self.vectors_VD, batch), batch.facts_BLX)
        last_BD: Tensor = states_BLD[torch.arange(len(users_U), device=self.device), batch.lengths_B]
        return last_BD

    @torch.no_grad()
    def all_states(self) -> Tensor:
        """Every user's state: [U, D]."""
        self.network.eval()
        parts = [
            self.states(np.arange(first, min(first + 256, len(self.starts_U)), dtype=np.int64))
            for first in range(0, len(self.starts_U), 256)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def fit_linear(self, rows_N: NDArray[np.bool_]) -> None:
        """The linear part at its optimum on some pairs, the encoder as it is."""
        network, states_UD = self.network, self.all_states()
        network.sequence_mean_S.zero_()
        network.sequence_inverse_S.fill_(1.0)
        parts = []
        for first in range(0, len(self.users_N), 512):
            some = slice(first, first + 512)
            who = self.users_N[some]
            parts.append(self._raw(states_UD[who], some, who))
        raw_NS = torch.cat(parts)
        known = torch.from_numpy(np.flatnonzero(rows_N)).to(self.device)
        mean_S, scale_S = raw_NS[known].mean(dim=0), raw_NS[known].std(dim=0)
        network.sequence_mean_S.copy_(mean_S)
        network.sequence_inverse_S.copy_(torch.where(scale_S > 1e-5, 1 / scale_S.clamp(min=1e-5), 0.0))
        sequence_NS = ((raw_NS - mean_S) * network.sequence_inverse_S).clamp(-5, 5).cpu().numpy()
        x_NE = np.concatenate([self.z_numpy_NE, sequence_NS], axis=1)
        weights_E, bias = fit_logistic(
            x_NE[rows_N], self.labels.redeemed_N[rows_N], strength=float(self.hyper["strength"])
        )
        network.linear_HE[0].copy_(torch.from_numpy(weights_E))
        network.linear_bias_H[0] = bias
        for head, target_N in enumerate((self.labels.spend_N, self.labels.excess_N), start=1):
            paid_N = np.isfinite(target_N) & rows_N
            if paid_N.sum() >= MIN_MONEY_PAIRS:
                learned = fit_money(x_NE[paid_N], target_N[paid_N], ridge=float(self.hyper["ridge"]))
                network.linear_HE[head].copy_(torch.from_numpy(learned[:-4]))
                network.linear_bias_H[head] = float(learned[-4])
                network.money_range[head - 1].copy_(torch.from_numpy(learned[-3:]))

    def _raw(self, states_ND: Tensor, some: slice, who: Tensor) -> Tensor:
        return sequence_features(
            self.network.encoder,
            states_ND,
            self.columns_N[some],
            self.content,
            self.network.base_V,
            self.recency_U[who],
            self.baskets_U[who],
        )

    def outputs(self, pairs: NDArray[np.int64]) -> Tensor:
        """[members, N, H] of some pairs, through encoder and tower as they are now."""
        users = self.examples.users_N[pairs]
        distinct, back = np.unique(users, return_inverse=True)
        rows = torch.from_numpy(pairs).to(self.device)
        states_ND = self.states(distinct.astype(np.int64))[torch.from_numpy(back).to(self.device)]
        out: Tensor = self.network(
            self.z_NE[rows],
            states_ND,
            self.columns_N[rows],
            self.content,
            self.recency_U[self.users_N[rows]],
            self.baskets_U[self.users_N[rows]],
        )
        return out

    def loss(self, pairs: NDArray[np.int64]) -> Tensor:
        """Cross entropy of participation, and a little of Huber on the folded money where it is known."""
        out = self.outputs(pairs)  # float32: the linear part in it was fitted so
        target_NH = self.targets_NH[torch.from_numpy(pairs).to(self.device)].expand_as(out)
        redeem = functional.binary_cross_entropy_with_logits(out[..., 0], target_NH[..., 0])
        known = torch.isfinite(target_NH[..., 1:])
        money = functional.huber_loss(
            torch.where(known, out[..., 1:], 0.0), torch.where(known, target_NH[..., 1:], 0.0), reduction="sum"
        )
        return redeem + float(self.hyper["money_weight"]) * money / known.sum().clamp(min=1)

    @torch.no_grad()
    def log_loss(self, pairs: NDArray[np.int64]) -> float:
        """Of participation, by the members' mean."""
        parts = [self.outputs(pairs[first : first + 512]).mean(dim=0)[:, 0] for first in range(0, len(pairs), 512)]
        target_N = self.targets_NH[torch.from_numpy(pairs).to(self.device), 0]
        return float(functional.binary_cross_entropy_with_logits(torch.cat(parts).float(), target_N))


def _fine_tune(
    task: _Task, known_N: NDArray[np.bool_], hyper: Mapping[str, Any], context: FitContext
) -> dict[str, Any]:
    """Learn on the earlier pairs, ask the later ones how many epochs help, then learn that many on all of them."""
    epochs = int(hyper["tune_epochs"])
    earlier_P, later_P = _split_by_time(task.examples, known_N, float(hyper["held_out"]))
    redeemed = task.labels.redeemed_N
    notes: dict[str, Any] = {"tuned_epochs": 0}
    if epochs == 0 or not all(0 < redeemed[rows].sum() < len(rows) for rows in (earlier_P, later_P)):
        return notes
    start = {name: value.clone() for name, value in task.network.state_dict().items()}
    mask = np.zeros(len(known_N), dtype=bool)
    mask[earlier_P] = True
    task.fit_linear(mask)
    before = task.log_loss(later_P)
    judged = _tune(task, "choose", earlier_P, epochs, hyper, context, judge=lambda: task.log_loss(later_P))
    task.network.load_state_dict(start)
    best = int(np.argmin([before, *judged]))
    notes |= {"tuned_epochs": best, "held_out_log_loss": [round(value, 6) for value in (before, *judged)]}
    if best:
        _tune(task, "tune", np.flatnonzero(known_N), epochs, hyper, context, stop_after=best)
    return notes


def _tune(
    task: _Task,
    phase: str,
    pairs_P: NDArray[np.int64],
    epochs: int,
    hyper: Mapping[str, Any],
    context: FitContext,
    *,
    judge: Any = None,
    stop_after: int | None = None,
) -> list[float]:
    size = int(hyper["tune_batch"])
    plans: list[NDArray[np.int64]] = []
    for epoch in range(stop_after or epochs):
        order = np.random.default_rng(seed_of(context.seed, phase, epoch)).permutation(pairs_P)
        plans += [order[first : first + size] for first in range(0, len(order), size)]
    task.network.requires_grad_(False)
    task.network.tower.requires_grad_(True)
    for module in (task.network.encoder.blocks, task.network.encoder.norm):
        module.requires_grad_(True)
    schedule = Schedule(
        steps=len(plans),
        rate=float(hyper["tune_rate"]),
        weight_decay=float(hyper["tune_weight_decay"]),
        warm_up=10,
    )

    def loss_at(step: int, part: Part) -> Sum:
        pairs = part(plans[step])
        return Sum(task.loss(pairs) * len(pairs), float(len(pairs))) if len(pairs) else Sum(torch.zeros(()), 0.0)

    def inputs_at(step: int) -> dict[str, NDArray[Any]]:
        return dict(zip(task.examples.feature_names, task.z_numpy_NE[plans[step]].T, strict=False))

    every = -(-len(pairs_P) // size)
    return run_phase(phase, task.network, Divisible(loss_at, inputs_at), schedule, context, every=every, judge=judge)


def _split_by_time(
    examples: Examples, known_N: NDArray[np.bool_], held_out: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of earlier campaigns and of the last ones: whole campaigns, about `held_out` of the pairs."""
    rows = np.flatnonzero(known_N)
    starts = examples.catalogue.campaign_starts_C[examples.campaigns_N[rows]]
    order = np.argsort(starts, kind="stable")
    cut = starts[order[min(int(len(rows) * (1 - held_out)), len(rows) - 1)]]
    return rows[starts < cut], rows[starts >= cut]
