"""SASRec: self-attention over a user's last items (Kang & McAuley, ICDM 2018), trained with the full softmax.

Binary cross entropy with sampled negatives, as published, is overconfident (Petrov & Macdonald, RecSys 2023); the exact softmax over
all items is what makes it strong (Klenitskiy & Vasilev, RecSys 2023).

Shapes: as in `causal` · U users · S windows · M targets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recommender.errors import TrainingError
from recommender.models.next_item.causal import CausalEncoder, items_of
from recommender.models.next_item.packing import batches_by_tokens, last_windows, pack, windows
from recommender.models.next_item.ranker import NEVER, ItemRanker
from recommender.models.ranker import FitContext
from recommender.ranks import full_ranks, ndcg
from recommender.sequences import Sequences
from recommender.training.loop import Divisible, EarlyStop, Part, Schedule, Sum, reproducible, run_phase, seed_of
from recommender.training.softmax import linear_cross_entropy

DEFAULTS: dict[str, Any] = {
    "width": 64,
    "blocks": 2,
    "heads": 2,
    "length": 200,
    "dropout": 0.3,
    "epochs": 40,
    "tokens": 2048,
    "rate": 0.001,
    "weight_decay": 0.0,
    "smoothing": 0.0,
    "patience": 5,
    "judge_every": 2,
    "judged_users": 4000,
}
"""length: last items that are read · tokens: targets of a batch · epochs: the most, the rate falls to zero over them · smoothing: of labels ·
patience: judgements (each `judge_every` epochs, NDCG@10 of at most `judged_users` users) without a gain before it stops."""
USERS_A_BATCH = 512


class SASRec(ItemRanker):
    """A causal transformer's log-odds."""

    name: ClassVar[str] = "sasrec"
    scores_are_log_odds: ClassVar[bool] = True

    def __init__(
        self,
        encoder: CausalEncoder,
        popularity_V: NDArray[np.float32],
        hyper: Mapping[str, Any],
        chosen: Mapping[str, Any],
    ) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self._popularity_V, self._hyper, self._chosen = popularity_V, dict(hyper), dict(chosen)
        with torch.no_grad():
            self._table_VD = encoder.table().clone()

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        hyper = {**DEFAULTS, **config}
        with reproducible(context) as device:
            torch.manual_seed(seed_of(context.seed, "weights", 0))
            encoder = CausalEncoder(sequences.items, sequences.items.num, sequences.items.num_attributes, hyper).to(
                device
            )
            chosen = train_encoder(encoder, sequences, held_out_U, hyper, context, phase=cls.name)
        seen_V = np.bincount(sequences.items_T, minlength=sequences.items.num + 1).astype(np.float32)
        return cls(encoder.cpu(), seen_V, hyper, chosen)

    def chosen(self) -> dict[str, Any]:
        return dict(self._chosen)

    @torch.inference_mode()
    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        states_UD = self.user_vectors(sequences)
        scores_UV: NDArray[np.float32] = states_UD @ self._table_VD.numpy().T
        scores_UV[sequences.lengths_U == 0] = np.log1p(self._popularity_V)
        scores_UV[:, 0] = NEVER
        return scores_UV

    def item_vectors(self) -> NDArray[np.float32]:
        table_VD: NDArray[np.float32] = self._table_VD.numpy()
        return table_VD

    def user_vectors(self, sequences: Sequences) -> NDArray[np.float32]:
        return encode(self.encoder, sequences, self._table_VD).numpy()

    def tensors(self) -> dict[str, NDArray[Any]]:
        state = {f"encoder.{name}": value.numpy() for name, value in self.encoder.state_dict().items()}
        return {**state, "popularity_V": self._popularity_V, "table_VD": self._table_VD.numpy()}

    def config(self) -> dict[str, Any]:
        attributes = self.encoder.attributes
        num = 0 if attributes is None else attributes.num_embeddings
        return {"hyper": self._hyper, "chosen": self._chosen, "num_attributes": num}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        popularity_V = np.asarray(tensors["popularity_V"])
        encoder = CausalEncoder(None, len(popularity_V) - 1, int(config["num_attributes"]), config["hyper"])
        prefix = "encoder."
        encoder.load_state_dict(
            {name.removeprefix(prefix): _tensor(value) for name, value in tensors.items() if name.startswith(prefix)}
        )
        made = cls(encoder, popularity_V, config["hyper"], config["chosen"])
        made._table_VD = _tensor(tensors["table_VD"])
        return made


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))


@dataclass(frozen=True, eq=False)
class Plan:
    """The batches of all epochs: windows of events, drawn from the seed."""

    starts: list[NDArray[np.int64]]
    lengths: list[NDArray[np.int64]]
    steps_of_epoch: int

    @classmethod
    def of(cls, sequences: Sequences, hyper: Mapping[str, Any], seed: int, phase: str) -> "Plan":
        starts: list[NDArray[np.int64]] = []
        lengths: list[NDArray[np.int64]] = []
        fewest = 0
        for epoch in range(int(hyper["epochs"])):
            rng = np.random.default_rng(seed_of(seed, f"{phase} windows", epoch))
            some_starts, some_lengths = windows(sequences, int(hyper["length"]), rng)
            batches = batches_by_tokens(some_lengths, int(hyper["tokens"]), rng)
            fewest = min(fewest or len(batches), len(batches))
            starts += [some_starts[one] for one in batches[:fewest]]
            lengths += [some_lengths[one] for one in batches[:fewest]]
        return cls(starts, lengths, fewest)


