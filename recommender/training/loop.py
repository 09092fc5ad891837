"""The loop: steps of AdamW that can be killed at any moment and resumed to the same weights, bit for bit.

Nothing random outlives a step: batches come from (seed, phase, step) and the generator of dropout is seeded anew at every step, so
a checkpoint needs the model, the optimiser and the step's number only.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recommender.errors import DeviceError, TrainingError
from recommender.manifest import digest
from recommender.models.ranker import FitContext
from recommender.training.checkpoints import Checkpoints

LOG_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """AdamW: linear warm-up, then linear decay to zero; gradients clipped to norm 1."""

    steps: int
    rate: float
    weight_decay: float = 0.01
    warm_up: int = 30

    def rate_at(self, step: int) -> float:
        return self.rate * min((step + 1) / self.warm_up, 1.0) * (1 - step / max(self.steps, 1))


def device_of(context: FitContext) -> torch.device:
    """The context's device.

    Raises:
        DeviceError: this machine does not have it.
    """
    if context.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("training.device is 'cuda', but this machine shows no GPU to torch. Use 'cpu' or a GPU node.")
    return torch.device(context.device)


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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield device
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"memory did not suffice on {device}: {error}. Lower the batch or use a larger machine."
        ) from None
    finally:
        torch.set_num_threads(threads)


def run_phase(
    phase: str,
    model: nn.Module,
    loss_at: Callable[[int], Tensor],
    schedule: Schedule,
    context: FitContext,
    *,
    every: int = 0,
    judge: Callable[[], float] | None = None,
) -> list[float]:
    """Take `schedule.steps` steps on the trainable parameters of `model`; returns `judge`'s figures, one each `every` steps.

    Raises:
        TrainingError: a loss or gradient is not finite; names phase and step.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimiser = torch.optim.AdamW(trained.values(), lr=schedule.rate, weight_decay=schedule.weight_decay)
    checkpoints = Checkpoints(context.checkpoints) if context.checkpoints is not None else None
    first, judged = _resume(phase, trained, optimiser, checkpoints)
    saved_at = started = time.monotonic()
    for step in range(first, schedule.steps):
        torch.manual_seed(seed_of(context.seed, phase, step))
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step)
        model.train()
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(trained.values(), 1.0)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise TrainingError(
                f"{phase}, step {step + 1} of {schedule.steps}: loss {float(loss.detach())}, gradient norm {float(norm)}. "
                "Lower the rate, or look for infinite values in the features of that batch."
            )
        optimiser.step()
        done, loss = step + 1, loss.detach()
        if checkpoints is not None and (done % LOG_EVERY == 0 or done == schedule.steps):
            speed = (done - first) / max(time.monotonic() - started, 1e-9)
            facts = {"phase": phase, "step": done, "of": schedule.steps, "loss": round(float(loss), 6)}
            checkpoints.log(**facts, rate=schedule.rate_at(step), steps_a_second=round(speed, 2))
        if judge is not None and every and done % every == 0:
            model.eval()
            judged.append(judge())
        if checkpoints is not None and (
            done == schedule.steps or time.monotonic() - saved_at >= context.checkpoint_every_s
        ):
            checkpoints.save(phase, _state(trained, optimiser), {"step": done, "judged": judged})
            saved_at = time.monotonic()
    model.eval()
    return judged


def _state(trained: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> dict[str, NDArray[Any]]:
    state = {f"model.{name}": _numpy(parameter) for name, parameter in trained.items()}
    for name, parameter in trained.items():
        for key, value in optimiser.state[parameter].items():
            state[f"optimiser.{key}.{name}"] = _numpy(value)
    return state


def _resume(
    phase: str,
    trained: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    checkpoints: Checkpoints | None,
) -> tuple[int, list[float]]:
    if checkpoints is None:
        return 0, []
    found = checkpoints.load(phase)
    checkpoints.rewind(phase, 0 if found is None else int(found.numbers["step"]))
    if found is None:
        return 0, []
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(torch.from_numpy(found.tensors[f"model.{name}"]))
            prefix, suffix = "optimiser.", f".{name}"
            keys = [key for key in found.tensors if key.startswith(prefix) and key.endswith(suffix)]
            optimiser.state[parameter] = {
                key[len(prefix) : -len(suffix)]: _tensor(found.tensors[key], parameter)
                for key in keys
                if key[len(prefix) : -len(suffix)] in ("step", "exp_avg", "exp_avg_sq")
            }
    return int(found.numbers["step"]), list(found.numbers["judged"])


def _tensor(array: NDArray[Any], parameter: nn.Parameter) -> Tensor:
    tensor = torch.from_numpy(array)
    return tensor.to(parameter.device) if array.ndim else tensor


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().numpy())
