"""The context of a fit: seed, device, checkpoints, progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_SEED = 17
"""The seed wherever none is given. Chosen by hand. It has no meaning."""


@dataclass(frozen=True, kw_only=True)
class FitContext:
    """Seed, device, checkpoints and progress of a fit."""

    seed: int = DEFAULT_SEED
    device: str = "cpu"
    """cpu or cuda."""
    checkpoints: Path | None = None
    """Folder for resuming, which only a fit with the same data and configuration may use. None writes no
    checkpoints."""
    checkpoint_every_s: float = 30.0
    """A kill costs at most so many seconds of training. Chosen by hand."""
    progress: Callable[[dict[str, Any]], None] | None = None
    """Called every few steps with phase, step, of, loss, rate and steps_a_second."""
