"""The cost of a fit in CPU-seconds and seconds, including that of killed processes which it resumed."""

import json
import resource
import time
from contextlib import suppress
from typing import Any

from recommender.engine.context import FitContext
from recommender.engine.torchrun import is_first
from recommender.storage.manifest import write_text

SAVE_EVERY_S = 5.0
"""Chosen by hand: a killed fit loses at most so many seconds from its account, and the file costs next to nothing."""
COST = ("fit_cpu_seconds", "fit_seconds")


class Stopwatch:
    """Measures one fit. With checkpoints it keeps its account in spent.json beside them, so a resumed fit adds to it.

    A fit that had already finished keeps its original cost.
    """

    def __init__(self, context: FitContext) -> None:
        self._file = context.checkpoints and context.checkpoints / "spent.json"
        earlier: dict[str, Any] = {}
        if self._file is not None and self._file.is_file():
            with suppress(ValueError):  # a full disk cut the file short: the earlier cost is lost
                earlier = json.loads(self._file.read_text(encoding="utf-8"))
        self._finished = {name: earlier[name] for name in COST} if earlier.pop("finished", False) else None
        now = time.perf_counter()
        self._cpu_start = _cpu_seconds() - earlier.get("fit_cpu_seconds", 0.0)
        self._start = now - earlier.get("fit_seconds", 0.0)
        self._saved_at = now
        self._progress = context.progress

    def seconds(self, *, finished: bool = True) -> dict[str, float]:
        """`fit_cpu_seconds` and `fit_seconds` so far, which are also written beside the checkpoints."""
        if self._finished is not None:
            return self._finished
        values = _cpu_seconds() - self._cpu_start, time.perf_counter() - self._start
        cost = {name: round(value, 2) for name, value in zip(COST, values, strict=True)}
        if self._file is not None and is_first():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps({**cost, "finished": finished}))
        return cost

    def on_progress(self, facts: dict[str, Any]) -> None:
        """Use as the context's `progress`: saves the account every few seconds and passes the facts on."""
        if self._file is not None and time.perf_counter() - self._saved_at >= SAVE_EVERY_S:
            self._saved_at = time.perf_counter()
            self.seconds(finished=False)
        if self._progress is not None:
            self._progress(facts)


def _cpu_seconds() -> float:
    """CPU-seconds of this process and of the finished ones that it started, such as a compiler."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)
