"""What a fit costs, CPU-seconds and seconds, kills on the way included."""

import json
import resource
import time
from contextlib import suppress
from typing import Any

from recommender.engine import processes
from recommender.engine.context import FitContext
from recommender.storage.manifest import write_text

NOTED_EVERY_S = 5.0
COST = ("fit_cpu_seconds", "fit_seconds")


class Spent:
    """What a fit costs, over all the processes that were killed on the way: noted beside its checkpoints every few seconds. One that
    had finished costs what it cost then."""

    def __init__(self, context: FitContext) -> None:
        self._file = context.checkpoints and context.checkpoints / "spent.json"
        earlier: dict[str, Any] = {}
        if self._file is not None and self._file.is_file():
            with suppress(ValueError):  # cut short by a full disk: what was spent is not known
                earlier = json.loads(self._file.read_text(encoding="utf-8"))
        self._whole = {name: earlier[name] for name in COST} if earlier.pop("finished", False) else None
        self._cpu = _cpu_seconds() - earlier.get("fit_cpu_seconds", 0.0)
        self._wall = self._noted = time.perf_counter()
        self._wall -= earlier.get("fit_seconds", 0.0)
        self._tell = context.progress

    def seconds(self, *, finished: bool = True) -> dict[str, float]:
        """`COST` so far."""
        if self._whole is not None:
            return self._whole
        values = _cpu_seconds() - self._cpu, time.perf_counter() - self._wall
        cost = {name: round(value, 2) for name, value in zip(COST, values, strict=True)}
        if self._file is not None and processes.is_first():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps({**cost, "finished": finished}))
        return cost

    def told(self, facts: dict[str, Any]) -> None:
        """In the place of the context's progress."""
        if self._file is not None and time.perf_counter() - self._noted >= NOTED_EVERY_S:
            self._noted = time.perf_counter()
            self.seconds(finished=False)
        if self._tell is not None:
            self._tell(facts)


def _cpu_seconds() -> float:
    """Of this process and of those that it called and waited for: a compiler."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)
