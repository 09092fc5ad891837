"""Row `ours` of the training benchmark: the loop, batches and loss that `sasrec` is trained with.

Shapes: T events · S windows.
"""

from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.reference import Shape
from benchmarks.training_data import Request, as_sequences, read_events
from recommender.engine.context import FitContext
from recommender.engine.loop import Divisible, Part, Schedule, Sum, reproducible, run_phase
from recommender.models.next_item.causal import CausalEncoder, items_of
from recommender.models.next_item.epochs import BETAS, CLIP, WARM_UP
from recommender.models.next_item.network import Size
from recommender.models.next_item.packing import last_windows, pack
from recommender.models.next_item.sasrec import SASRecConfig
from recommender.sequences import Sequences

EPOCHS = 2
"""Two epochs of the measured users have 323,766 targets, more than any row asks for (`training_rows.ROWS`)."""


BATCHES_COMPARED = 8
"""So many batches are compared with the plain formula, which takes each user alone and is slow. Chosen by hand."""


def config_of(shape: Shape, *, tokens: int, precision: str) -> SASRecConfig:
    """The hyperparameters of `sasrec` in the benchmark's shape. `tokens` is the number of targets of a batch."""
    given = {
        "width": shape.dimension,
        "blocks": shape.blocks,
        "heads": shape.heads,
        "length": shape.length,
        "dropout": shape.dropout,
        "rate": shape.learning_rate,
        "tokens": tokens,
        "precision": precision,
    }
    return SASRecConfig.parse(given, owner="sasrec")


def encoder_of(
    shape: Shape, sequences: Sequences, *, tokens: int = 2048, precision: str = "fp32"
) -> CausalEncoder[SASRecConfig]:
    """Our encoder in the benchmark's shape, with fresh weights. `tokens` is by default that of `sasrec`."""
    config = config_of(shape, tokens=tokens, precision=precision)
    return CausalEncoder(Size(shape.num_items, sequences.num_users, 0, 0), config)


def measure(request: Request) -> dict[str, Any]:
    """Targets and CPU-seconds of the steps after the warm-up, including their share of drawing the epoch's windows."""
    sequences = as_sequences(read_events(request.events), request.shape.num_items)
    context = FitContext(seed=request.seed)
    with reproducible(context):
        torch.manual_seed(request.seed)
        encoder = encoder_of(request.shape, sequences, tokens=request.batch_size, precision=request.precision)
    began = process_time()
    rng = np.random.default_rng(request.seed)
    batches = [batch for _ in range(EPOCHS) for batch in encoder.batches(sequences, rng)]
    num_S = np.array([int((batch[:, 1] - 1).sum()) for batch in batches])
    planning = (process_time() - began) / int(num_S.sum())
    after = np.cumsum(num_S[request.warm_up :])
    steps = min(int(np.searchsorted(after, request.targets)) + 1, len(after))
    clock = {}

    def loss_at(step: int, part: Part) -> Sum:
        if step == request.warm_up:
            clock["began"] = process_time()
        return encoder.loss(sequences, part(batches[step]), rng)

    schedule = Schedule(
        steps=len(num_S),
        rate=request.shape.learning_rate,
        weight_decay=0.0,
        warm_up=WARM_UP,
        clip=CLIP,
        betas=BETAS,
        end=request.warm_up + steps,
    )
    with reproducible(context):
        run_phase("bench", encoder, Divisible(loss_at), schedule, context)
    targets = int(after[steps - 1])
    seconds = process_time() - clock["began"] + planning * targets
    return {"targets": targets, "cpu_seconds": seconds, "steps": steps, "classes": request.shape.num_items}


@torch.no_grad()
def plain_loss(encoder: CausalEncoder[SASRecConfig], sequences: Sequences, table_VD: Tensor) -> float:
    """The mean loss by its formula: each user alone, all logits, logsumexp minus the target's, in float64."""
    losses = []
    starts, lengths = last_windows(sequences, encoder.length + 1)
    for start, length in zip(starts, lengths, strict=True):
        alone = pack(np.array([start]), np.array([length - 1]))
        states_MD = encoder(items_of(alone, sequences.items_T), alone.places_T, alone.groups, table_VD)
        logits_MV = states_MD.double() @ table_VD[1:].double().T
        targets_M = torch.from_numpy(sequences.items_T[start + 1 : start + length].astype(np.int64)) - 1
        losses.append(logits_MV.logsumexp(dim=1) - logits_MV.gather(1, targets_M[:, None])[:, 0])
    return float(torch.cat(losses).mean())


@torch.no_grad()
def loss_difference(
    shape: Shape,
    sequences: Sequences,
    *,
    precision: str = "fp32",
    users: int = 16,
    scale: float = 8.0,
) -> float:
    """Largest |our training loss - the plain formula| over batches of users, with the same weights, dropout off.

    With fresh weights every loss is near log V and a wrong one would hardly show. So the items, and with them the
    states, are spread by `scale`, chosen by hand, as training spreads them. `users` is chosen by hand: a small batch,
    since the plain formula is slow.
    """
    torch.manual_seed(0)
    encoder = encoder_of(shape, sequences, precision=precision).eval()
    encoder.items.weight.mul_(scale)
    table_VD, differences = encoder.table(), []
    usable = np.flatnonzero(sequences.lengths_U > 1)
    for first in range(0, min(len(usable), BATCHES_COMPARED * users), users):
        some = sequences.take(usable[first : first + users])
        ours = encoder.loss(some, np.stack(last_windows(some, shape.length + 1), axis=1), np.random.default_rng(0))
        differences.append(abs(float(ours.loss) / ours.weight - plain_loss(encoder, some, table_VD)))
    return max(differences)
