"""The loop: steps of AdamW that can be killed at any moment and resumed to the same weights: on a CPU bit for bit.

Nothing random outlives a step: batches come from (seed, phase, step) and the generator of dropout is seeded anew at every step, so
a checkpoint needs the model, the optimiser, the best weights and the step's number only. A batch is a sum over its rows and a weight, so it
may be taken in parts: for gradients that accumulate, for the processes of `torchrun`, and when memory runs out.
"""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recommender.engine import processes
from recommender.engine.checkpoints import Checkpoints
from recommender.engine.context import FitContext
from recommender.engine.guard import Guard, enough_memory, out_of_memory
from recommender.errors import DeviceError, SettingsError, TrainingError
from recommender.storage.manifest import digest

LOG_EVERY = 10
Rows = TypeVar("Rows", bound=NDArray[Any])


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """AdamW: linear warm-up, then linear decay to zero; gradients clipped to norm `clip`."""

    steps: int
    rate: float
    weight_decay: float = 0.01
    warm_up: int = 30
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    accumulate: int = 1
    """A batch is taken in this many parts, one after the other."""
    end: int | None = None
    """Stop after this many steps, the rate as if all were to come: a repetition of a fit that stopped early."""

    def rate_at(self, step: int) -> float:
        return self.rate * min((step + 1) / self.warm_up, 1.0) * (1 - step / max(self.steps, 1))


@dataclass(frozen=True)
class Part:
    """Every `of`-th row of a batch, from `index` on."""

    index: int = 0
    of: int = 1

    def __call__(self, rows: Rows) -> Rows:
        return rows[self.index :: self.of]  # type: ignore[return-value]

    def split(self, into: int) -> list["Part"]:
        """This part's own parts, which together are this part."""
        return [Part(self.index + one * self.of, self.of * into) for one in range(into)]


class Sum(NamedTuple):
    """A loss summed over rows, and the weight of these rows: the batch's loss is sum of losses / sum of weights."""

    loss: Tensor
    weight: float


@dataclass(frozen=True)
class Divisible:
    """Batches that can be taken in parts."""

    loss_at: Callable[[int, Part], Sum]
    inputs_at: Callable[[int], dict[str, NDArray[Any]]] | None = None
    """Names and values of a step's inputs, for the guard: it names the one that is not finite."""


@dataclass(frozen=True)
class EarlyStop:
    """Stop when `patience` judgements in a row were not better; the best weights are what remains."""

    patience: int

    def best(self, judged: list[float]) -> int:
        return int(np.argmax(judged))


def device_of(context: FitContext) -> torch.device:
    """The context's device.

    Raises:
        DeviceError: this machine does not have it.
    """
    if context.device not in ("cpu", "cuda"):
        raise DeviceError(f"the device is {context.device!r}; it is 'cpu' or 'cuda'.")
    if context.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("the device is 'cuda', but this machine shows no GPU to torch. Use 'cpu' or a GPU node.")
    return torch.device(context.device)


class Trainable(Protocol):
    """A class whose `fit` may run on a GPU."""

    @property
    def name(self) -> str: ...
    @property
    def trains_on_gpu(self) -> bool: ...


def require_device(ranker: Trainable, device: str) -> None:
    """Raises SettingsError where a GPU has nothing to do for the ranker, DeviceError where this machine has none."""
    if device == "cuda" and not ranker.trains_on_gpu:
        raise SettingsError(f"{ranker.name} is fitted on the CPU; there is nothing for {device} to do. Say cpu")
    device_of(FitContext(device=device))


def seed_of(seed: int, phase: str, step: int) -> int:
    """A seed for one step of one phase."""
    return int(digest(seed, phase, step)[:12], 16)


@contextmanager
def reproducible(context: FitContext) -> Iterator[torch.device]:
    """One thread for torch on the CPU: sums keep their order, so the weights do not depend on the machine's cores, and at these
    sizes a second thread mostly waits (four times slower beside other work). The process's random state is given back
    afterwards; out of memory is a TrainingError.
    """
    device = device_of(context)
    processes.join(device)
    threads, plans = torch.get_num_threads(), torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each shape, and each step has groups of another one
    state = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    try:
        with enough_memory("training", context.device), state:
            yield device
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.enable_cudnn_sdp(plans)


