"""Logs how far a fit is, as events `training progress` with phase, step, of, loss, steps_a_second and seconds_left."""

import time
from collections.abc import Callable
from typing import Any

from recommender import logs
from recommender.engine.torchrun import is_first

log = logs.get(__name__)
EVERY_S = 30.0
"""Seconds between two events of a phase: often enough to see that a fit moves, and 120 lines an hour."""


def log_progress(*, every_s: float = EVERY_S, **facts: object) -> Callable[[dict[str, Any]], None]:
    """Make a `FitContext.progress` that logs at most every `every_s` seconds, and once more when a phase ends.

    Of several processes the first one logs. `facts`, such as ranker and fit, are added to each event.
    """
    logged_s = time.monotonic()

    def show(progress: dict[str, Any]) -> None:
        nonlocal logged_s
        step, of, now_s = progress["step"], progress["of"], time.monotonic()
        if not is_first() or (step < of and now_s - logged_s < every_s):
            return
        logged_s = now_s
        log.info(
            "training progress",
            **facts,
            phase=progress["phase"],
            step=step,
            of=of,
            loss=progress["loss"],
            steps_a_second=progress["steps_a_second"],
            seconds_left=round((of - step) / max(progress["steps_a_second"], 1e-9), 1),
        )

    return show
