"""How far a fit is, as log events `training progress` with phase, step, of, loss, steps_a_second and seconds_left."""

import time
from collections.abc import Callable
from typing import Any

from recommender import logs

log = logs.get(__name__)
EVERY_S = 30.0
"""Seconds between two events of a phase: often enough to see that a fit moves, and 120 lines an hour."""


def log_progress(*, every_s: float = EVERY_S, **facts: object) -> Callable[[dict[str, Any]], None]:
    """A `FitContext.progress` that logs at most every `every_s` seconds, and once more where a phase ends.

    Of several processes the first one logs. `facts` (the ranker, the fit) are on each event.
    """
    logged_s = time.monotonic()

    def show(told: dict[str, Any]) -> None:
        from recommender.engine.processes import is_first  # imports torch, which a fit that tells progress has imported

        nonlocal logged_s
        step, of, now_s = told["step"], told["of"], time.monotonic()
        if not is_first() or (step < of and now_s - logged_s < every_s):
            return
        logged_s = now_s
        log.info(
            "training progress",
            **facts,
            phase=told["phase"],
            step=step,
            of=of,
            loss=told["loss"],
            steps_a_second=told["steps_a_second"],
            seconds_left=round((of - step) / max(told["steps_a_second"], 1e-9), 1),
        )

    return show
