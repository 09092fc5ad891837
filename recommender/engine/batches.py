"""Batches that can be taken in parts: for accumulated gradients, for several processes, and when memory runs out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray
from torch import Tensor

Rows = TypeVar("Rows", bound=NDArray[Any])


@dataclass(frozen=True)
class Part:
    """Every `of`-th row of a batch, from `index` on."""

    index: int = 0
    of: int = 1

    def __call__(self, rows: Rows) -> Rows:
        """Select this part's rows."""
        return rows[self.index :: self.of]  # type: ignore[return-value]

    def split(self, into: int) -> list["Part"]:
        """Divide this part into smaller parts, which together have its rows."""
        return [Part(self.index + number * self.of, self.of * into) for number in range(into)]


class Sum(NamedTuple):
    """A loss summed over rows, and the weight of these rows. A batch's loss is the sum of losses over the weights'."""

    loss: Tensor
    weight: float


@dataclass(frozen=True)
class Divisible:
    """Batches that can be taken in parts."""

    loss_at: Callable[[int, Part], Sum]
    """Computes the loss of a part of a step's batch."""
    inputs_at: Callable[[int], dict[str, NDArray[Any]]] | None = None
    """Names and values of a step's inputs, so that the guard can name one that is not finite."""
