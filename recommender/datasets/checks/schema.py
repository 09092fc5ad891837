"""What changed between two runs in the tables' columns, their types and the meaning of their numbers and times.

A change after which old and new rows no longer mean the same stops the run, until a person accepts it. A table or a
column that is new stops nothing: it is announced, and used from then on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from recommender.datasets.checks.check import Check, check_at
from recommender.datasets.currencies import decimals
from recommender.datasets.tables import CONTRACT, Tables

GROUP = "schema"
"""Every check here is named after it. `recommender validate --accept schema` accepts all that failed."""
NOT_STATED, ABSENT = "not stated", "–"
_PLACES = {"currency": "events.amount", "time_zone": "events.event_time", "hours": "events.event_time"}
"""Facts, and the columns whose meaning they are."""
_EMPTY = "null"
"""The type of a column in which every value is missing: of no type of its own."""


@dataclass(frozen=True)
class Shape:
    """The columns of a run's tables, and what their numbers and times mean."""

    columns: Mapping[str, str]
    """`table.column` -> dtype. Empty: not known."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """currency, time zone, and whether events have hours."""

    @classmethod
    def of(cls, tables: Tables, dtypes: Mapping[str, Mapping[str, str]]) -> "Shape":
        """Of tables, whose files have these dtypes."""
        return cls(
            {f"{table}.{column}": dtype for table, own in dtypes.items() for column, dtype in own.items()},
            {
                "currency": tables.currency or NOT_STATED,
                "time_zone": tables.time_zone,
                "hours": "yes" if tables.event_time_has_hours else "no",
            },
        )


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference between the last good run and this one."""

    name: str
    """`table`, `table.column`, or a fact."""
    before: str
    after: str
    stops: bool
    remedy: str

    @property
    def is_fact(self) -> bool:
        """Whether it is of the meaning of numbers or times, and not of a table or column."""
        return self.name in _PLACES

    @property
    def check(self) -> Check:
        """As a check that does not hold."""
        # What is accepted once is this change, so its name says from what to what.
        told = f".{self.before}-{self.after}" if self.is_fact else ""
        return check_at(
            f"{GROUP}.{self.name}{told}".replace(" ", "_"),
            at=_PLACES.get(self.name, self.name),
            severity="critical" if self.stops else "warning",
            value=1.0,
            most=0.0,
            sentence=f"{self.name} is as in the last good run",
            cause=f"{self.name} was {self.before}, and is {self.after}: {self.remedy}",
        )


def changes(now: Shape, before: Shape | None) -> list[Change]:
    """What changed since the last good run. Nothing on a first run."""
    if before is None:
        return []
    return [*_facts(now.facts, before.facts), *_columns(now.columns, before.columns)]


SCHEMA_HOLDS = check_at(
    GROUP, at="events", value=0.0, most=0.0, sentence="columns, types, currency and time zone are as before"
)
"""What is checked where nothing changed."""


def in_a_table(found: Sequence[Change]) -> str:
    """The changes as lines of a table: what, before, after, what to do."""
    rows = [("what", "last good run", "now", "what to do")]
    rows += [(one.name, one.before, one.after, f"{'' if one.stops else 'nothing: '}{one.remedy}") for one in found]
    return aligned(rows)


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of texts as lines, in columns that are as wide as their widest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _facts(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[Change]:
    for name in before:
        if name not in now or now[name] == before[name]:
            continue
        old, new = before[name], now[name]
        change = Change(name=name, before=old, after=new, stops=True, remedy=_REMEDIES[name])
        if name == "currency" and old == NOT_STATED and decimals(new) == decimals(None):
            yield Change(name=name, before=old, after=new, stops=False, remedy="stated now, in the same minor unit")
        elif name == "hours" and new == "yes":
            yield Change(name=name, before=old, after=new, stops=False, remedy="features of hours appear")
        else:
            yield change


_REMEDIES = {
    "currency": "state the currency in which the amounts are, or accept that all amounts are in another one now",
    "time_zone": "state the zone of the shops' clocks, or accept that hours and days are others now",
    "hours": "export the time of day again, or accept that features of hours vanish",
}


def _columns(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[Change]:
    tables = {
        names: {name.split(".")[0] for name in names_of} for names, names_of in (("now", now), ("before", before))
    }
    for table in CONTRACT:
        if table in tables["before"] - tables["now"]:
            yield Change(
                name=table,
                before="a table",
                after=ABSENT,
                stops=True,
                remedy="export or map it again, or accept that it is gone",
            )
        elif table in tables["now"] - tables["before"]:
            yield Change(name=table, before=ABSENT, after="a table", stops=False, remedy="used from now on")
    both = tables["now"] & tables["before"]
    for name in dict.fromkeys([*before, *now]):
        if name.split(".")[0] not in both:
            continue
        if name not in now:
            remedy = "export or map it again, or accept that it is gone"
            yield Change(name=name, before=before[name] or "a column", after=ABSENT, stops=True, remedy=remedy)
        elif name not in before:
            yield Change(name=name, before=ABSENT, after=now[name], stops=False, remedy="used from now on")
        elif {now[name], before[name]}.isdisjoint(("", _EMPTY)) and now[name] != before[name]:
            remedy = "export or map it as the type that it had, or accept the new one"
            yield Change(name=name, before=before[name], after=now[name], stops=True, remedy=remedy)
