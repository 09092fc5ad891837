"""How a metric is described: name, kind, labels, meaning; and what an alert says of one."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Severity = Literal["page", "ticket"]


@dataclass(frozen=True)
class Alert:
    """A state of a metric that somebody should know of."""

    name: str
    on: str
    """The metric beside which it is listed."""
    expression: str
    """PromQL. It may name listed metrics only."""
    minutes: int
    """For how long it must hold."""
    severity: Severity
    """`page`: shoppers notice. `ticket`: within a working day."""
    action: str
    """What to do."""


@dataclass(frozen=True)
class Listed:
    """One metric of the gateway."""

    name: str
    """As Prometheus stores it, so a counter's name ends with _total."""
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    summed: bool = False
    """Whether a gauge of several gateway processes is the sum of theirs. Otherwise it is the largest."""


def _listed(kind: Kind, name: str, meaning: str, *labels: str, summed: bool = False) -> Listed:
    return Listed(name, kind, meaning, labels, summed)


counter, gauge, histogram = partial(_listed, "counter"), partial(_listed, "gauge"), partial(_listed, "histogram")