def run_phase(
    phase: str,
    model: nn.Module,
    loss_at: Callable[[int], Tensor] | Divisible,
    schedule: Schedule,
    context: FitContext,
    *,
    every: int = 0,
    judge: Callable[[], float] | None = None,
    stop: EarlyStop | None = None,
) -> list[float]:
    """Take `schedule.steps` steps on the trainable parameters of `model`; returns `judge`'s figures, one each `every` steps.

    `loss_at`: a step's mean loss, or batches that can be divided. With `stop` the model ends with its best weights.

    Raises:
        TrainingError: a loss or gradient is not finite or the loss exploded (names phase, step and what was wrong), or memory
            did not suffice for half a batch.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimiser = torch.optim.AdamW(
        trained.values(), lr=schedule.rate, weight_decay=schedule.weight_decay, betas=schedule.betas, fused=True
    )
    checkpoints = Checkpoints(context.checkpoints) if context.checkpoints is not None else None
    best: dict[str, Tensor] = {}
    first, judged, halved = _resume(phase, trained, optimiser, best, checkpoints)
    batches = loss_at if isinstance(loss_at, Divisible) else None
    guard = Guard(phase, schedule.steps, batches.inputs_at if batches else None)
    saved_at = started = time.monotonic()
    last = schedule.steps if schedule.end is None else min(schedule.end, schedule.steps)
    for step in range(first, last):
        if stop is not None and judged and len(judged) - 1 - stop.best(judged) >= stop.patience:
            break
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step)
        model.train()
        while True:
            optimiser.zero_grad(set_to_none=True)
            try:
                loss = _backward(loss_at, step, phase, schedule.accumulate * (2 if halved else 1), trained, context)
                break
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if halved or batches is None:
                    raise TrainingError(
                        f"{phase}, step {step + 1}: memory did not suffice{' for half a batch' if halved else ''} on "
                        f"{context.device} ({error}). Lower the batch or use a larger machine."
                    ) from None
                warnings.warn(f"{phase}, step {step + 1}: memory did not suffice; batches are halved", stacklevel=2)
                halved = True
        norm = nn.utils.clip_grad_norm_(trained.values(), schedule.clip)
        guard.check(step, float(loss), float(norm), trained)
        optimiser.step()
        done = step + 1
        if done % LOG_EVERY == 0 or done == last:
            speed = (done - first) / max(time.monotonic() - started, 1e-9)
            facts = {"phase": phase, "step": done, "of": schedule.steps, "loss": round(float(loss), 6)}
            facts |= {"rate": schedule.rate_at(step), "steps_a_second": round(speed, 2)}
            if checkpoints is not None and processes.is_first():
                checkpoints.log(**facts)
            if context.progress is not None:
                context.progress(facts)
        if judge is not None and every and done % every == 0:
            model.eval()
            judged.append(judge())
            if stop is not None and stop.best(judged) == len(judged) - 1:
                best = {name: parameter.detach().clone() for name, parameter in trained.items()}
            if checkpoints is not None and processes.is_first():
                checkpoints.log(
                    phase=phase, step=done, of=schedule.steps, loss=round(float(loss), 6), judged=judged[-1]
                )
        if checkpoints is not None and (done == last or time.monotonic() - saved_at >= context.checkpoint_every_s):
            if processes.is_first():
                numbers = {"step": done, "judged": judged, "halved": halved}
                checkpoints.save(phase, _state(trained, optimiser, best), numbers)
            saved_at = time.monotonic()
    with torch.no_grad():
        for name, value in best.items():
            trained[name].copy_(value)
    model.eval()
    return judged


def _backward(
    loss_at: Callable[[int], Tensor] | Divisible,
    step: int,
    phase: str,
    parts: int,
    trained: dict[str, nn.Parameter],
    context: FitContext,
) -> Tensor:
    """The batch's gradient, over all parts and processes, and its loss."""
    torch.manual_seed(seed_of(context.seed, phase, step))
    if not isinstance(loss_at, Divisible):
        loss = loss_at(step)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    rank, world = processes.place()
    if rank:
        torch.manual_seed(seed_of(context.seed, f"{phase} {rank}", step))
    total, weight = torch.zeros(()), 0.0
    for part in Part(rank, world).split(parts):
        some = loss_at.loss_at(step, part)
        if some.weight:
            some.loss.backward()  # type: ignore[no-untyped-call]
            total, weight = total.to(some.loss.device) + some.loss.detach().float(), weight + some.weight
    total, weight = processes.add_up(list(trained.values()), total, weight)
    for parameter in trained.values():
        if parameter.grad is not None:
            parameter.grad.div_(max(weight, 1e-9))
    return total / max(weight, 1e-9)


def _state(
    trained: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer, best: dict[str, Tensor]
) -> dict[str, NDArray[Any]]:
    state = {f"model.{name}": _numpy(parameter) for name, parameter in trained.items()}
    for name, parameter in trained.items():
        for key, value in optimiser.state[parameter].items():
            state[f"optimiser.{key}.{name}"] = _numpy(value)
    return state | {f"best.{name}": _numpy(value) for name, value in best.items()}


def _resume(
    phase: str,
    trained: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    best: dict[str, Tensor],
    checkpoints: Checkpoints | None,
) -> tuple[int, list[float], bool]:
    if checkpoints is None:
        return 0, [], False
    found = checkpoints.load(phase)
    if processes.is_first():
        checkpoints.rewind(phase, 0 if found is None else int(found.numbers["step"]))
    if found is None:
        return 0, [], False
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(torch.from_numpy(found.tensors[f"model.{name}"]))
            prefix, suffix = "optimiser.", f".{name}"
            keys = [key for key in found.tensors if key.startswith(prefix) and key.endswith(suffix)]
            optimiser.state[parameter] = {
                key[len(prefix) : -len(suffix)]: torch.from_numpy(found.tensors[key]).to(parameter.device)
                for key in keys
                if key[len(prefix) : -len(suffix)] in ("step", "exp_avg", "exp_avg_sq")
            }
            if f"best.{name}" in found.tensors:
                best[name] = torch.from_numpy(found.tensors[f"best.{name}"]).to(parameter.device)
    return int(found.numbers["step"]), list(found.numbers["judged"]), bool(found.numbers.get("halved", False))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().numpy())
