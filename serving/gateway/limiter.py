"""Bounds the work that waits for a server so that what is admitted is still in time: deadline ÷ service time.

Little's law (Little 1961) measures the service time without knowing how many requests the server works on at once: a
request that finds n others before it and is done after W seconds was served at a rate of (n + 1) / W. The mean of
W / (n + 1) follows the server's speed within some twenty requests. A request is admitted while its expected wait,
(n + 1) x service time, lies within a share of what is left of its deadline. The alternatives (AIMD, gradients of the
latency, as in Netflix's concurrency-limits) search for a limit by trial and do not know the deadline; here the limit
follows from it, and a server that hangs shrinks it to the smallest within a few deadlines.
"""

import time
from dataclasses import dataclass

SMOOTHING = 0.1
"""Weight of the newest measurement: the mean follows within some twenty requests, and one outlier counts little."""

MOST_GROWTH = 4.0
"""One measurement counts for at most four times the mean, so that a single stall of the machine refuses nobody, and a
server that stays slow is still known to be within a dozen requests."""


@dataclass(kw_only=True)
class Limiter:
    """Requests that wait for, or are worked on by, one server."""

    share: float
    """Part of the time left that waiting may take. The rest is for what waiting does not explain."""
    least: int
    """So many are always admitted: a server without work could not show that it is fast again."""
    floor_s: float
    """The smallest service time that is believed. An idle server is measured with nothing else to do."""
    service_s: float = 0.0
    """Smoothed service time, in seconds per request."""
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.service_s = max(self.service_s, self.floor_s)

    def admits(self, left_s: float) -> bool:
        """Whether one more request would probably be done in time, where `left_s` of its deadline is left."""
        return self.in_flight < self.limit(left_s)

    def limit(self, left_s: float) -> int:
        """Requests in flight at most, where `left_s` of a deadline is left."""
        return max(self.least, int(self.share * left_s / self.service_s))

    def begin(self) -> int:
        """Count a request, and return how many are before it."""
        before, self.in_flight = self.in_flight, self.in_flight + 1
        return before

    def end(self, before: int, took_s: float, *, finished: bool = True) -> None:
        """Count a request out.

        Args:
            before: What `begin` returned.
            took_s: Seconds since then.
            finished: False: it was given up, so it would have taken longer than `took_s`.
        """
        self.in_flight -= 1
        measured_s = min(max(took_s / (before + 1), self.floor_s), MOST_GROWTH * self.service_s)
        if finished or measured_s > self.service_s:
            self.service_s += SMOOTHING * (measured_s - self.service_s)


class Wait:
    """One request's place with a server, which `end` gives up once."""

    __slots__ = ("_before", "_began_s", "_limiter")

    def __init__(self, limiter: Limiter) -> None:
        self._limiter: Limiter | None = limiter
        self._before, self._began_s = limiter.begin(), time.perf_counter()

    def end(self, *, at_s: float | None = None, finished: bool = True) -> None:
        """Count the request out. A second call changes nothing.

        Args:
            at_s: When its answer arrived, on the clock of `time.perf_counter`. None: now. What the event loop does
                between the arrival and this call is no sign of a slow server.
            finished: False: it was given up.
        """
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            ended_s = time.perf_counter() if at_s is None else at_s
            limiter.end(self._before, ended_s - self._began_s, finished=finished)
