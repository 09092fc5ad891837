"""What a load run measured: counts by outcome, rates, latencies and the generator's own CPU time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

OUTCOMES = ("model", "popular", "refused", "error", "lost", "unanswered")
"""200 from a model, 200 degraded, 429 or 503, another status, connection lost, no answer within the patience."""
REFUSALS = (429, 503)
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_REASONS = b'"degraded_reasons":['


def outcome_of(status: int, body: bytes) -> str:
    """The outcome of an answer. A degraded answer says so in its body, which the gateway writes without spaces."""
    if status == 200:
        return "popular" if b'"degraded":true' in body else "model"
    if status in REFUSALS:
        return "refused"
    return "error" if status else "lost"


def reasons_of(body: bytes) -> list[str]:
    """The reasons of a degraded answer, read without parsing the whole body."""
    _, found, rest = body.partition(_REASONS)
    return rest.partition(b"]")[0].decode(errors="replace").replace('"', "").split(",") if found else []


def percentiles_ms(values: Sequence[float]) -> dict[str, float]:
    """The percentiles of seconds, in milliseconds, under names such as p99.9."""
    return {f"p{percent:g}": round(percentile(values, percent) * 1e3, 3) for percent in PERCENTILES}


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile. NaN for no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass
class Result:
    """One run. Latencies count from the moment at which a request should have been sent."""

    rate: float | None
    """Requests per second that were intended. None: a closed loop, which sends as fast as answers come."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """CPU time of the generator's process during the run."""
    most_connections: int = 0
    late_s: list[float] = field(default_factory=list)
    """Seconds between the intended and the real moment of each request of an open loop: what the generator adds."""
    waited: int = 0
    """Requests that found every connection in use, and waited for one."""
    latencies_s: dict[str, list[float]] = field(default_factory=lambda: {outcome: [] for outcome in OUTCOMES})
    ended_s: dict[str, list[float]] = field(default_factory=lambda: {outcome: [] for outcome in OUTCOMES})
    """Seconds from the start of the run to each answer, in the order of `latencies_s`."""
    statuses: dict[int, int] = field(default_factory=dict)
    """Status -> answers. 0: there was no answer."""
    degraded_reasons: dict[str, int] = field(default_factory=dict)
    """Reason of a degraded answer -> answers. One answer may have several."""

    def note(self, outcome: str, status: int, latency_s: float, ended_s: float, body: bytes = b"") -> None:
        """Count one request."""
        if outcome == "popular":
            for reason in reasons_of(body):
                self.degraded_reasons[reason] = self.degraded_reasons.get(reason, 0) + 1
        self.latencies_s[outcome].append(latency_s)
        self.ended_s[outcome].append(ended_s)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def per_second(self, outcome: str, *, within_s: float = float("inf")) -> float:
        """Answers of an outcome per second of the run, without those later than `within_s`."""
        return sum(latency <= within_s for latency in self.latencies_s[outcome]) / max(self.seconds, 1e-9)

    @property
    def cpu_share(self) -> float:
        """CPU time of the generator per second of the run. It has one thread, so at 1 it can do no more."""
        return self.cpu_seconds / max(self.seconds, 1e-9)

    def document(self) -> dict[str, Any]:
        """The figures as JSON, without the single latencies."""
        kept = asdict(self)
        latencies = kept.pop("latencies_s")
        for name in ("ended_s", "late_s"):
            kept.pop(name)
        return {
            **kept,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "requests": sum(map(len, latencies.values())),
            "per_second": {outcome: round(self.per_second(outcome), 2) for outcome in OUTCOMES},
            "ms": {outcome: percentiles_ms(values) for outcome, values in latencies.items() if values},
            "late_ms": percentiles_ms(self.late_s) if self.late_s else {},
            "generator_cpu_share": round(self.cpu_share, 3),
        }
