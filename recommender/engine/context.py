"""Where and how a fit runs: seed, device, checkpoints, progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FitContext:
    """Where and how a fit runs. `checkpoints`: folder for resuming, named by data and configuration; None: no checkpoints."""

    seed: int = 17
    device: str = "cpu"
    checkpoints: Path | None = None
    checkpoint_every_s: float = 30.0
    progress: Callable[[dict[str, Any]], None] | None = None
    """Told every few steps: phase, step, of, loss, rate, steps_a_second."""
