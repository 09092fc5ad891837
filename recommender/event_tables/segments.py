"""The shipped segments of the log of events, and the campaigns that they rule out. Needs no data framework."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from recommender.decisions.names import SegmentName, segments_in
from recommender.events.tail import WITHOUT_ROW, Out, Recent, out

_MARKS = tuple(b'"%s"' % kind.encode() for kind in WITHOUT_ROW)
"""What a line of such an event holds. Most lines hold none, and finding that out is faster than parsing them."""


def segments_of(folder: Path) -> list[Path]:
    """The shipped segments, of each writer those up to the first gap: what follows is still on its way."""
    kept: list[Path] = []
    following: dict[str, int] = {}
    for path in sorted(segments_in(folder) if folder.is_dir() else (), key=_place):
        name = SegmentName.of(path)
        if name is not None and following.get(name.writer, name.number) == name.number:
            following[name.writer] = name.number + 1
            kept.append(path)
    return kept


def campaign_marks(segments: Sequence[Path]) -> dict[str, list[Recent]]:
    """Of each user the events that hide a campaign, show it again or take it up, in the order of arrival."""
    arrived: dict[str, list[tuple[int, Recent]]] = {}
    for stem, line in lines_of_segments(segments):
        if not any(mark in line for mark in _MARKS):
            continue
        event = parsed(line)
        if event and event["kind"] in WITHOUT_ROW and "campaign_id" in event and "quarantined" not in event:
            mark = Recent(event["kind"], event["time_us"], stem, campaign_id=event["campaign_id"])
            arrived.setdefault(event["user_id"], []).append((event["received_us"], mark))
    return {user: [mark for _, mark in sorted(found, key=itemgetter(0))] for user, found in arrived.items()}


def campaigns_out(folder: Path, *, repeats: bool = False) -> dict[str, dict[str, Out]]:
    """Of each user the campaigns that the log in `folder` makes no candidates, and why.

    Those that the user has hidden or disliked, and not liked since, and without `repeats` those that the user took up.
    """
    found = {user: out(marks) for user, marks in campaign_marks(segments_of(folder)).items()}
    kept = {
        user: {campaign: why for campaign, why in gone.items() if why == "hidden" or not repeats}
        for user, gone in found.items()
    }
    return {user: gone for user, gone in kept.items() if gone}


def lines_of_segments(segments: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """The lines of segments, each with its segment's stem."""
    for segment in segments:
        for line in segment.read_bytes().splitlines():
            yield segment.stem, line


def parsed(line: bytes) -> dict[str, Any] | None:
    """The event of a line. None for a segment's seal, or a line that a kill cut off before it was acknowledged."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return event if isinstance(event, dict) and "event_id" in event else None


def _place(path: Path) -> tuple[str, int]:
    name = SegmentName.of(path)
    return ("", 0) if name is None else (name.writer, name.number)
