"""What the neural next-item rankers share: batches of events, epochs that stop early, and a ranker around a network.

Shapes: U users · T events · V items, rows 1 … V (row 0 is no item) · M targets · L last items · D width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recommender.engine.context import FitContext
from recommender.engine.hyperparameters import Range, Space
from recommender.engine.loop import Divisible, EarlyStop, Part, Schedule, Sum, reproducible, run_phase, seed_of
from recommender.engine.precision import half
from recommender.errors import BundleError, SettingsError, TrainingError
from recommender.models.next_item.ranker import NEVER, ItemRanker, require_items
from recommender.sequences import Sequences
from recommender.sequences.ranks import USERS_A_BATCH, full_ranks, ndcg, users_at_once

SEARCHED: Space = {"rate": Range(3e-4, 1e-2, log=True), "dropout": Range(0.0, 0.6)}
"""What is worth a search in every network."""
TRAINING: dict[str, Any] = {
    "epochs": 30,
    "min_steps": None,
    "rate": 0.003,
    "weight_decay": 0.0,
    "patience": 5,
    "judge_every": 1,
    "judged_users": 2000,
    "accumulate": 1,
    "precision": "auto",
}
"""accumulate: parts that a batch is taken in, one after the other, for less memory; the step is the whole batch's up to rounding where
nothing is drawn (dropout, masks and sampled items are drawn for each part; the rivals in `two_tower`'s in-batch softmax are the part's)
· epochs: the most, the rate falls to zero over them · min_steps: where these epochs are fewer steps there are more of them, judged as
often; None: MIN_STEPS, or 0 where a config says `epochs` · patience: judgements (each `judge_every` epochs, NDCG of at most
`judged_users` users, every rank counted: cut at 10 it would be chance that stops a small set) without a gain before it stops · precision: of the
softmax's matrix products in training, fp32, bf16 or auto (bf16 on a GPU and where a CPU has units for it). A config may say `stop_at`, what
an earlier fit chose: stop after this share."""
MIN_STEPS = 1900


@dataclass(frozen=True)
class Size:
    """What a network's tensors are as large as."""

    items: int
    users: int
    attributes: int
    pairs: int
    """Pairs of item and attribute."""

    @classmethod
    def of(cls, sequences: Sequences) -> "Size":
        items = sequences.items
        return cls(items.num, sequences.num_users, items.num_attributes, len(items.attribute_rows()[0]))


