"""The state of a phase of training, and its way to and from a checkpoint."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recommender.engine.checkpoints import Checkpoints
from recommender.engine.torchrun import is_first

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""State that AdamW keeps for each parameter."""


class PhaseState:
    """All that a phase needs to continue: parameters, optimiser, best weights, step and validations."""

    def __init__(self, trained: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
        self.trained, self.optimiser = trained, optimiser
        self.best: dict[str, Tensor] = {}
        """The best weights so far, if the phase may stop early."""
        self.judged: list[float] = []
        """Validation metrics so far."""
        self.step = 0
        """The step to continue with."""
        self.halved = False
        """Whether batches are halved because memory ran out."""

    def save(self, checkpoints: Checkpoints, phase: str, step: int) -> None:
        """Write the state after `step` steps."""
        tensors = {f"model.{name}": _numpy(parameter) for name, parameter in self.trained.items()}
        for name, parameter in self.trained.items():
            for key, value in self.optimiser.state[parameter].items():
                tensors[f"optimiser.{key}.{name}"] = _numpy(value)
        tensors |= {f"best.{name}": _numpy(value) for name, value in self.best.items()}
        checkpoints.save(phase, tensors, {"step": step, "judged": self.judged, "halved": self.halved})

    def load(self, checkpoints: Checkpoints, phase: str) -> None:
        """Read the phase's checkpoint, if there is one, and cut its curve back to it."""
        checkpoint = checkpoints.load(phase)
        if is_first():
            checkpoints.rewind(phase, 0 if checkpoint is None else int(checkpoint.numbers["step"]))
        if checkpoint is None:
            return
        tensors, numbers = checkpoint.tensors, checkpoint.numbers
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(torch.from_numpy(tensors[f"model.{name}"]))
                self.optimiser.state[parameter] = {
                    key: torch.from_numpy(tensors[f"optimiser.{key}.{name}"]).to(parameter.device)
                    for key in MOMENTS
                    if f"optimiser.{key}.{name}" in tensors
                }
                if f"best.{name}" in tensors:
                    self.best[name] = torch.from_numpy(tensors[f"best.{name}"]).to(parameter.device)
        self.step, self.judged = int(numbers["step"]), list(numbers["judged"])
        self.halved = bool(numbers.get("halved", False))

    def restore_best(self) -> None:
        """Give the model its best weights, if any were kept."""
        with torch.no_grad():
            for name, value in self.best.items():
                self.trained[name].copy_(value)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return np.array(tensor.detach().cpu().numpy())
