"""Circuit breaker of one version: while it is open, no request waits for the version.

    closed      requests go to the version
    open        they do not; a probe is due `pause_s` after it opened, or after the last probe
    half_open   a probe is under way, and requests still do not go there: its answer closes or opens the breaker

(Nygard, *Release It!*, 2018, ch. 5.) `sick_since_s` outlasts a short recovery: a version that answers probes and fails
requests opens its breaker again and again, and is sick all the while.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from recommender.settings import IsolationSettings

State = Literal["closed", "half_open", "open"]
LEAST_REQUESTS = 20
"""Requests in the window before a share of failures means anything. By hand: with half of 20 failing, the version
fails more than a fifth of all requests with a probability above 99 %."""


@dataclass
class Breaker:
    """Counts what became of a version's requests. Times are seconds of one monotonic clock."""

    limits: IsolationSettings
    patience_s: float
    """Late answers open it only after this time, because a busy moment makes many requests late at once."""
    state: State = "closed"
    answered: bool = False
    """Whether the version has ever answered."""
    last_answer_s: float = float("-inf")
    sick_since_s: float | None = None
    problem: str = ""
    """What went wrong last."""
    _in_row: int = 0
    _failing_since_s: float = 0.0
    _changed_s: float = 0.0
    """When it opened, closed, or was probed last."""
    _window: deque[tuple[float, bool]] = field(default_factory=deque)
    _window_failures: int = 0

    def succeeded(self, now_s: float) -> None:
        """Count an answer to a request."""
        self.answered, self.last_answer_s = True, now_s
        if self.state == "closed":
            self._in_row = 0
            self._count(now_s, failed=False)

    def failed(self, now_s: float, problem: str, *, late: bool = False) -> None:
        """Count a request without an answer. What was under way when the breaker opened changes nothing any more."""
        if self.state != "closed":
            return
        self.problem = problem
        self._failing_since_s = self._failing_since_s if self._in_row else now_s
        self._in_row += 1
        self._count(now_s, failed=True)
        in_row = self._in_row >= self.limits.failures
        if late and now_s - self._failing_since_s < self.patience_s:
            in_row = False
        num = len(self._window)
        if in_row or (num >= LEAST_REQUESTS and self._window_failures >= self.limits.failure_share * num):
            self._open(now_s)

    def probe_is_due(self, now_s: float) -> bool:
        """Whether an open breaker's next probe is due."""
        return self.state == "open" and now_s - self._changed_s >= self.limits.pause_s

    def probing(self) -> None:
        """Note that a probe of an open breaker is under way."""
        self.state = "half_open"

    def probed(self, now_s: float, problem: str | None) -> None:
        """Count a probe's result (`problem` None: it was answered).

        A probe closes an open breaker. An answer to one says nothing about requests that fail, so it ends no row.
        """
        if problem is None:
            self.answered, self.last_answer_s = True, now_s
            if self.state == "half_open":
                self.state, self._changed_s, self._in_row, self._window_failures = "closed", now_s, 0, 0
                self._window.clear()
        elif self.state == "half_open":
            self.state, self._changed_s, self.problem = "open", now_s, problem
        else:
            self.failed(now_s, problem, late=True)

    def tick(self, now_s: float) -> None:
        """Forget that the version was sick once the breaker has stayed closed for a whole window."""
        if self.state == "closed" and self.sick_since_s is not None and now_s - self._changed_s >= self.limits.window_s:
            self.sick_since_s = None

    def _open(self, now_s: float) -> None:
        self.state, self._changed_s = "open", now_s
        if self.sick_since_s is None:
            self.sick_since_s = now_s

    def _count(self, now_s: float, *, failed: bool) -> None:
        self._window.append((now_s, failed))
        self._window_failures += failed
        while self._window[0][0] < now_s - self.limits.window_s:
            self._window_failures -= self._window.popleft()[1]
