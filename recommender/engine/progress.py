"""How far a fit is, in lines for a log: phase, step, loss, rate and time left."""

import time
from collections.abc import Callable
from typing import Any


def lines(say: Callable[[str], None], *, every_s: float = 30.0) -> Callable[[dict[str, Any]], None]:
    """A `FitContext.progress` that says a line at most each `every_s` seconds, and one where a phase ends."""
    said = time.monotonic()

    def show(facts: dict[str, Any]) -> None:
        nonlocal said
        step, of, now = facts["step"], facts["of"], time.monotonic()
        if step < of and now - said < every_s:
            return
        said = now
        left = (of - step) / max(facts["steps_a_second"], 1e-9)
        say(
            f"{facts['phase']}: step {step:,} of {of:,}, loss {facts['loss']:.4f}, {facts['steps_a_second']} steps/s"
            + (f", {left:.0f} s left" if step < of else "")
        )

    return show
