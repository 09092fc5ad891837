"""The contract of one event that comes in over HTTP, and what is wrong with one that breaks it.

The fields are those of the canonical table `events`, with the same names and units. Three kinds are of campaigns:
`participation` (the user took it up), `hide` and `dislike` (it is not to be shown to this user again).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recommender.datasets.time_units import SECOND_US
from recommender.matching.event_rules import EventRules
from recommender.settings import EventSettings

# fmt: off
Kind = Literal[
    "view", "click", "cart", "purchase", "return", "review", "search", "share", "like", "comment", "favourite",
    "follow", "hide", "dislike", "participation",
]
# fmt: on
KINDS: tuple[str, ...] = get_args(Kind)
HIDING = ("hide", "dislike")
"""After these the campaign is no candidate for the user, until the user likes it."""
NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("cart", "purchase", "return", "review"), ("item_id",)),
    **dict.fromkeys(("hide", "dislike", "participation"), ("campaign_id",)),
    **dict.fromkeys(("view", "click", "share", "like", "comment", "favourite"), ("item_id", "campaign_id")),
    "search": ("query",),
    "follow": (),
}
"""Kind -> fields of which it must have one."""
BELONGS_TO: Mapping[str, tuple[str, ...]] = {
    "quantity": ("cart", "purchase", "return"),
    "amount": ("cart", "purchase", "return"),
    "discount": ("purchase",),
    "coupon_discount": ("purchase",),
    "currency": ("cart", "purchase", "return"),
    "rating": ("review",),
    "query": ("search",),
    "text": ("review", "comment"),
    "dwell_s": ("view", "click"),
    "coupon_id": ("purchase", "participation"),
}
"""Field -> the only kinds that may have it."""
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""An earlier event is a wrong unit or a broken clock."""
RATING_FACTOR = 2.0
"""A rating of more than so many times the largest one is on another scale. By hand: on a scale of five some shopper has
given three, and ten or a hundred would be another scale."""
DATED = tuple(kind for kind in KINDS if kind not in (*HIDING, "participation"))
"""Kinds that become rows of the table `events`, whose days are closed at some time (`recommender.days`)."""

Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
# By hand: what no shop has. A wrong unit is found by what the shop's tables have (`too_large`).
Money = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Wrong(NamedTuple):
    """A field that is wrong, and why. It repeats no value."""

    field: str
    reason: str


class Event(BaseModel):
    """One thing that a user did."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    event_id: Annotated[
        Identifier, Field(description="Chosen by the sender. An event with an id that came before changes nothing.")
    ]
    user_id: Identifier
    kind: Kind
    event_time: Annotated[
        str | None, Field(max_length=40, description="ISO 8601 with a time zone. Left out: the moment of arrival.")
    ] = None
    item_id: Identifier | None = None
    campaign_id: Identifier | None = None
    basket_id: Annotated[
        Identifier | None,
        Field(description="Events that share it happened together. Left out: what has the same time."),
    ] = None
    quantity: Annotated[float | None, Field(gt=0, le=1e6, allow_inf_nan=False, description="Units.")] = None
    amount: Annotated[Money | None, Field(description="Money paid, in units of the shop's currency.")] = None
    discount: Annotated[Money | None, Field(description="Money that the shop took off.")] = None
    coupon_discount: Annotated[Money | None, Field(description="Money that a coupon took off.")] = None
    currency: Annotated[str | None, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code of the amounts.")] = None
    rating: Annotated[float | None, Field(ge=0, le=100, allow_inf_nan=False)] = None
    query: Annotated[str | None, Field(min_length=1, max_length=500, description="Words of a search.")] = None
    text: Annotated[str | None, Field(max_length=5_000, description="Words of a review or a comment.")] = None
    dwell_s: Annotated[
        float | None, Field(ge=0, le=86_400, allow_inf_nan=False, description="Seconds spent on what was viewed.")
    ] = None
    coupon_id: Identifier | None = None
    store_id: Identifier | None = None
    page: Annotated[str | None, Field(max_length=500)] = None
    device: Annotated[str | None, Field(max_length=200)] = None
    location: Annotated[str | None, Field(max_length=200)] = None


class EventBatch(BaseModel):
    """Several events."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    # The largest `events.most_in_batch` that settings allow.
    events: Annotated[
        list[Event],
        Field(
            min_length=1,
            max_length=1_000,
            description="As many as the setting `events.most_in_batch` allows, which is 200 unless changed.",
        ),
    ]


class Stamped(NamedTuple):
    """An event that keeps the contract, and its time in microseconds since 1970, UTC."""

    event: Event
    time_us: int


def read_event(document: Any, now_us: int, *, rules: EventRules, settings: EventSettings) -> Stamped | list[Wrong]:
    """Check one event against the contract.

    Args:
        document: the event as JSON gave it.
        now_us: the present moment, microseconds since 1970, UTC.
        rules: what the shop's tables say. Without a currency there, an event may state none.
        settings: how far ahead of now an event may be, and how far above the tables' largest values.
    """
    if not isinstance(document, dict):
        return [Wrong("body", "an event is an object")]
    try:
        event = Event.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return [Wrong(".".join(str(part)[:64] for part in one["loc"]) or "body", one["msg"]) for one in found]
    time_us, wrong = _time_of(event, now_us, settings.future_s)
    wrong += [
        Wrong(field, f"does not belong to an event of kind {event.kind}")
        for field, kinds in BELONGS_TO.items()
        if event.kind not in kinds and getattr(event, field) is not None
    ]
    needed = NEEDS[event.kind]
    if needed and all(getattr(event, field) is None for field in needed):
        wrong.append(Wrong(needed[0], f"an event of kind {event.kind} needs {' or '.join(needed)}"))
    if event.currency is not None and event.currency != rules.currency:
        stated = rules.currency or "not stated by the source's mapping, so an event cannot name one"
        wrong.append(Wrong("currency", f"the shop's currency is {stated}"))
    wrong += too_large(event, rules, settings.largest_factor)
    return wrong or Stamped(event, time_us)


def too_large(event: Event, rules: EventRules, factor: float) -> list[Wrong]:
    """The numbers of an event that lie so far above all of the tables that their unit must be another one."""
    wrong = []
    for field, largest in rules.largest.items():
        value, most = getattr(event, field), largest * (RATING_FACTOR if field == "rating" else factor)
        if value is not None and value > most:
            wrong.append(
                Wrong(field, f"is over {most:,.10g}; the largest of the shop is {largest:,.10g}. Is its unit right?")
            )
    return wrong


def _time_of(event: Event, now_us: int, future_s: float) -> tuple[int, list[Wrong]]:
    if event.event_time is None:
        return now_us, []
    try:
        moment = datetime.fromisoformat(event.event_time)
    except ValueError:
        return 0, [Wrong("event_time", "is no ISO 8601 time, such as 2026-11-30T08:00:00Z")]
    if moment.tzinfo is None:
        return 0, [Wrong("event_time", "has no time zone; write for example 2026-11-30T08:00:00Z")]
    if moment < EARLIEST:
        return 0, [Wrong("event_time", f"is before {EARLIEST.year}; is its unit right?")]
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    time_us = (since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds
    if time_us > now_us + future_s * SECOND_US:
        now = datetime.fromtimestamp(now_us // SECOND_US, UTC)
        return 0, [Wrong("event_time", f"lies in the future: the gateway's present moment is {now:%Y-%m-%dT%H:%M:%SZ}")]
    return time_us, []
