"""Stops a training that went wrong and names the batch and input that caused it."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recommender.errors import TrainingError

if TYPE_CHECKING:
    from torch import nn

WINDOW = 50
"""Losses that the usual loss is the mean of. Chosen by hand."""
MIN_LOSSES = 10
"""Losses to see before one can count as an explosion, since the first ones of a phase vary much. Chosen by hand."""
EXPLOSION = 10.0
"""A loss this many times the usual one, and by this much above it, is an explosion. Chosen by hand."""
MEMORY_MESSAGES = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")
"""Parts of the messages of memory errors without a specific class: of the CPU's allocator, CUDA, cuBLAS and cuDNN."""


class Guard:
    """Checks the loss and the gradient of every step."""

    def __init__(
        self, phase: str, steps: int, inputs_at: Callable[[int], Mapping[str, NDArray[Any]]] | None = None
    ) -> None:
        self._phase, self._steps, self._inputs_at = phase, steps, inputs_at
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def check(self, step: int, loss: float, norm: float, trained: Mapping[str, "nn.Parameter"]) -> None:
        """Check one step.

        Raises:
            TrainingError: loss or gradient norm is not finite, or the loss exploded; names the step, and the input or
                the parameter that is not finite.
        """
        usual = float(np.mean(self._losses)) if self._losses else loss
        self._losses.append(loss)
        finite = np.isfinite(loss) and np.isfinite(norm)
        exploded = finite and len(self._losses) > MIN_LOSSES and loss > max(usual * EXPLOSION, usual + EXPLOSION)
        if finite and not exploded:
            return
        figures = f"loss {loss:.6g}, gradient norm {norm:.6g}"
        if exploded:
            figures += f", while the usual loss is {usual:.6g}: the loss exploded"
        raise TrainingError(
            f"{self._phase}, step {step + 1} of {self._steps}: {figures}. {self._cause(step, trained)}"
            "Lower the rate, or correct that batch's data."
        )

    def _cause(self, step: int, trained: Mapping[str, "nn.Parameter"]) -> str:
        """Name the first input, or else the first gradient, that is not finite."""
        if self._inputs_at is not None:
            for name, values in self._inputs_at(step).items():
                bad = np.argwhere(~np.isfinite(values))
                if len(bad):
                    return f"Column {name!r} has {values[tuple(bad[0])]} in row {int(bad[0][0])} of the batch. "
        for name, parameter in trained.items():
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                inputs = "" if self._inputs_at is None else ", though all inputs are"
                return f"The gradient of {name!r} is not finite{inputs}. "
        return ""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, on a GPU or on the CPU."""
    # torch's own class by its name, so that a training without a network imports no torch.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(message in str(error) for message in MEMORY_MESSAGES)
    )


@contextmanager
def enough_memory(what: str, device: str) -> Iterator[None]:
    """Turn memory errors outside the loop's steps into a clear one.

    Raises:
        TrainingError: memory ran out; names `what` and what to lower.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"{what}: memory ran out on {device} ({str(error) or type(error).__name__}); lower what makes it large "
            "(width, length, factors, batch, tokens) or use a larger machine"
        ) from None