def softmax_loss(
    encoder: CausalEncoder,
    items_T: NDArray[np.int32],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    *,
    smoothing: float = 0.0,
) -> Sum:
    """Cross entropy of every next item in the windows, summed, and how many targets there are."""
    device = encoder.items.weight.device
    packed = pack(starts, lengths - 1).to(device)
    targets_M = torch.from_numpy(items_T[packed.events_T + 1].astype(np.int64)).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        table_VD = encoder.table()
        states_MD = encoder(items_of(packed, items_T), packed, table_VD)
    loss = linear_cross_entropy(states_MD.to(table_VD.dtype), table_VD, targets_M, first=1, smoothing=smoothing)
    return Sum(loss, float(len(targets_M)))


def train_encoder(
    encoder: CausalEncoder,
    sequences: Sequences,
    held_out_U: NDArray[np.int32] | None,
    hyper: Mapping[str, Any],
    context: FitContext,
    *,
    phase: str,
) -> dict[str, Any]:
    """Train with the full softmax; stop by `held_out_U` where it is given. What was chosen: {"epochs": …, "stop_at": …}."""
    plan = Plan.of(sequences, hyper, context.seed, phase)
    if not plan.starts:
        raise TrainingError("no user has two events: there is no next item to learn from.")
    items_T, every = sequences.items_T, plan.steps_of_epoch * int(hyper["judge_every"])
    steps = len(plan.starts)
    stop_at = hyper.get("stop_at")
    schedule = Schedule(
        steps=steps,
        rate=float(hyper["rate"]),
        weight_decay=float(hyper["weight_decay"]),
        warm_up=min(100, steps),
        clip=5.0,
        betas=(0.9, 0.98),
        end=None if stop_at is None else round(float(stop_at) * steps),
    )
    batches = Divisible(
        lambda step, part: _part(encoder, items_T, plan, step, part, float(hyper["smoothing"])),
    )
    if held_out_U is None:
        run_phase(phase, encoder, batches, schedule, context)
        return {} if stop_at is None else {"stop_at": stop_at}
    judged = run_phase(
        phase,
        encoder,
        batches,
        schedule,
        context,
        every=every,
        judge=_judge(encoder, sequences, held_out_U, int(hyper["judged_users"]), context.seed),
        stop=EarlyStop(int(hyper["patience"])),
    )
    best = EarlyStop(int(hyper["patience"])).best(judged) if judged else 0
    return {"stop_at": (best + 1) * every / steps} if judged else {}


def _part(
    encoder: CausalEncoder, items_T: NDArray[np.int32], plan: Plan, step: int, part: Part, smoothing: float
) -> Sum:
    starts, lengths = part(plan.starts[step]), part(plan.lengths[step])
    if not len(starts):
        return Sum(torch.zeros(()), 0.0)
    return softmax_loss(encoder, items_T, starts, lengths, smoothing=smoothing)


def _judge(
    encoder: CausalEncoder, sequences: Sequences, held_out_U: NDArray[np.int32], most: int, seed: int
) -> Callable[[], float]:
    users = np.flatnonzero((held_out_U > 0) & (sequences.lengths_U > 0))
    if len(users) > most:
        users = np.sort(np.random.default_rng(seed_of(seed, "judged", 0)).choice(users, most, replace=False))
    histories = sequences.take(users)

    @torch.inference_mode()
    def judge() -> float:
        table_VD = encoder.table()
        states_UD = encode(encoder, histories, table_VD)
        ranks = []
        for first in range(0, len(users), USERS_A_BATCH):
            some = np.arange(first, min(first + USERS_A_BATCH, len(users)))
            scores = (states_UD[first : first + USERS_A_BATCH] @ table_VD.T).float().cpu().numpy()
            ranks.append(full_ranks(scores, histories.take(some), held_out_U[users[some]]))
        return float(ndcg(np.concatenate(ranks)).mean()) if ranks else 0.0

    return judge


def encode(encoder: CausalEncoder, sequences: Sequences, table_VD: Tensor) -> Tensor:
    """Each user's state after the last event, zeros where there is none: [U, D]."""
    starts, lengths = last_windows(sequences, encoder.length)
    out_UD = table_VD.new_zeros(sequences.num_users, table_VD.shape[1])
    users = np.flatnonzero(lengths > 0)
    for first in range(0, len(users), USERS_A_BATCH):
        some = users[first : first + USERS_A_BATCH]
        packed = pack(starts[some], lengths[some]).to(table_VD.device)
        states_TD = encoder(items_of(packed, sequences.items_T), packed, table_VD)
        out_UD[torch.from_numpy(some).to(table_VD.device)] = states_TD[packed.last]
    return out_UD
