"""The transformer's later phases: the linear part at its optimum, then fine-tuning of tower and encoder on the labels.

Shapes: as in `transformer`; P pairs with a known outcome.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recommender.engine.context import FitContext
from recommender.engine.loop import Divisible, Part, Schedule, Sum, run_phase, seed_of
from recommender.matching.examples import Examples, Labels
from recommender.models.campaign.encoder import batch_of, to_device
from recommender.models.campaign.logistic import MIN_MONEY_PAIRS, fit_logistic, fit_money
from recommender.models.campaign.tower import CampaignContent, sequence_features
from recommender.models.campaign.transformer_config import TransformerConfig
from recommender.models.campaign.transformer_network import (
    FARTHEST_SEQUENCE,
    USERS_A_BATCH,
    Network,
    last_baskets,
    recency,
)

PAIRS_A_BATCH = 512
"""Pairs that are read together where no gradient is needed: bounds the memory of [pairs, values]. Chosen by hand."""
MIN_SCALE = 1e-5
"""A standard deviation up to this is rounding in float32, not variation: the sequence feature becomes 0. By
hand."""
WARM_UP_STEPS = 10
"""Warm-up steps of fine-tuning, fewer than the engine's 30, because a pass over the pairs is often shorter."""
DIGITS = 6
"""Decimals of the log losses in a bundle's notes: finer than any difference that means something."""


