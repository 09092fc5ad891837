"""CPU-seconds of an event in shops of one and ten million events."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.decision.rows import Row
from benchmarks.features.built import build_measured
from benchmarks.features.worlds import AS_OF, write_world
from benchmarks.ingest.child import Measured

SMALL, MEDIUM = 1_000_000, 10_000_000
LIMIT = 0.3
"""How much more or less CPU time an event may take than one of a million events."""
LIMIT_GIB = 8.0


def rows(say: Callable[[str], None]) -> list[Row]:
    """CPU-microseconds of an event, without the start of the process, and the peak."""
    small, medium = (measured(say, count) for count in (SMALL, MEDIUM))
    return compared(small, medium, MEDIUM)


def measured(say: Callable[[str], None], num_events: int) -> Measured:
    """Write a shop and build its features."""
    with TemporaryDirectory(prefix="features-") as name:
        write_world(num_events, Path(name) / "tables")
        found = build_measured(Path(name) / "tables", Path(name) / "features", AS_OF, limit_gib=LIMIT_GIB)
    say(f"{num_events:,} events: {found.cpu_s:.1f} CPU-s, {found.peak_gib:.2f} GiB, {found.wall_s:.0f} s")
    return found


def compared(small: Measured, large: Measured, num_events: int) -> list[Row]:
    """The rows of the larger shop."""
    per_event = {SMALL: 1e6 * small.cpu_s / SMALL, num_events: 1e6 * large.cpu_s / num_events}
    more = per_event[num_events] / per_event[SMALL] - 1
    millions = f"{num_events // 1_000_000} M events"
    return [
        Row(name="1 M events: CPU-µs an event", value=per_event[SMALL], goal="", facts=vars(small)),
        Row(name=f"{millions}: CPU-µs an event", value=per_event[num_events], goal="", facts=vars(large)),
        Row(
            name=f"{millions}: CPU time an event more than of 1 M",
            value=more,
            goal=f"within {LIMIT:.0%}",
            held=abs(more) <= LIMIT,
        ),
        Row.at_most(f"{millions}: peak, GiB", large.peak_gib, LIMIT_GIB),
    ]
