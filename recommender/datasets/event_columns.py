"""Which columns of a log of events hold user, item, time, place and kind: the usual names, or those that are given."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recommender.datasets.draft.headers import meanings
from recommender.errors import SourceError, suggestion

USER, ITEM, TIME, PLACE, KIND = "user", "item", "time", "pos", "kind"
TIME_COLUMNS = ("timestamp", "time", "event_timestamp", "datetime", "date")
"""Names of times that are read even beside `pos`, the first first."""
NAMES: dict[str, tuple[str, ...]] = {
    USER: (
        *("user", "user_id", "userid", "visitorid", "visitor_id", "customerid", "clientid", "memberid", "uid"),
        *("reviewerid", "session_id", "sessionid"),
    ),
    ITEM: (
        *("item", "item_id", "itemid", "productid", "movieid", "movie_id", "articleid", "article_id"),
        *("stockcode", "stock_code"),
        *("asin", "parent_asin", "iid", "trackid", "track_id", "isbn"),
    ),
    TIME: (
        *TIME_COLUMNS,
        *("event_time", "ts", "unixreviewtime", "invoicedate", "invoice_date", "t_dat", "time_stamp"),
    ),
    PLACE: ("pos",),
    KIND: ("kind", "event", "event_type", "eventtype", "event_name", "type", "behavior", "behavior_type", "behaviour"),
}
"""Meaning -> names that exports give it, the likeliest first. Letter case does not count. After these come the words
that a draft of a mapping knows (`draft.vocabulary`), in six languages."""
DRAFTED = {USER: "user", ITEM: "item", TIME: "event_time", KIND: "kind"}
"""Meaning -> what a draft calls it."""
MOST_SHOWN = 300
"""Characters of a file's column names in an error message: a few lines of a terminal. By hand."""


@dataclass(frozen=True)
class EventColumns:
    """What is read of a log of events.

    Attributes:
        columns: "user", "item", "time", "pos" or "kind" -> the file's column. Others are found by their usual names.
        kinds: Kinds of events that count, as the file writes them. Empty: all.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    kinds: Sequence[str] = ()

    def choose(self, found: Sequence[str], path: Path) -> dict[str, str]:
        """Meaning -> column of a file with the columns `found`.

        Raises:
            SourceError: No column has the user, the item, an order of events, or a kind that is asked for.
        """
        for meaning, name in self.columns.items():
            if meaning not in NAMES:
                raise SourceError(f"columns: {meaning!r} is no meaning; {suggestion(meaning, NAMES)}")
            if name not in found:
                raise SourceError(f"{path}: no column {name!r}; {suggestion(name, found)}")
        chosen = {meaning: self.columns.get(meaning) or find_column(meaning, found) for meaning in NAMES}
        for meaning in (USER, ITEM, *([KIND] if self.kinds else ())):
            if chosen[meaning] is None:
                raise SourceError(
                    f"{path}: no column {meaning!r} ({', '.join(NAMES[meaning][:4])} …); there are {names(found)}. "
                    f"Name it with --columns {meaning}=COLUMN"
                )
        if TIME not in self.columns and chosen[PLACE] is not None:
            # `pos` orders the events, so a time is read only if nobody can mistake it.
            chosen[TIME] = _first(TIME_COLUMNS, found)
        if chosen[PLACE] is None and chosen[TIME] is None:
            raise SourceError(
                f"{path}: neither 'pos' nor a timestamp ({', '.join(NAMES[TIME][:7])} …), so the order of events is "
                f"unknown; there are {names(found)}. Name one with --columns time=COLUMN"
            )
        return {meaning: name for meaning, name in chosen.items() if name is not None}


def find_column(meaning: str, found: Sequence[str]) -> str | None:
    """The column of a file that has a usual name of `meaning`."""
    usual = _first(NAMES[meaning], found)
    if usual is not None or meaning not in DRAFTED:
        return usual
    ranked = [(meanings(name)[DRAFTED[meaning]], name) for name in found if DRAFTED[meaning] in meanings(name)]
    return min(ranked)[1] if ranked else None


def names(found: Sequence[str]) -> str:
    """The names of a file's columns for an error message, shortened where there are many."""
    return textwrap.shorten(", ".join(found), MOST_SHOWN, placeholder=" …")


def _first(wanted: Sequence[str], found: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(found)}
    return next((lower[name] for name in wanted if name in lower), None)