class Network(nn.Module, ABC):
    """One family: how an epoch is cut into batches, a batch's loss, and the scores."""

    @abstractmethod
    def __init__(self, size: Size, hyper: Mapping[str, Any]) -> None:
        super().__init__()
        self.precision = str(hyper.get("precision", "auto"))

    def know(self, sequences: Sequences) -> None:
        """Take from the training sequences what is not learned: counts, attributes."""

    @abstractmethod
    def batches(self, sequences: Sequences, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """One epoch: batches whose rows `loss` understands."""

    @abstractmethod
    def loss(self, sequences: Sequences, batch: NDArray[np.int64], rng: np.random.Generator) -> Sum:
        """The loss of a batch's rows, summed, and their weight."""

    @abstractmethod
    def scores(self, sequences: Sequences) -> Tensor:
        """[U, V + 1]; every user is one that the network `can_tell` about."""

    def compiled(self) -> AbstractContextManager[None]:
        """A context in which parts of it run as machine code made by `torch.compile`; rankers with the dial `torch_compile` have it."""
        raise SettingsError("torch_compile: this network has no parts to compile")

    def can_tell(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Users that are not cold, bool [U]."""
        return sequences.lengths_U > 0

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def bf16(self) -> bool:
        """Whether the matrix products of a softmax over all items are of bfloat16 in training."""
        return half(self.precision, self.device)

    def products(self) -> torch.autocast:
        """A context in which the network's own are too: on a GPU. On a CPU they are small, and their shapes change at each step,
        which costs more there than the products save."""
        on = self.bf16 and self.device.type == "cuda"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on)


class NeuralRanker(ItemRanker):
    """A network, trained in epochs, and popularity for users that it knows nothing of."""

    scores_are_log_odds: ClassVar[bool] = True
    trains_on_gpu: ClassVar[bool] = True
    network: ClassVar[type[Network]]

    def __init__(
        self,
        model: Network,
        size: Size,
        popularity_V: NDArray[np.float32],
        hyper: Mapping[str, Any],
        chosen: Mapping[str, Any],
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.popularity_V = popularity_V
        self._size, self._hyper, self._chosen = size, dict(hyper), dict(chosen)

    @classmethod
    def dials(cls, sequences: Sequences, config: Mapping[str, Any]) -> dict[str, Any]:
        hyper = super().dials(sequences, config)
        if hyper["min_steps"] is None:
            hyper["min_steps"] = 0 if "epochs" in config else MIN_STEPS
        return hyper

    @classmethod
    def fit(
        cls,
        sequences: Sequences,
        *,
        held_out_U: NDArray[np.int32] | None,
        config: Mapping[str, Any],
        context: FitContext,
    ) -> Self:
        return cls._train(sequences, held_out_U, cls.dials(sequences, config), context, cls.network.loss)

    @classmethod
    def _train(
        cls,
        sequences: Sequences,
        held_out_U: NDArray[np.int32] | None,
        hyper: Mapping[str, Any],
        context: FitContext,
        loss: Callable[[Any, Sequences, NDArray[np.int64], np.random.Generator], Sum],
    ) -> Self:
        size = Size.of(sequences)
        with reproducible(context) as device:
            torch.manual_seed(seed_of(context.seed, "weights", 0))
            model = cls.network(size, hyper)
            model.know(sequences)
            model = model.to(device)
            with model.compiled() if hyper.get("torch_compile") else nullcontext():
                chosen = fit_epochs(
                    model,
                    sequences,
                    held_out_U,
                    batches_of_epoch=lambda rng: model.batches(sequences, rng),
                    loss_of_batch=lambda batch, rng: loss(model, sequences, batch, rng),
                    score=model.scores,
                    hyper=hyper,
                    context=context,
                    phase=cls.name,
                )
        seen_V = np.bincount(sequences.items_T, minlength=size.items + 1).astype(np.float32)
        return cls(model.cpu(), size, seen_V, hyper, chosen)

    def chosen(self) -> dict[str, Any]:
        return dict(self._chosen)

    @torch.inference_mode()
    def score(self, sequences: Sequences) -> NDArray[np.float32]:
        """As `ItemRanker.score`.

        Raises:
            BundleError: the sequences have other items or users than those that the ranker was fitted on.
        """
        check(sequences, self._size, self.name)
        scores_UV = np.empty((sequences.num_users, self._size.items + 1), dtype=np.float32)
        told_U = self.model.can_tell(sequences)
        scores_UV[~told_U] = np.log1p(self.popularity_V)
        users = np.flatnonzero(told_U)
        for first in range(0, len(users), USERS_A_BATCH):
            some = users[first : first + USERS_A_BATCH]
            scores_UV[some] = self.model.scores(sequences.take(some)).float().numpy()
        scores_UV[:, 0] = NEVER
        return scores_UV

    def tensors(self) -> dict[str, NDArray[Any]]:
        state = {f"model.{name}": value.numpy() for name, value in self.model.state_dict().items()}
        return {**state, "popularity_V": self.popularity_V}

    def config(self) -> dict[str, Any]:
        return {"hyper": self._hyper, "chosen": self._chosen, "size": asdict(self._size)}

    @classmethod
    def restore(cls, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Self:
        size = Size(**config["size"])
        with torch.random.fork_rng(devices=[]):
            model = cls.network(size, config["hyper"])
        prefix = "model."
        state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        return cls(model, size, np.asarray(tensors["popularity_V"]), config["hyper"], config["chosen"])


def check(sequences: Sequences, size: Size, name: str) -> None:
    """Raises BundleError where `sequences` speak of items or users that a ranker of this size does not have."""
    require_items(sequences, size.items, name)
    users_U = sequences.users_U
    if users_U is not None and len(users_U) and int(users_U.max()) >= size.users:
        raise BundleError(
            f"{name}: user row {int(users_U.max())} is none of the {size.users} that the ranker was fitted on; "
            "a new user has row -1."
        )


class _Epochs:
    """Batches by step; an epoch's are made when its first one is asked for. All epochs take as many steps as the first."""

    def __init__(self, make: Callable[[np.random.Generator], list[NDArray[np.int64]]], seed: int, phase: str) -> None:
        self._make, self._seed, self._phase = make, seed, phase
        self._epoch = 0
        self._batches = self._of(0)
        self.steps = len(self._batches)

    def _of(self, epoch: int) -> list[NDArray[np.int64]]:
        return self._make(np.random.default_rng(seed_of(self._seed, f"{self._phase} batches", epoch)))

    def at(self, step: int) -> NDArray[np.int64]:
        epoch, place = divmod(step, self.steps)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._of(epoch)
        return self._batches[place % len(self._batches)]


def fit_epochs(
    model: nn.Module,
    sequences: Sequences,
    held_out_U: NDArray[np.int32] | None,
    *,
    batches_of_epoch: Callable[[np.random.Generator], list[NDArray[np.int64]]],
    loss_of_batch: Callable[[NDArray[np.int64], np.random.Generator], Sum],
    score: Callable[[Sequences], Tensor],
    hyper: Mapping[str, Any],
    context: FitContext,
    phase: str,
) -> dict[str, Any]:
    """Train `model` for at most `hyper["epochs"]`, or the more that `min_steps` needs; with `held_out_U` stop by NDCG (not cut) and keep the best weights.

    Dials as in `TRAINING`. Returns {"stop_at": share of all steps} where it was chosen or given, for a fit that has nothing
    held out.

    Raises:
        TrainingError: no batch can be made, or the loss is not finite.
    """
    epochs = _Epochs(batches_of_epoch, context.seed, phase)
    if not epochs.steps:
        left = "" if held_out_U is None else " left after the last ones were held out"
        raise TrainingError(
            f"{phase}: no user has two events{left}, so there is no next item to learn from. "
            "rules, item_cf and als learn from as little."
        )
    usual, stop_at = int(hyper["epochs"]), hyper.get("stop_at")
    number = max(usual, math.ceil(int(hyper["min_steps"]) / epochs.steps))
    steps = epochs.steps * number
    schedule = Schedule(
        steps=steps,
        rate=float(hyper["rate"]),
        weight_decay=float(hyper["weight_decay"]),
        warm_up=max(min(100, steps // 10), 1),
        clip=5.0,
        betas=(0.9, 0.98),
        accumulate=int(hyper["accumulate"]),
        end=None if stop_at is None else max(round(float(stop_at) * steps), 1),
    )

    def loss_at(step: int, part: Part) -> Sum:
        rows = part(epochs.at(step))
        rng = np.random.default_rng(seed_of(context.seed, f"{phase} draws {part.index} of {part.of}", step))
        return loss_of_batch(rows, rng) if len(rows) else Sum(torch.zeros(()), 0.0)

    users = _judged_users(sequences, held_out_U, int(hyper["judged_users"]), context.seed)
    if held_out_U is None or not len(users):
        run_phase(phase, model, Divisible(loss_at), schedule, context)
        return {} if stop_at is None else {"stop_at": float(stop_at)}
    every = epochs.steps * math.ceil(int(hyper["judge_every"]) * number / usual)
    stop = EarlyStop(int(hyper["patience"]))
    judge = _judge(score, sequences.take(users), held_out_U[users])
    judged = run_phase(phase, model, Divisible(loss_at), schedule, context, every=every, judge=judge, stop=stop)
    return {"stop_at": (stop.best(judged) + 1) * every / steps} if judged else {}


def _judged_users(
    sequences: Sequences, held_out_U: NDArray[np.int32] | None, most: int, seed: int
) -> NDArray[np.int64]:
    if held_out_U is None:
        return np.zeros(0, dtype=np.int64)
    users = np.flatnonzero((held_out_U > 0) & (sequences.lengths_U > 0))
    if len(users) <= most:
        return users
    return np.sort(np.random.default_rng(seed_of(seed, "judged", 0)).choice(users, most, replace=False))


def _judge(
    score: Callable[[Sequences], Tensor], histories: Sequences, target_U: NDArray[np.int32]
) -> Callable[[], float]:
    @torch.inference_mode()
    def judge() -> float:
        ranks, size = [], users_at_once(histories.items.num)
        for first in range(0, len(target_U), size):
            some = np.arange(first, min(first + size, len(target_U)))
            batch = histories.take(some)
            ranks.append(full_ranks(score(batch).float().cpu().numpy(), batch, target_U[some]))
        return float(ndcg(np.concatenate(ranks), at=histories.items.num).mean())

    return judge


def targets(sequences: Sequences) -> NDArray[np.int64]:
    """The events that have one before them, [M]."""
    first = np.zeros(len(sequences.items_T) + 1, dtype=np.bool_)
    first[sequences.offsets[:-1]] = True
    return np.flatnonzero(~first[:-1])


def users_of(sequences: Sequences, events_M: NDArray[np.int64]) -> NDArray[np.int64]:
    """The user of each event, [M]."""
    return np.searchsorted(sequences.offsets, events_M, side="right") - 1


def before(
    sequences: Sequences, ends_M: NDArray[np.int64], users_M: NDArray[np.int64], length: int
) -> NDArray[np.int64]:
    """A user's last `length` items before the event `end`, the latest last, 0 on the left: int64 [M, L]."""
    places_ML = ends_M[:, None] - length + np.arange(length)
    real_ML = places_ML >= sequences.offsets[users_M][:, None]
    return np.where(real_ML, sequences.items_T[np.where(real_ML, places_ML, 0)], 0).astype(np.int64)


def shuffled(rows: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Rows in random order, in batches of nearly equal size, at most `size`."""
    if not len(rows):
        return []
    return np.array_split(rng.permutation(rows), int(np.ceil(len(rows) / size)))
