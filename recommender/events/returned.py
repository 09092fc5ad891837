"""Takes back purchases of a tail by the returns in it, as `recommender.datasets.returns` does with all events.

A return takes the most recent earlier purchases of the item, in units where every purchase and return of it has a
quantity, else in money where all have an amount, else in lines. A row holds no quantities. So a return that would reach
a purchase of the row, or that the row's purchases of the item might count in another measure, waits for the next
materialisation.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from recommender.datasets.time_units import SECOND_US
from recommender.events.tail import Recent

MICRO = 1_000_000
"""Quantities and money are counted in millionths, so that sums are exact."""


class Back(NamedTuple):
    """What came back of a purchase."""

    share: float
    """Of the purchase, in (0, 1]."""
    time_us: int
    """Of the return that took the last of it."""


def taken_back(events: Sequence[Recent], is_bought_before: Callable[[str], bool], at_us: int) -> dict[int, Back]:
    """What of the tail's purchases has come back: place in `events` -> how much.

    Args:
        events: of the tail, in the order of arrival.
        is_bought_before: whether a row has purchases of an item.
        at_us: the moment. Returns of its very second are known later.
    """
    found: dict[int, Back] = {}
    for item in {event.item_id for event in events if event.kind == "return" and event.item_id is not None}:
        walked = [
            (event.time_us, event.kind == "return", place)
            for place, event in enumerate(events)
            if event.item_id == item and event.kind in ("purchase", "return")
        ]
        own = [events[place] for _, _, place in sorted(walked)]
        places = [place for _, _, place in sorted(walked)]
        before = is_bought_before(item)
        walks = [_walk(own, units) for units in _measures(own, every=before)]
        backs, reaches_before = walks[0]
        if before and (reaches_before or any(other != walks[0] for other in walks)):
            continue
        for place, back in backs.items():
            if at_us // SECOND_US > back.time_us // SECOND_US:
                found[places[place]] = back
    return found


def _measures(own: Sequence[Recent], *, every: bool) -> list[list[int]]:
    """Units of each line: in the measure that counts, or in `every` one that may count."""
    found = []
    for values in ([event.quantity for event in own], [event.amount for event in own], [1.0 for _ in own]):
        if all(values):
            found.append([round(MICRO * (value or 0.0)) for value in values])
    return found if every else found[:1]


def _walk(own: Sequence[Recent], units: Sequence[int]) -> tuple[dict[int, Back], bool]:
    """What came back of each purchase, by place, and whether something came back that was bought before these lines."""
    left: list[list[int]] = []  # the stack: place, and units that are left of it
    found: dict[int, Back] = {}
    reaches_before = False
    for place, event in enumerate(own):
        if event.kind == "purchase":
            left.append([place, units[place]])
            continue
        taken = units[place]
        while taken and left:
            last, of_last = left[-1]
            left[-1][1] = of_last - min(taken, of_last)
            taken -= min(taken, of_last)
            found[last] = Back((units[last] - left[-1][1]) / units[last], event.time_us)
            if not left[-1][1]:
                left.pop()
        reaches_before = reaches_before or taken > 0
    return found, reaches_before
