"""The ledger of a gate period: every attempt spends a part of what false promotions it may cost, so trying again costs.

Attempts whose gate periods overlap share one allowance, whoever the challenger and the champion are. The k-th of them
may promote an equal challenger with probability `false_promotions` / (k (k + 1)). All attempts in which one campaign
decides overlap each other, so theirs sum to `false_promotions` at most, over any number of attempts and whatever they
have in common: alpha spending (Lan & DeMets, Biometrika, 1983) by the union bound. Periods without a common campaign
have an allowance each. The first attempt gets half. One that could not promote, for too few campaigns or
participations, spends nothing. Judging the same subject again is the same attempt.

The attempts are read from the registry's history, which is append-only.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class Attempt(BaseModel):
    """One attempt on a gate period."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    """1 for the first attempt on any overlapping gate period."""
    level: float
    """Probability with which it may promote an equal challenger, one-sided."""
    challenger: str
    champion: str
    subject: str
    """Hash of what is judged."""
    gate_from: datetime
    gate_to: datetime

    @property
    def confidence(self) -> float:
        """Level of the two-sided interval whose lower end has the attempt's error rate."""
        return 1 - 2 * self.level

    def overlaps(self, gate_from: datetime, gate_to: datetime) -> bool:
        """Whether a campaign can lie in both gate periods."""
        return self.gate_from < gate_to and gate_from < self.gate_to


def level_of(number: int, false_promotions: float) -> float:
    """What the attempt of this number, from 1, may spend."""
    return false_promotions / (number * (number + 1))


def attempts(history: Iterable[Mapping[str, Any]], gate_from: datetime, gate_to: datetime) -> list[Attempt]:
    """List the attempts on gate periods that overlap with this one, from the registry's history, each subject once."""
    found: dict[str, Attempt] = {}
    for event in history:
        recorded = event.get("verdict", {}).get("attempt") if event.get("what") == "judged" else None
        if recorded:
            attempt = Attempt.model_validate(recorded)
            if attempt.overlaps(gate_from, gate_to):
                found.setdefault(attempt.subject, attempt)
    return list(found.values())


def next_attempt(
    earlier: Iterable[Attempt],
    *,
    subject: str,
    challenger: str,
    champion: str,
    gate_from: datetime,
    gate_to: datetime,
    false_promotions: float,
) -> Attempt:
    """Return the attempt on a subject: the one that was made on it before, or a new one after all `earlier` ones."""
    others = [attempt for attempt in earlier if attempt.overlaps(gate_from, gate_to)]
    for attempt in others:
        if attempt.subject == subject:
            return attempt
    number = len(others) + 1
    return Attempt(
        number=number,
        level=level_of(number, false_promotions),
        challenger=challenger,
        champion=champion,
        subject=subject,
        gate_from=gate_from,
        gate_to=gate_to,
    )
