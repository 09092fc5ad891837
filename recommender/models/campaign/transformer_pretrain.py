"""The transformer's first phase: its encoder learns from all purchase histories to predict the next basket.

Shapes: as in `encoder`.
"""

from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recommender.engine.context import FitContext
from recommender.engine.loop import Divisible, Part, Schedule, Sum, run_phase, seed_of
from recommender.engine.precision import has_units
from recommender.matching.affinity import AXES
from recommender.matching.packed_history import Histories
from recommender.models.campaign.encoder import batch_of, chunks, next_basket_loss, to_device
from recommender.models.campaign.interleaved import Interleaved
from recommender.models.campaign.transformer_config import TransformerConfig
from recommender.models.campaign.transformer_network import Network
from recommender.models.campaign.vocabulary import Vocabulary

Plan = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Starts and ends of the sequences of each step."""


def line_shares(axes_VA: Tensor, corpus: Histories, network: Network) -> Tensor:
    """Share of each predicted value among all purchase lines: [V]. Value 0 (unknown) gets none."""
    values_T = axes_VA[torch.from_numpy(corpus.items_T.astype(np.int64)), network.encoder.target]
    counts_V = torch.bincount(values_T, minlength=len(network.base_V)).float()
    counts_V[0] = 0.0
    return counts_V / counts_V.sum().clamp(min=1.0)


def start_from(network: Network, vocabulary: Vocabulary, earlier: Network, known: Vocabulary) -> None:
    """Copy the earlier encoder's weights. Embeddings are copied by value, since the vocabulary may have grown."""
    ours, theirs = network.encoder.state_dict(), earlier.encoder.state_dict()
    for name, value in theirs.items():
        if not name.startswith("axes.") and name != "bias_V" and name in ours and ours[name].shape == value.shape:
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


def pretrain(
    network: Network,
    corpus: Histories,
    axes_VA: Tensor,
    config: TransformerConfig,
    context: FitContext,
    *,
    warm: bool,
) -> None:
    """Train the encoder on the corpus. `warm`: it starts from an earlier fit, so `continue_epochs` passes do."""
    encoder = network.encoder
    plan = _plan(corpus, encoder.baskets, config, context.seed, warm=warm)
    network.requires_grad_(False)
    encoder.requires_grad_(True)
    device = axes_VA.device

    def loss_at(step: int, part: Part) -> Sum:
        starts, ends = map(part, plan[step])
        if not len(starts):
            return Sum(torch.zeros(()), 0.0)
        batch = to_device(batch_of(corpus, starts, ends), device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda" and has_units(device)):
            loss, weight = next_basket_loss(encoder, batch, axes_VA)
        return Sum(loss, float(weight))

    def inputs_at(step: int) -> dict[str, NDArray[Any]]:
        baskets = np.concatenate([np.arange(start, end) for start, end in zip(*plan[step], strict=True)])
        return {"spend": corpus.spend_B[baskets], "age_days": corpus.age_days_B[baskets]}

    schedule = Schedule(steps=len(plan), rate=config.pretrain_rate)
    run_phase("pretrain", encoder, Divisible(loss_at, inputs_at), schedule, context)


def _plan(corpus: Histories, length: int, config: TransformerConfig, seed: int, *, warm: bool) -> Plan:
    """Sequences of every step. Without an earlier fit, passes go on until there are `pretrain_min_steps` steps."""
    epochs, least = (config.continue_epochs, 0) if warm else (config.pretrain_epochs, config.pretrain_min_steps)
    size = config.pretrain_batch
    plan: Plan = []
    for epoch in count() if len(corpus.spend_B) else ():
        if epoch >= epochs and len(plan) >= least:
            break
        rng = np.random.default_rng(seed_of(seed, "chunks", epoch))
        starts, ends = chunks(corpus, length, rng)
        if isinstance(corpus, Interleaved):
            starts, ends = _with_purchases(corpus, starts, ends)
        order = rng.permutation(len(starts))
        plan += [
            (starts[order[first : first + size]], ends[order[first : first + size]])
            for first in range(0, len(order), size)
        ]
    return plan


def _with_purchases(
    corpus: Interleaved, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sequences that hold a purchase. From looks alone nothing is predicted."""
    bought = np.concatenate([[0], np.cumsum(~corpus.is_look_B)])
    kept = bought[ends] > bought[starts]
    return starts[kept], ends[kept]
