"""Which features a source cannot have, because it lacks a column or a kind of event.

A shop without a file of users or items has tables of their identifiers (`recommender.datasets.derive`), which lack all
other columns.

needs.json says which features need which part. It is found by trial (`python -m benchmarks.features.needs`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recommender.datasets.tables import CONTRACT, EVENT_KINDS, Tables
from recommender.features.people import Attribute
from recommender.features.shared import Shared

NEEDS_FILE = Path(__file__).with_name("needs.json")
LOOK_KINDS = ("view", "click", "cart", "search", "review", "like", "favourite")
"""Kinds that say what a user looked at. Only together are they needed."""
_ATTRIBUTES = tuple(name for name in CONTRACT["users"].columns if name not in ("user_id", "joined_at"))


@dataclass(frozen=True)
class Part:
    """A part of a source that it may lack."""

    name: str
    """As it is shown."""
    table: str
    column: str
    columns: tuple[str, ...] = ()
    """Several columns, of which all are missing."""
    kinds: tuple[str, ...] = ()
    """Kinds of events, of which all are missing."""
    hours: bool = False

    def smaller(self) -> list["Part"]:
        """The parts that are missing too where this one is."""
        if len(self.columns) > 1 or len(self.kinds) > 1:
            own = {*self.columns, *self.kinds}
            return [part for part in told_parts() if part != self and own >= {*part.columns, *part.kinds} != set()]
        return []


@cache
def told_parts() -> tuple[Part, ...]:
    """Every part of the contract that a source may lack, single ones first."""
    return tuple(_parts())


def _parts() -> Iterator[Part]:
    for table, contract in CONTRACT.items():
        for column, wanted in contract.columns.items():
            if not wanted.required:
                yield Part(f"{table}.{column}", table, column, (column,))
    for kind in EVENT_KINDS:
        if kind not in ("purchase", "return"):
            yield Part(f"events of the kind {kind}", "events", "kind", kinds=(kind,))
    yield Part("the hour of events", "events", "event_time", hours=True)
    yield Part("attributes of users", "users", "columns", _ATTRIBUTES)
    yield Part("any view, click, cart, like, favourite, search or review", "events", "kind", kinds=LOOK_KINDS)


def absent_features(tables: Tables, shared: Shared) -> dict[str, list[str]]:
    """What these tables lack -> the features that this costs. `*` in a name stands for each value of a column.

    An attribute of which all values are missing is as if it were not there, and so is a kind without an event.
    """
    needs: dict[str, list[str]] = json.loads(NEEDS_FILE.read_text(encoding="utf-8"))

    def lacks(part: Part) -> bool:
        if part.hours:
            return not tables.event_time_has_hours
        if part.kinds:
            return not set(part.kinds) & set(shared.kinds)
        return not any(_has(tables, part.table, column, shared.attributes) for column in part.columns)

    return {part.name: needs[part.name] for part in told_parts() if part.name in needs and lacks(part)}


def _has(tables: Tables, table: str, column: str, attributes: Mapping[str, Attribute]) -> bool:
    if not tables.has(table, column):
        return False
    own = attributes.get(column) if table == "users" else None
    return own is None or bool(own.rank or own.indicators)
