"""When a request arrived, how much of its deadline is left, and whether its caller is still there."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Scope

from serving.gateway.head import Headers


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Everything that happens to a request is charged to its deadline, which starts with its first byte."""

    deadline_s: float
    """Time for the whole request, in seconds."""
    at_s: float = field(default_factory=time.perf_counter)
    """When the first byte arrived, on the clock of `time.perf_counter`."""
    caller_left: Callable[[], bool] = lambda: False
    """Whether the caller has hung up by now."""
    whole_body: Callable[[], bytes | None] = lambda: None
    """The request's body, once all of it arrived. None: not yet."""
    reply: Callable[[int, Headers, bytes], bool] = lambda status, headers, body: False
    """Answers with one write. False: not now, and ASGI's `send` waits until it can."""

    def left_s(self) -> float:
        """Seconds until the deadline, negative after it."""
        return self.at_s + self.deadline_s - time.perf_counter()

    def waited_s(self) -> float:
        """Seconds since the first byte."""
        return time.perf_counter() - self.at_s


def arrival_of(scope: Scope) -> Arrival | None:
    """The arrival that the server noted, or None for a request that did not come over a connection of this server."""
    found = scope.get("state", {}).get("arrival")
    return found if isinstance(found, Arrival) else None