class LabelledPairs:
    """The labelled pairs, laid out for the linear part and for fine-tuning."""

    def __init__(
        self,
        network: Network,
        examples: Examples,
        labels: Labels,
        z_NE: NDArray[np.float32],
        axes_VA: Tensor,
        config: TransformerConfig,
        device: torch.device,
    ) -> None:
        self.network, self.examples, self.labels, self.config, self.device = network, examples, labels, config, device
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
        self.histories = network.read(examples.histories, examples.catalogue)
        self.starts_U, self.ends_U = last_baskets(self.histories, network.encoder.baskets)

    def states(self, users_U: NDArray[np.int64]) -> Tensor:
        """Encode some users' states with the encoder as it is now: [U, D]."""
        batch = to_device(
            batch_of(self.histories, self.starts_U[users_U], self.ends_U[users_U], whole=True), self.device
        )
        encoder = self.network.encoder
        states_BLD = encoder(encoder.pooled(self.vectors_VD, batch), batch.facts_BLX)
        last_BD: Tensor = states_BLD[torch.arange(len(users_U), device=self.device), batch.lengths_B]
        return last_BD

    @torch.no_grad()
    def all_states(self) -> Tensor:
        """Encode every user's state without dropout: [U, D]."""
        self.network.eval()
        num_users = len(self.starts_U)
        parts = [
            self.states(np.arange(first, min(first + USERS_A_BATCH, num_users), dtype=np.int64))
            for first in range(0, num_users, USERS_A_BATCH)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def fit_linear(self, rows_N: NDArray[np.bool_]) -> None:
        """Fit the linear part to its optimum on some pairs, with the encoder as it is now."""
        network, config = self.network, self.config
        raw_NS = self._raw_sequence()
        known = torch.from_numpy(np.flatnonzero(rows_N)).to(self.device)
        mean_S, scale_S = raw_NS[known].mean(dim=0), raw_NS[known].std(dim=0)
        inverse_S = torch.where(scale_S > MIN_SCALE, 1 / scale_S.clamp(min=MIN_SCALE), 0.0)
        network.sequence_mean_S.copy_(mean_S)
        network.sequence_inverse_S.copy_(inverse_S)
        sequence_NS = (raw_NS - mean_S) * network.sequence_inverse_S
        clipped_NS = sequence_NS.clamp(-FARTHEST_SEQUENCE, FARTHEST_SEQUENCE).cpu().numpy()
        x_NE = np.concatenate([self.z_numpy_NE, clipped_NS], axis=1)
        weights_E, bias = fit_logistic(x_NE[rows_N], self.labels.redeemed_N[rows_N], strength=config.strength)
        network.linear_HE[0].copy_(torch.from_numpy(weights_E))
        network.linear_bias_H[0] = bias
        for head, target_N in enumerate((self.labels.spend_N, self.labels.excess_N), start=1):
            paid_N = np.isfinite(target_N) & rows_N
            if paid_N.sum() >= MIN_MONEY_PAIRS:
                learned = fit_money(x_NE[paid_N], target_N[paid_N], ridge=config.ridge)
                network.linear_HE[head].copy_(torch.from_numpy(learned[:-4]))
                network.linear_bias_H[head] = float(learned[-4])
                network.money_range[head - 1].copy_(torch.from_numpy(learned[-3:]))

    def _raw_sequence(self) -> Tensor:
        """Sequence features of all pairs before standardisation: [N, S]."""
        states_UD = self.all_states()
        parts = []
        for first in range(0, len(self.users_N), PAIRS_A_BATCH):
            some = slice(first, first + PAIRS_A_BATCH)
            who = self.users_N[some]
            parts.append(
                sequence_features(
                    self.network.encoder,
                    states_UD[who],
                    self.columns_N[some],
                    self.content,
                    self.network.base_V,
                    self.recency_U[who],
                    self.baskets_U[who],
                )
            )
        return torch.cat(parts)

    def outputs(self, pairs: NDArray[np.int64]) -> Tensor:
        """Answers of the network as it is now for some pairs: [members, N, H]."""
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
        """Mean cross entropy of participation plus `money_weight` times the mean Huber loss of asinh of money."""
        out = self.outputs(pairs)  # float32, without autocast: the linear part in it was fitted so
        target_NH = self.targets_NH[torch.from_numpy(pairs).to(self.device)].expand_as(out)
        redeem = functional.binary_cross_entropy_with_logits(out[..., 0], target_NH[..., 0])
        known = torch.isfinite(target_NH[..., 1:])
        money = functional.huber_loss(
            torch.where(known, out[..., 1:], 0.0), torch.where(known, target_NH[..., 1:], 0.0), reduction="sum"
        )
        return redeem + self.config.money_weight * money / known.sum().clamp(min=1)

    @torch.no_grad()
    def log_loss(self, pairs: NDArray[np.int64]) -> float:
        """Log loss of participation, by the mean of the members' log-odds."""
        parts = [
            self.outputs(pairs[first : first + PAIRS_A_BATCH]).mean(dim=0)[:, 0]
            for first in range(0, len(pairs), PAIRS_A_BATCH)
        ]
        target_N = self.targets_NH[torch.from_numpy(pairs).to(self.device), 0]
        return float(functional.binary_cross_entropy_with_logits(torch.cat(parts).float(), target_N))


def fine_tune(
    pairs: LabelledPairs, known_N: NDArray[np.bool_], config: TransformerConfig, context: FitContext
) -> dict[str, Any]:
    """Train on the earlier pairs, let the later ones choose the number of passes, then train that many on all pairs.

    Returns:
        `tuned_epochs`, the number of passes, and `held_out_log_loss` before and after each pass that was tried.
    """
    epochs = config.tune_epochs
    earlier_P, later_P = _split_by_time(pairs.examples, known_N, config.held_out)
    redeemed = pairs.labels.redeemed_N
    notes: dict[str, Any] = {"tuned_epochs": 0}
    if epochs == 0 or not all(0 < redeemed[rows].sum() < len(rows) for rows in (earlier_P, later_P)):
        return notes
    start = {name: value.clone() for name, value in pairs.network.state_dict().items()}
    mask = np.zeros(len(known_N), dtype=bool)
    mask[earlier_P] = True
    pairs.fit_linear(mask)
    before = pairs.log_loss(later_P)
    judged = _tune(pairs, "choose", earlier_P, epochs, config, context, judge=lambda: pairs.log_loss(later_P))
    pairs.network.load_state_dict(start)
    best = int(np.argmin([before, *judged]))
    notes |= {"tuned_epochs": best, "held_out_log_loss": [round(value, DIGITS) for value in (before, *judged)]}
    if best:
        _tune(pairs, "tune", np.flatnonzero(known_N), best, config, context)
    return notes


def _tune(
    pairs: LabelledPairs,
    phase: str,
    rows_P: NDArray[np.int64],
    epochs: int,
    config: TransformerConfig,
    context: FitContext,
    *,
    judge: Callable[[], float] | None = None,
) -> list[float]:
    """Train tower and encoder blocks for some passes over some pairs, and return `judge`'s value after each pass."""
    size = config.tune_batch
    plan: list[NDArray[np.int64]] = []
    for epoch in range(epochs):
        order = np.random.default_rng(seed_of(context.seed, phase, epoch)).permutation(rows_P)
        plan += [order[first : first + size] for first in range(0, len(order), size)]
    # Embeddings stay as pretrained: item vectors and campaign content were computed from them once.
    pairs.network.requires_grad_(False)
    pairs.network.tower.requires_grad_(True)
    for module in (pairs.network.encoder.blocks, pairs.network.encoder.norm):
        module.requires_grad_(True)
    schedule = Schedule(
        steps=len(plan), rate=config.tune_rate, weight_decay=config.tune_weight_decay, warm_up=WARM_UP_STEPS
    )

    def loss_at(step: int, part: Part) -> Sum:
        rows = part(plan[step])
        return Sum(pairs.loss(rows) * len(rows), float(len(rows))) if len(rows) else Sum(torch.zeros(()), 0.0)

    def inputs_at(step: int) -> dict[str, NDArray[Any]]:
        return dict(zip(pairs.examples.feature_names, pairs.z_numpy_NE[plan[step]].T, strict=False))

    steps_a_pass = -(-len(rows_P) // size)
    batches = Divisible(loss_at, inputs_at)
    return run_phase(phase, pairs.network, batches, schedule, context, every=steps_a_pass, judge=judge)


def _split_by_time(
    examples: Examples, known_N: NDArray[np.bool_], held_out: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of the earlier and of the latest campaigns. The latest hold about `held_out` of the pairs."""
    rows = np.flatnonzero(known_N)
    starts = examples.catalogue.campaign_starts_C[examples.campaigns_N[rows]]
    order = np.argsort(starts, kind="stable")
    cut = starts[order[min(int(len(rows) * (1 - held_out)), len(rows) - 1)]]
    return rows[starts < cut], rows[starts >= cut]
