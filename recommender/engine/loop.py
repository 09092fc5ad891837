"""The training loop: AdamW steps that can be killed at any moment and resumed to the same weights.

On a CPU the weights are the same bit for bit.

No randomness is carried from step to step. Batches depend on (seed, phase, step), and the generator for dropout is
seeded anew at every step. So a checkpoint needs only the model, the optimiser, the best weights and the step's number.

This module is also the entry to batches and devices: a ranker imports what it needs for a fit from here.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recommender.engine import processes
from recommender.engine.batches import Divisible, Part, Sum
from recommender.engine.checkpoints import Checkpoints
from recommender.engine.context import FitContext
from recommender.engine.devices import device_of, reproducible, require_device
from recommender.engine.guard import Guard, out_of_memory
from recommender.engine.phase_state import PhaseState
from recommender.engine.torchrun import is_first
from recommender.errors import TrainingError
from recommender.storage.manifest import digest

__all__ = [
    "Divisible",
    "EarlyStop",
    "Part",
    "Schedule",
    "Sum",
    "device_of",
    "reproducible",
    "require_device",
    "run_phase",
    "seed_of",
]

LOG_EVERY = 10
"""Steps between two lines of the curve. Chosen by hand: a fit of some thousand steps gives a smooth curve."""
MIN_WEIGHT = 1e-9
"""A batch without weight is divided by this, which leaves its gradient zero."""
SEED_DIGITS = 12
"""Hex digits of a step's seed: 48 bits, which torch accepts and which do not repeat within a fit."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """AdamW with linear warm-up, then linear decay to zero, and gradients clipped to the norm `clip`."""

    steps: int
    rate: float
    weight_decay: float = 0.01
    """AdamW's usual value and torch's default (Loshchilov & Hutter, ICLR 2019)."""
    warm_up: int = 30
    """Steps of rising rate. Chosen by hand: enough for AdamW's second moments to settle."""
    clip: float = 1.0
    """Largest norm of a gradient. Chosen by hand. A common value for transformers."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's defaults (Kingma & Ba, ICLR 2015)."""
    accumulate: int = 1
    """Parts that a batch is taken in, one after the other: more than 1 only where memory is short."""
    end: int | None = None
    """Stop after this many steps, with rates as if all of `steps` followed. It repeats a fit that stopped early."""

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.rate * min((step + 1) / self.warm_up, 1.0) * (1 - step / max(self.steps, 1))


@dataclass(frozen=True)
class EarlyStop:
    """Stop when `patience` validations in a row were not better than the best one, and keep the weights of that one."""

    patience: int

    def best(self, judged: list[float]) -> int:
        """Return the number of the best validation, the first one of equals."""
        return int(np.argmax(judged))

    def is_due(self, judged: list[float]) -> bool:
        """Return whether training stops now."""
        return bool(judged) and len(judged) - 1 - self.best(judged) >= self.patience


def seed_of(seed: int, phase: str, step: int) -> int:
    """Derive the seed of one step of one phase."""
    return int(digest(seed, phase, step)[:SEED_DIGITS], 16)


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
    """Take `schedule.steps` steps on the trainable parameters of `model`, or resume a stopped phase.

    Args:
        phase: name of the phase in checkpoints, logs and errors.
        model: what is trained. With `stop` it ends with its best weights, and it ends in evaluation mode.
        loss_at: computes a step's mean loss, or batches that can be divided.
        schedule: steps and rates.
        context: seed, device, checkpoints and progress.
        every: steps between two calls of `judge`; 0 for none.
        judge: computes a metric on validation data, more is better.
        stop: when to stop early.

    Returns:
        What `judge` returned, in order.

    Raises:
        TrainingError: a loss or gradient is not finite, or the loss exploded (names phase, step and cause), or memory
            ran out even for half a batch.
    """
    run = _PhaseRun(phase, model, loss_at, schedule, context)
    first = run.state.step
    last = schedule.steps if schedule.end is None else min(schedule.end, schedule.steps)
    saved_at = time.monotonic()
    for step in range(first, last):
        if stop is not None and stop.is_due(run.state.judged):
            break
        loss = run.take_step(step)
        done = step + 1
        if done % LOG_EVERY == 0 or done == last:
            run.report(done, loss)
        if judge is not None and every and done % every == 0:
            run.validate(done, loss, judge, stop)
        if run.checkpoints is not None and (done == last or time.monotonic() - saved_at >= context.checkpoint_every_s):
            if is_first():
                run.state.save(run.checkpoints, phase, done)
            saved_at = time.monotonic()
    run.state.restore_best()
    model.eval()
    return run.state.judged


