"""The table of facts: one row for each user at one moment, and what each column means.

Beside the numbers of `FACTS` a row has `user_id`, `joined_at`, and the lists `attributes`, `baskets`, `campaigns`,
`favourites` and `looked_at`. A number that is not known is NaN.

Shapes: U users.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recommender.datasets.tables import TIME
from recommender.features.facts import diary, favourites
from recommender.features.facts.columns import aligned, lists, spread
from recommender.features.facts.prices import prices_at
from recommender.features.facts.rhythm import rhythm_at
from recommender.features.facts.risk import PATTERNS, risks_at
from recommender.features.facts.shrinkage import Floats
from recommender.features.facts.social import social_at
from recommender.features.facts.value import value_at
from recommender.features.people import SOCIAL_KINDS
from recommender.features.source import Source

CHURN_DAYS = 28
"""Four weeks hold each day of the week equally often. The forecasts of `recommender behaviour` look as far."""
VALUE_DAYS = 90
"""A season."""


@dataclass(frozen=True)
class Fact:
    """One number: its unit, what it means, from which events it comes, and when it is not known."""

    name: str
    unit: str
    meaning: str
    source: str
    missing: str


_NO_PURCHASE = "no purchase"
_SHORT = f"no purchase, or a log of under {2 * VALUE_DAYS} days"
FACTS = (
    Fact("rhythm__visits", "days", "dates with a purchase, by the shop's calendar", "purchases", _NO_PURCHASE),
    Fact("rhythm__known_days", "days", "since the first purchase", "purchases", _NO_PURCHASE),
    Fact("rhythm__recency_days", "days", "since the last purchase", "purchases", _NO_PURCHASE),
    Fact("rhythm__usual_gap_days", "days", "usual time between visits, shrunk", "purchases", _NO_PURCHASE),
    Fact("rhythm__variation", "ratio", "standard deviation of the gaps over their mean", "purchases", "under 3 gaps"),
    Fact("rhythm__overdue", "ratio", "days since the last visit over the usual gap", "purchases", _NO_PURCHASE),
    Fact(
        "rhythm__next_days", "days", "by then the next visit has come with probability 0.5", "purchases", "over a year"
    ),
    Fact("rhythm__next_low_days", "days", "the same with probability 0.1", "purchases", "over a year"),
    Fact("rhythm__next_high_days", "days", "the same with probability 0.9", "purchases", "over a year"),
    Fact(f"churn__none_{CHURN_DAYS}d", "probability", f"no purchase in {CHURN_DAYS} days", "purchases", _NO_PURCHASE),
    Fact(f"value__visits_{VALUE_DAYS}d", "visits", f"expected in {VALUE_DAYS} days", "purchases", _SHORT),
    Fact("value__a_visit", "money", "expected spend a visit, shrunk", "purchases", _NO_PURCHASE),
    Fact(f"value__spend_{VALUE_DAYS}d", "money", f"expected spend in {VALUE_DAYS} days", "purchases", _SHORT),
    Fact(f"value__spend_{VALUE_DAYS}d_low", "money", "a tenth of comparable shoppers spent less", "purchases", _SHORT),
    Fact(f"value__spend_{VALUE_DAYS}d_high", "money", "a tenth of comparable shoppers spent more", "purchases", _SHORT),
    Fact("value__percentile", "share", "of shoppers with less expected spend", "purchases", _SHORT),
    Fact("prices__level", "ratio", "shelf prices over the usual ones of the product types", "amounts", _NO_PURCHASE),
    Fact("prices__discounted_share", "share", "of lines with the shop's discount, shrunk", "discounts", _NO_PURCHASE),
    Fact(
        "prices__discount_index",
        "ratio",
        "lines on discount over those expected of these items",
        "discounts",
        _NO_PURCHASE,
    ),
    Fact("prices__coupon_share", "share", "of lines with a coupon, shrunk", "coupons", _NO_PURCHASE),
    Fact(
        "prices__elasticity",
        "slope",
        "log units on log price within an item, shrunk",
        "amounts, quantities",
        _NO_PURCHASE,
    ),
    Fact(
        "looks__events_90d",
        "events",
        "views, clicks, carts, searches, favourites and likes in 90 days",
        "looks",
        "none in the log",
    ),
    Fact("looks__recency_days", "days", "since the last of them", "looks", "none by the user"),
    *(
        Fact(f"community__{kind}s", "events", f"{kind}s before the moment", f"{kind}s", "none in the log")
        for kind in SOCIAL_KINDS
    ),
    Fact(
        "community__events", "events", "reviews, likes, comments, shares, follows", "social events", "none in the log"
    ),
    Fact("community__events_90d", "events", "of these, in 90 days", "social events", "none in the log"),
    Fact("community__recency_days", "days", "since the last of them", "social events", "none by the user"),
    Fact("community__mean_rating", "rating", "mean of the ratings given", "ratings", "no rating"),
    Fact("community__percentile", "share", "of shoppers with fewer social events", "social events", "none in the log"),
    *(
        Fact(
            f"risk__{pattern.name}{part}",
            unit,
            meaning.format(pattern.case, pattern.exposure),
            "events",
            "the source cannot show it",
        )
        for pattern in PATTERNS
        for part, unit, meaning in (
            ("", "cases", "{0}, in a year"),
            ("_of", "cases", "what they are measured against: {1}"),
            ("_chance", "probability", "a shopper drawn at random has as many"),
            ("_flag", "0 or 1", "whether a person should look at it"),
        )
    ),
)
"""Every number that a row may have. A source that cannot show one lacks its column."""


def numbers_of_shop(source: Source, moment: datetime) -> pa.Table:
    """The numbers of every user, in order of identifiers. Most compare a user with all others, so all are needed.

    Columns: `user_id`, and those of `FACTS` that the source can show. The schema says what holds for the whole shop.
    """
    user_ids = source.table("users").select("user_id").order_by("user_id").to_pyarrow()["user_id"].combine_chunks()
    numbers = numbers_at(source, moment, user_ids)
    columns = {fact.name: pa.array(numbers[fact.name]) for fact in FACTS if fact.name in numbers}
    facts = {
        "as_of": moment.isoformat(),
        "time_zone": source.tables.time_zone,
        "has_hours": str(source.tables.event_time_has_hours),
        "currency": source.tables.currency or "",
        "num_users": str(len(user_ids)),
    }
    return pa.table({"user_id": user_ids, **columns}).replace_schema_metadata(facts)


def facts_of_users(source: Source, moment: datetime, numbers: pa.Table) -> pa.Table:
    """One row for each user that `source` has, in order of identifiers, from what lies strictly before a moment.

    Columns: see the module. Users without any event have a row. `numbers`: what `numbers_of_shop` returned for the
    same moment, at least of these users.
    """
    users = source.table("users").to_pyarrow().sort_by("user_id")
    user_ids = users["user_id"].combine_chunks()
    own = numbers.take(pc.index_in(user_ids, value_set=numbers["user_id"]))
    joined = users["joined_at"] if "joined_at" in users.column_names else pa.nulls(len(users), TIME)
    columns = {
        "user_id": user_ids,
        "joined_at": joined.cast(TIME),
        **{name: own[name] for name in own.column_names if name != "user_id"},
        "attributes": lists(diary.attributes(users), user_ids, diary.ATTRIBUTES),
        "baskets": lists(diary.baskets_at(source, moment), user_ids, diary.BASKETS),
        "campaigns": lists(diary.campaigns_at(source, moment), user_ids, diary.CAMPAIGNS),
        "favourites": lists(favourites.bought_at(source, moment), user_ids, favourites.FAVOURITES),
        "looked_at": lists(favourites.looked_at(source, moment), user_ids, favourites.FAVOURITES),
    }
    return pa.table(columns).replace_schema_metadata(numbers.schema.metadata)


def numbers_at(source: Source, moment: datetime, user_ids: pa.Array) -> dict[str, Floats]:
    """The numbers of `FACTS` that the source can show, for these users, float64 [U]."""
    numbers: dict[str, Floats] = {**_purchases(source, moment, user_ids), **_prices(source, moment, user_ids)}
    looks = favourites.looks_at(source, moment)
    if looks.num_rows:
        numbers["looks__events_90d"] = aligned(looks, "looks__events_90d", user_ids, missing=0.0)
        numbers["looks__recency_days"] = aligned(looks, "looks__recency_days", user_ids)
    social = social_at(source, moment)
    if social is not None:
        for name in social.column_names[1:]:
            known = name.endswith(("recency_days", "mean_rating"))
            numbers[name] = aligned(social, name, user_ids, missing=np.nan if known else 0.0)
        numbers["community__percentile"] = _percentile(numbers["community__events"])
    numbers |= risks_at(source, moment, user_ids)
    return numbers


def _purchases(source: Source, moment: datetime, user_ids: pa.Array) -> dict[str, Floats]:
    rhythm = rhythm_at(source, moment)
    value = value_at(source, moment, rhythm, VALUE_DAYS)
    found = {
        "rhythm__visits": rhythm.dates_U,
        "rhythm__known_days": rhythm.first_days_U,
        "rhythm__recency_days": rhythm.recency_days_U,
        "rhythm__usual_gap_days": rhythm.usual_days_U,
        "rhythm__variation": rhythm.variation_U,
        "rhythm__overdue": rhythm.recency_days_U / rhythm.usual_days_U,
        "rhythm__next_days": rhythm.due_days(0.5),
        "rhythm__next_low_days": rhythm.due_days(0.1),
        "rhythm__next_high_days": rhythm.due_days(0.9),
        f"churn__none_{CHURN_DAYS}d": rhythm.none_within(CHURN_DAYS),
        f"value__visits_{VALUE_DAYS}d": value.visits_U,
        "value__a_visit": value.a_visit_U,
        f"value__spend_{VALUE_DAYS}d": value.expected_U,
        f"value__spend_{VALUE_DAYS}d_low": value.low_U,
        f"value__spend_{VALUE_DAYS}d_high": value.high_U,
        "value__percentile": _percentile(value.expected_U),
    }
    return {name: spread(rhythm.user_ids, values_U, user_ids) for name, values_U in found.items()}


def _prices(source: Source, moment: datetime, user_ids: pa.Array) -> dict[str, Floats]:
    prices = prices_at(source, moment)
    found = {
        "prices__level": prices.price_level_U,
        "prices__discounted_share": prices.discounted_share_U,
        "prices__discount_index": prices.discount_index_U,
        "prices__coupon_share": prices.coupon_share_U,
        "prices__elasticity": prices.elasticity_U,
    }
    return {
        name: spread(prices.user_ids, values_U, user_ids)
        for name, values_U in found.items()
        if not np.isnan(values_U).all()
    }


def _percentile(values_U: Floats) -> Floats:
    """Share of the known values that are smaller."""
    known = np.sort(values_U[np.isfinite(values_U)])
    share_U = np.searchsorted(known, values_U, side="left") / max(len(known), 1)
    return np.where(np.isfinite(values_U), share_U, np.nan)
