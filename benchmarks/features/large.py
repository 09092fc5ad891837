"""CPU-seconds of an event in a shop of a hundred million events and a million users: `make bench-features-large`."""

from collections.abc import Callable

from benchmarks.decision.rows import Row
from benchmarks.features.scale import SMALL, compared, measured

EVENTS = 100_000_000


def rows(say: Callable[[str], None]) -> list[Row]:
    """As `scale`, for a hundred million events."""
    return compared(measured(say, SMALL), measured(say, EVENTS), EVENTS)
