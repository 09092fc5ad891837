"""A user's tail: the events after the user's materialised row, as the online store keeps them beside it.

A tail is lines of JSON with short keys, in the order of arrival. A materialisation replaces the row and leaves the tail
alone. Which of its events the new row has read already is told by the row's moment and by `Readings`.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import orjson

from recommender.decisions.names import SegmentName
from recommender.errors import FeatureStoreError
from recommender.events.contract import HIDING, Stamped
from recommender.storage.manifest import write_text

_FIELDS = {
    "item_id": "i",
    "campaign_id": "c",
    "basket_id": "b",
    "amount": "a",
    "discount": "d",
    "coupon_discount": "o",
    "rating": "r",
    "quantity": "n",
    "query": "q",
    "dwell_s": "w",
}
"""Fields of an event that the fold reads -> their keys in a tail."""
OF_CAMPAIGNS = (*HIDING, "like")
"""Kinds whose newest event about a campaign says whether it is hidden. No materialised row holds that."""
TAKING = "participation"
WITHOUT_ROW = (*OF_CAMPAIGNS, TAKING)
"""Kinds that count, where they name a campaign, for a user of whom the store has no row yet."""
Out = Literal["taken_up", "hidden"]
"""Why events make a campaign no candidate."""
FORMAT, KEPT_READINGS = 1, 3
"""Version of the file of readings, and how many it holds: while a run replaces the rows, the store holds two."""


class Recent(NamedTuple):
    """One event of a tail."""

    kind: str
    time_us: int
    stem: str
    """The segment of the log of events that holds it."""
    item_id: str | None = None
    campaign_id: str | None = None
    basket_id: str | None = None
    amount: float | None = None
    discount: float | None = None
    coupon_discount: float | None = None
    rating: float | None = None
    quantity: float | None = None
    query: str | None = None
    dwell_s: float | None = None


def line_of(stamped: Stamped, stem: str) -> bytes:
    """The line that a tail gets for an event whose segment is `stem`."""
    event = stamped.event
    fields = {key: value for name, key in _FIELDS.items() if (value := getattr(event, name)) is not None}
    return orjson.dumps({"k": event.kind, "t": stamped.time_us, "s": stem, **fields}) + b"\n"


def lines_of(tail: bytes) -> Iterator[tuple[bytes, Recent]]:
    """The lines of a tail with their events.

    Raises:
        FeatureStoreError: a line is damaged.
    """
    for line in tail.splitlines(keepends=True):
        try:
            fields: dict[str, Any] = orjson.loads(line)
            found = Recent(
                kind=fields["k"],
                time_us=fields["t"],
                stem=fields["s"],
                **{name: fields[key] for name, key in _FIELDS.items() if key in fields},
            )
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise FeatureStoreError("the online store's tail of events is damaged; materialise again") from None
        yield line, found


@dataclass(frozen=True)
class Readings:
    """For the moments of materialised rows, the segments of the log of events that were read for them.

    By a moment (microseconds since 1970, UTC): writer -> number of its last segment, with all before it. A moment
    that is not here has rows of a source that is complete by itself: all that happened before it has been read.
    """

    by_moment: Mapping[int, Mapping[str, int]]

    def has_read(self, moment_us: int, event: Recent) -> bool:
        """Whether the row of a moment has read an event."""
        if event.time_us >= moment_us:
            return False
        read = self.by_moment.get(moment_us)
        if read is None:
            return True
        name = SegmentName.of(Path(f"{event.stem}.jsonl"))
        return name is not None and name.number <= read.get(name.writer, -1)

    def with_reading(self, moment_us: int, segments: Mapping[str, int] | None) -> Self:
        """These readings with that of a run that is about to write its rows. None: it read no segments."""
        others = {moment: read for moment, read in self.by_moment.items() if moment != moment_us}
        newest = {} if segments is None else {moment_us: dict(segments)}
        kept = dict(list(others.items())[: KEPT_READINGS - len(newest)])
        return type(self)({**newest, **kept})

    def save(self, path: Path) -> None:
        """Write them, whole or not at all."""
        moments = [{"moment_us": moment, "segments": dict(read)} for moment, read in self.by_moment.items()]
        write_text(path, json.dumps({"format": FORMAT, "readings": moments}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read them. No file: there are none.

        Raises:
            FeatureStoreError: the file is damaged; names it.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}")
            return cls({one["moment_us"]: one["segments"] for one in document["readings"]})
        except FileNotFoundError:
            return cls({})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FeatureStoreError(f"{path}: no readings of events ({error}); materialise again") from None


def unread(tail: bytes, moment_us: int, readings: Readings, open_campaigns: Collection[str] = ()) -> bytes:
    """A tail without the events that the row of a moment has read. The newest that hides or shows a campaign stays.

    What takes up one of `open_campaigns` stays too: there may be no row of the user that could have read it.
    """
    lines = list(lines_of(tail))
    newest = {id(event) for event in _newest(event for _, event in lines).values()}
    return b"".join(
        line
        for line, event in lines
        if id(event) in newest
        or (event.kind == TAKING and event.campaign_id in open_campaigns)
        or not readings.has_read(moment_us, event)
    )


def hidden(events: list[Recent]) -> set[str]:
    """The campaigns that the user has hidden or disliked, and not liked since."""
    return {campaign for campaign, event in _newest(events).items() if event.kind in HIDING}


def out(events: list[Recent]) -> dict[str, Out]:
    """The campaigns that these events make no candidates, and why."""
    taken = (event.campaign_id for event in events if event.kind == TAKING and event.campaign_id is not None)
    return {**dict.fromkeys(taken, "taken_up"), **dict.fromkeys(hidden(events), "hidden")}


def _newest(events: Iterable[Recent]) -> dict[str, Recent]:
    """Of each campaign the newest event that hides or shows it. Of two at one moment the one that came later."""
    newest: dict[str, Recent] = {}
    for event in events:
        if event.kind in OF_CAMPAIGNS and event.campaign_id is not None:
            known = newest.get(event.campaign_id)
            if known is None or event.time_us >= known.time_us:
                newest[event.campaign_id] = event
    return newest
