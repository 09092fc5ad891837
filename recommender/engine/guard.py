"""What stops a training that went wrong, and says which batch did it."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recommender.errors import TrainingError

REMEMBERED = 50
EXPLODED = 10.0
"""A loss this many times the mean of the last ones, and that much above it, is an explosion."""


class Guard:
    """Looks at every step's loss and gradient."""

    def __init__(
        self, phase: str, steps: int, inputs_at: Callable[[int], Mapping[str, NDArray[Any]]] | None = None
    ) -> None:
        self._phase, self._steps, self._inputs_at = phase, steps, inputs_at
        self._losses: deque[float] = deque(maxlen=REMEMBERED)

    def check(self, step: int, loss: float, norm: float, trained: Mapping[str, nn.Parameter]) -> None:
        """Raises:
        TrainingError: loss or gradient norm is not finite, or the loss exploded; names the step, and the input or the
            parameter that is not finite.
        """
        usual = float(np.mean(self._losses)) if self._losses else loss
        self._losses.append(loss)
        finite = np.isfinite(loss) and np.isfinite(norm)
        exploded = finite and len(self._losses) > LEAST and loss > max(usual * EXPLODED, usual + EXPLODED)
        if finite and not exploded:
            return
        what = f"loss {loss:.6g}, gradient norm {norm:.6g}"
        if exploded:
            what += f" after a usual {usual:.6g}: it exploded"
        raise TrainingError(
            f"{self._phase}, step {step + 1} of {self._steps}: {what}. {self._culprit(step, trained)}"
            "Lower the rate, or mend that batch."
        )

    def _culprit(self, step: int, trained: Mapping[str, nn.Parameter]) -> str:
        if self._inputs_at is not None:
            for name, values in self._inputs_at(step).items():
                bad = np.argwhere(~np.isfinite(values))
                if len(bad):
                    return f"Column {name!r} holds {values[tuple(bad[0])]} at row {int(bad[0][0])} of the batch. "
        for name, parameter in trained.items():
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                inputs = "" if self._inputs_at is None else "; all inputs are"
                return f"The gradient of {name!r} is not finite{inputs}. "
        return ""


NO_MEMORY = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")
"""What is said where the error has no class of its own: by the CPU's allocator; by CUDA, cuBLAS and cuDNN."""
LEAST = 10
"""Losses to know before one can be called an explosion."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(one in str(error) for one in NO_MEMORY)


@contextmanager
def enough_memory(what: str, device: str) -> Iterator[None]:
    """Around what takes memory outside the loop's steps: the building of a model, a fit without steps, a judgement.

    Raises:
        TrainingError: memory did not suffice; says for `what` and what to lower.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"{what}: memory did not suffice on {device} ({str(error) or type(error).__name__}). Lower what makes it large "
            "(width, length, factors, batch, tokens) or use a larger machine."
        ) from None