class _PhaseRun:
    """One phase while it runs."""

    def __init__(
        self,
        phase: str,
        model: nn.Module,
        loss_at: Callable[[int], Tensor] | Divisible,
        schedule: Schedule,
        context: FitContext,
    ) -> None:
        self.phase, self.model, self.loss_at, self.schedule, self.context = phase, model, loss_at, schedule, context
        self.trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        optimiser = torch.optim.AdamW(
            self.trained.values(),
            lr=schedule.rate,
            weight_decay=schedule.weight_decay,
            betas=schedule.betas,
            fused=True,
        )
        self.checkpoints = Checkpoints(context.checkpoints) if context.checkpoints is not None else None
        self.state = PhaseState(self.trained, optimiser)
        if self.checkpoints is not None:
            self.state.load(self.checkpoints, phase)
        inputs_at = loss_at.inputs_at if isinstance(loss_at, Divisible) else None
        self.guard = Guard(phase, schedule.steps, inputs_at)
        self.first, self.started = self.state.step, time.monotonic()

    def take_step(self, step: int) -> Tensor:
        """Compute the gradient of a step's batch, check it, update the weights, and return the loss."""
        optimiser = self.state.optimiser
        for group in optimiser.param_groups:
            group["lr"] = self.schedule.rate_at(step)
        self.model.train()
        loss = self._gradient(step)
        norm = nn.utils.clip_grad_norm_(self.trained.values(), self.schedule.clip)
        self.guard.check(step, float(loss), float(norm), self.trained)
        optimiser.step()
        return loss

    def _gradient(self, step: int) -> Tensor:
        """Compute a gradient. When memory runs out, batches are halved from then on, once in a phase."""
        while True:
            self.state.optimiser.zero_grad(set_to_none=True)
            try:
                parts = self.schedule.accumulate * (2 if self.state.halved else 1)
                return _backward(self.loss_at, step, self.phase, parts, self.trained, self.context)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                if self.state.halved or not isinstance(self.loss_at, Divisible):
                    batch = " for half a batch" if self.state.halved else ""
                    raise TrainingError(
                        f"{self.phase}, step {step + 1}: memory ran out{batch} on {self.context.device} ({error}); "
                        "lower the batch or use a larger machine"
                    ) from None
                warnings.warn(f"{self.phase}, step {step + 1}: memory ran out; batches are halved", stacklevel=4)
                self.state.halved = True

    def report(self, done: int, loss: Tensor) -> None:
        """Write a line of the curve and report progress."""
        # 1e-9 s: no division by 0 where the clock has not moved. Losses have six decimals, finer than a step's noise.
        speed = (done - self.first) / max(time.monotonic() - self.started, 1e-9)
        facts = {"phase": self.phase, "step": done, "of": self.schedule.steps, "loss": round(float(loss), 6)}
        facts |= {"rate": self.schedule.rate_at(done - 1), "steps_a_second": round(speed, 2)}
        self._log(facts)
        if self.context.progress is not None:
            self.context.progress(facts)

    def validate(self, done: int, loss: Tensor, judge: Callable[[], float], stop: EarlyStop | None) -> None:
        """Compute the validation metric, and keep the weights if they are the best so far."""
        state = self.state
        self.model.eval()
        state.judged.append(judge())
        if stop is not None and stop.best(state.judged) == len(state.judged) - 1:
            state.best = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        facts = {"phase": self.phase, "step": done, "of": self.schedule.steps, "loss": round(float(loss), 6)}
        self._log({**facts, "judged": state.judged[-1]})

    def _log(self, facts: dict[str, object]) -> None:
        if self.checkpoints is not None and is_first():
            self.checkpoints.log(**facts)


def _backward(
    loss_at: Callable[[int], Tensor] | Divisible,
    step: int,
    phase: str,
    parts: int,
    trained: dict[str, nn.Parameter],
    context: FitContext,
) -> Tensor:
    """Compute the gradient of a step's batch over all its parts and processes, and return its mean loss."""
    torch.manual_seed(seed_of(context.seed, phase, step))
    if not isinstance(loss_at, Divisible):
        loss = loss_at(step)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    rank, world_size = processes.rank_and_world_size()
    if rank:
        torch.manual_seed(seed_of(context.seed, f"{phase} {rank}", step))
    total, weight = torch.zeros(()), 0.0
    for part in Part(rank, world_size).split(parts):
        part_sum = loss_at.loss_at(step, part)
        if part_sum.weight:
            part_sum.loss.backward()  # type: ignore[no-untyped-call]
            total = total.to(part_sum.loss.device) + part_sum.loss.detach().float()
            weight += part_sum.weight
    total, weight = processes.sum_over_processes(list(trained.values()), total, weight)
    for parameter in trained.values():
        if parameter.grad is not None:
            parameter.grad.div_(max(weight, MIN_WEIGHT))
    return total / max(weight, MIN_WEIGHT)
