"""CPU-seconds of an event in shops of one and ten million events, beside a core part by pandas and Polars."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.decision.rows import Row
from benchmarks.features.built import build_measured
from benchmarks.features.frames import ENGINES, measured_with
from benchmarks.features.worlds import AS_OF, write_world
from benchmarks.ingest.child import ChildFailed, Measured

SMALL, MEDIUM = 1_000_000, 10_000_000
LIMIT = 0.3
"""How much more or less CPU time an event may take than one of a million events."""
LIMIT_GIB = 8.0


@dataclass(frozen=True)
class Shop:
    """What a shop's features cost."""

    num_events: int
    built: Measured | str
    """Ours, or why it did not finish."""
    frames: dict[str, Measured | str]
    """A core part by other engines, or why there is no figure."""


def rows(say: Callable[[str], None]) -> list[Row]:
    """CPU-microseconds of an event, with the start of the process, the peak, and rows a second."""
    return compared(*(measured(say, count) for count in (SMALL, MEDIUM)))


def measured(say: Callable[[str], None], num_events: int, scratch: Path | None = None) -> Shop:
    """Write a shop and build its features. `scratch`: folder for both, by default the system's for temporary files."""
    with TemporaryDirectory(prefix="features-", dir=scratch) as name:
        folder = Path(name)
        write_world(num_events, folder / "tables")
        say(f"{num_events:,} events: the tables are written")
        built = _built(folder)
        cost = built if isinstance(built, str) else f"{built.cpu_s:.1f} CPU-s, {built.peak_gib:.2f} GiB"
        say(f"{num_events:,} events: {cost}")
        frames = {}
        for engine in ENGINES:
            frames[engine] = found = measured_with(engine, folder / "tables", folder / engine, limit_gib=LIMIT_GIB)
            said = found if isinstance(found, str) else f"{engine}: {found.cpu_s:.1f} CPU-s, {found.wall_s:.0f} s"
            say(f"{num_events:,} events: {said}")
    return Shop(num_events, built, frames)


def _built(folder: Path) -> Measured | str:
    try:
        return build_measured(folder / "tables", folder / "features", AS_OF, limit_gib=LIMIT_GIB)
    except ChildFailed as error:
        return f"did not finish: {str(error).splitlines()[0].rpartition(': ')[2]}"


def compared(small: Shop, large: Shop) -> list[Row]:
    """The rows of two shops. One that did not finish has only the row that says so, and those of the other engines."""
    if isinstance(small.built, str) or isinstance(large.built, str):
        failed = [shop for shop in (small, large) if isinstance(shop.built, str)]
        rows = [row for shop in (small, large) for row in _rows(shop)]
        return rows + [
            Row(name=f"{_millions(shop)}: finished", value=0.0, goal=">= 1", held=False, facts={"why": shop.built})
            for shop in failed
        ]
    per_event = [1e6 * built.cpu_s / shop.num_events for shop, built in ((small, small.built), (large, large.built))]
    more, millions = per_event[1] / per_event[0] - 1, _millions(large)
    return [
        *_rows(small),
        *_rows(large),
        Row(
            name=f"{millions}: CPU time an event more than of {_millions(small).removesuffix(' events')}",
            value=more,
            goal=f"within {LIMIT:.0%}",
            held=abs(more) <= LIMIT,
        ),
        Row.at_most(f"{millions}: peak, GiB", large.built.peak_gib, LIMIT_GIB),
    ]


def _rows(shop: Shop) -> list[Row]:
    name, built = _millions(shop), shop.built
    rows = []
    if isinstance(built, Measured):
        rows = [
            Row(name=f"{name}: CPU-µs an event", value=1e6 * built.cpu_s / shop.num_events, goal="", facts=vars(built)),
            Row(name=f"{name}: events a CPU-second, all features", value=shop.num_events / built.cpu_s, goal=""),
        ]
    for engine, cost in shop.frames.items():
        # An engine that is not installed has no row. One that did not finish has 0.
        if isinstance(cost, Measured):
            facts, value = vars(cost), shop.num_events / cost.cpu_s
        elif "not installed" in cost:
            continue
        else:
            facts, value = {"why": cost}, 0.0
        rows.append(
            Row(name=f"{name}: events a CPU-second, a core part by {engine}", value=value, goal="", facts=facts)
        )
    return rows


def _millions(shop: Shop) -> str:
    return f"{shop.num_events // 1_000_000} M events"
